//! The end of a batch: its rows, what concerns whole tables, and the commit.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use adjutant_core::{IdMap, Result, RunId, RunState, Timestamp};
use adjutant_queue::PrunePolicy;

use crate::{
    batch::{Batch, id_args},
    record,
    slot::{Dirty, Place},
    sql::{self, Args, Texts, WIDEST, width_for},
    writes::{Flush, Joined, Rows},
};

/// The class of ready runs in `counts`, after the run states.
pub(crate) const READY_CLASS: i64 = 10;
/// The class of runs that their concurrency key holds back.
pub(crate) const BLOCKED_CLASS: i64 = 11;

/// The most runs that one prune forgets, so that others need not wait for long.
const PRUNE_LIMIT: usize = 1000;

static PRUNABLE: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from(
        "select r.id, r.state from runs as r left join runs as p on p.id = r.parent \
         where r.state between 5 and 8 and r.finished_at < ? \
         and (r.parent is null or p.id is null or p.state between 5 and 8) \
         order by r.finished_at, r.id limit ?",
    )
});
static NEXT_DUE: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from("select due_at from runs where due_at is not null order by due_at limit 1")
});

/// Everything that belongs to runs, the runs themselves last.
static FORGET: LazyLock<[[Arc<str>; sql::WIDTHS.len()]; 8]> = LazyLock::new(|| {
    [
        ("events", "run"),
        ("steps", "run"),
        ("checkpoints", "run"),
        ("signals", "run"),
        ("fanouts", "run"),
        ("payloads", "run"),
        ("outcomes", "run"),
        ("runs", "id"),
    ]
    .map(|(table, key)| sql::list(&format!("delete from {table} where {key} in ("), ")"))
});
static COUNTS: Texts = LazyLock::new(|| {
    sql::rows(
        "update counts set runs = runs + v.column2 from (values ",
        2,
        ") as v where class = v.column1",
    )
});

/// What a batch has done, for those who wait.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Runs that are settled now.
    pub settled: Vec<RunId>,
    /// Runs with new events, or that are gone.
    pub changed: Vec<RunId>,
    /// The earliest new time at which something is due.
    pub due: Option<Timestamp>,
}

impl Batch<'_> {
    /// Writes all changes, and commits them if nothing else is to be done.
    pub(crate) async fn flush(&mut self, joined: &mut Joined, commit: bool) -> Result<()> {
        let mut rows = Rows::default();
        let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
        for slot in self.slots.values() {
            match (slot.dirty, slot.stored) {
                (_, None) => rows.new_runs.push(&slot.record),
                (Dirty::Clean, _) => continue,
                (Dirty::Counts, _) => rows.counted_runs.push(&slot.record),
                (Dirty::Whole, _) => rows.changed_runs.push(&slot.record),
            }
            if let Some(stored) = slot.stored {
                count(&mut counts, stored.place, -1);
            }
            count(&mut counts, Place::of(&slot.record), 1);
        }
        rows.counts = counts
            .into_iter()
            .filter(|(_, change)| *change != 0)
            .collect();
        // In the order of the keys, so that neighbours are written together.
        rows.new_runs.sort_unstable_by_key(|record| record.id);
        rows.changed_runs.sort_unstable_by_key(|record| record.id);
        rows.counted_runs.sort_unstable_by_key(|record| record.id);
        for (run, steps) in &self.steps {
            let written = steps
                .values()
                .filter_map(|step| Some((step.ordinal, step.record.as_ref()?)));
            rows.steps
                .extend(written.map(|(ordinal, step)| (*run, ordinal, step)));
        }
        for ((run, key), fanout) in &self.fanouts {
            if fanout.dirty {
                rows.fanouts.push((*run, key, fanout.group));
            }
        }
        let mut flush = Flush::default();
        flush.add(&rows, &self.added);
        if commit {
            flush.commit();
        }
        flush.write(self.db, joined).await
    }

    /// Forgets events.
    pub(crate) async fn trim(&mut self, run: RunId, upto: u64) -> Result<()> {
        static TRIM: LazyLock<Arc<str>> =
            LazyLock::new(|| Arc::from("delete from events where run = ? and seq <= ?"));
        let mut args = Args::default();
        args.blob(run.as_bytes());
        args.int(i64::try_from(upto).unwrap_or(i64::MAX));
        self.db.run(Arc::clone(&TRIM), args).await
    }

    /// Forgets journals and checkpoints.
    pub(crate) async fn forget_history(&mut self, runs: &[RunId]) -> Result<()> {
        for chunk in runs.chunks(WIDEST) {
            let width = width_for(chunk.len());
            for table in &FORGET[1..3] {
                self.db
                    .run(Arc::clone(&table[width]), id_args(chunk, width))
                    .await?;
            }
        }
        Ok(())
    }

    /// Forgets finished runs and says which.
    pub(crate) async fn prune(&mut self, policy: &PrunePolicy) -> Result<Vec<RunId>> {
        let mut args = Args::default();
        args.int(policy.finished_before.as_micros());
        args.int(i64::try_from(policy.limit.min(PRUNE_LIMIT)).unwrap_or(i64::MAX));
        let rows = self.db.rows(Arc::clone(&PRUNABLE), args).await?;
        let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
        let mut runs = Vec::with_capacity(rows.len());
        for row in rows {
            runs.push(record::run_id(&row, 0, self.db.path())?);
            *counts
                .entry(record::get(&row, 1, self.db.path())?)
                .or_default() -= 1;
        }
        for chunk in runs.chunks(WIDEST) {
            let width = width_for(chunk.len());
            for table in FORGET.iter() {
                self.db
                    .run(Arc::clone(&table[width]), id_args(chunk, width))
                    .await?;
            }
        }
        for (class, change) in counts {
            let mut args = Args::default();
            args.int(class);
            args.int(change);
            self.db.run(Arc::clone(&COUNTS[0]), args).await?;
        }
        for run in &runs {
            self.slots.remove(run);
        }
        Ok(runs)
    }

    /// When something is due next, after everything is written.
    pub(crate) async fn next_due(&mut self) -> Result<Option<Timestamp>> {
        let rows = self.db.rows(Arc::clone(&NEXT_DUE), Args::default()).await?;
        let due = rows
            .first()
            .map(|row| record::get(row, 0, self.db.path()))
            .transpose()?;
        Ok(due.map(Timestamp::from_micros))
    }

    /// Commits what was not committed with the changes.
    pub(crate) async fn commit_rest(&mut self) -> Result<()> {
        static COMMIT: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("commit"));
        self.db.run(Arc::clone(&COMMIT), Args::default()).await
    }

    /// After the commit: keeps the records that are likely to be needed again.
    pub(crate) fn seal(self, pruned: Vec<RunId>) -> Outcome {
        let mut outcome = Outcome {
            settled: self.settled,
            changed: self.added.events.iter().map(|(run, ..)| *run).collect(),
            due: None,
        };
        outcome.changed.dedup();
        outcome.changed.extend(pruned);
        for (_, mut slot) in self.slots {
            let place = Place::of(&slot.record);
            let is_new = slot
                .stored
                .is_none_or(|stored| stored.place.due != place.due);
            if let Some(due) = place.due.filter(|_| is_new) {
                outcome.due = Some(outcome.due.map_or(due, |earlier| earlier.min(due)));
            }
            slot.written();
            self.cache.keep(slot);
        }
        outcome
    }
}

fn count(counts: &mut BTreeMap<i64, i64>, place: Place, by: i64) {
    *counts.entry(place.state.code().into()).or_default() += by;
    if place.ready {
        *counts.entry(READY_CLASS).or_default() += by;
    }
    if place.blocked {
        *counts.entry(BLOCKED_CLASS).or_default() += by;
    }
}

/// The state with this class in `counts`, if it is one.
pub(crate) fn state_of(class: i64) -> Option<RunState> {
    u8::try_from(class).ok().and_then(RunState::from_code)
}

/// Runs that are to be forgotten, each once.
pub(crate) fn distinct(runs: impl Iterator<Item = RunId>) -> Vec<RunId> {
    let set: IdMap<RunId, ()> = runs.map(|run| (run, ())).collect();
    set.into_keys().collect()
}
