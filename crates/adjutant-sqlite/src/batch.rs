//! One group of requests over the records that they concern: loaded as needed, changed in memory, and
//! written together at the end. A request that fails is undone as if it had not been.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock},
};

use adjutant_core::{Error, IdMap, IdSet, Result, RunId, RunState, StepRecord, Timestamp};
use adjutant_queue::{Group, RunRecord, Signal};
use sqlx::Row;

use crate::{
    db::Db,
    effects::Todo,
    record,
    slot::{Cache, Dirty, Place, Slot},
    sql::{self, Args, Texts, WIDEST, WIDTHS, width_for},
    undo::Undo,
    writes::Added,
};

static RUNS: Texts = LazyLock::new(|| sql::find(&record::columns_of("t"), "runs", "id", ""));
static BEGIN_RUNS: Texts = LazyLock::new(|| {
    RUNS.each_ref()
        .map(|find| Arc::from(format!("{}; {find}", *BEGIN)))
});
static BEGIN: LazyLock<Arc<str>> =
    LazyLock::new(|| Arc::from("begin immediate; pragma data_version"));

/// A step as far as a batch has to know it.
#[derive(Debug, Clone)]
pub(crate) struct StepSlot {
    pub ordinal: u64,
    pub is_final: bool,
    /// What to write, if anything.
    pub record: Option<StepRecord>,
}

/// A fan-out and whether it has changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fanout {
    pub group: Group,
    pub dirty: bool,
}

/// What is the same for all batches of a store.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub checkpoints_kept: u64,
}

pub(crate) struct Batch<'w> {
    pub db: &'w mut Db,
    pub cache: &'w mut Cache,
    pub rules: Rules,
    pub now: Timestamp,
    pub slots: IdMap<RunId, Box<Slot>>,
    pub absent: IdSet<RunId>,
    /// Runs whose record is damaged.
    pub unreadable: IdSet<RunId>,
    /// Idempotency keys that were looked up or given away.
    pub keys: HashMap<String, Option<RunId>>,
    pub steps: IdMap<RunId, HashMap<String, StepSlot>>,
    pub fanouts: HashMap<(RunId, Arc<str>), Fanout>,
    /// Children that are new, by parent, in the order in which they came.
    pub spawned: IdMap<RunId, Vec<RunId>>,
    pub added: Added,
    pub todo: Vec<Todo>,
    /// Ready records among the slots, by rank.
    pub ready: BTreeSet<(i64, RunId)>,
    /// Records among the slots that are held back, by concurrency key and rank.
    pub blocked: HashMap<Arc<str>, BTreeSet<(i64, RunId)>>,
    /// By how much the slots differ from the file in running runs of a concurrency key.
    pub running: HashMap<Arc<str>, i64>,
    /// The running runs of a concurrency key in the file.
    pub running_stored: HashMap<Arc<str>, i64>,
    /// Runs that are settled now.
    pub settled: Vec<RunId>,
    pub request: u64,
    pub undo_log: Vec<Undo>,
}

/// Whether the file has been changed by others since the last batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    pub version: i64,
    pub foreign: bool,
}

impl<'w> Batch<'w> {
    /// Begins a transaction and loads the records of `ids`.
    pub(crate) async fn begin(
        db: &'w mut Db,
        cache: &'w mut Cache,
        rules: Rules,
        now: Timestamp,
        ids: &[RunId],
        version: i64,
    ) -> Result<(Self, Opened)> {
        let mut unknown: Vec<RunId> = ids
            .iter()
            .copied()
            .filter(|id| !cache.contains(*id))
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown.truncate(WIDEST);
        let (text, args) = if unknown.is_empty() {
            (Arc::clone(&BEGIN), Args::default())
        } else {
            let width = width_for(unknown.len());
            (Arc::clone(&BEGIN_RUNS[width]), id_args(&unknown, width))
        };
        let mut rows = db.rows(text, args).await?.into_iter();
        let first = rows.next();
        let found = match &first {
            Some(row) => record::get(row, 0, db.path())?,
            None => version,
        };
        let opened = Opened {
            version: found,
            foreign: found != version,
        };
        if opened.foreign {
            cache.clear();
        }
        let mut batch = Self {
            db,
            cache,
            rules,
            now,
            slots: IdMap::default(),
            absent: IdSet::default(),
            unreadable: IdSet::default(),
            keys: HashMap::new(),
            steps: IdMap::default(),
            fanouts: HashMap::new(),
            spawned: IdMap::default(),
            added: Added::default(),
            todo: Vec::new(),
            ready: BTreeSet::new(),
            blocked: HashMap::new(),
            running: HashMap::new(),
            running_stored: HashMap::new(),
            settled: Vec::new(),
            request: 0,
            undo_log: Vec::new(),
        };
        batch.absent.extend(unknown);
        batch.take_in(rows.collect());
        batch.load(ids).await?;
        Ok((batch, opened))
    }

    /// Makes slots of rows. A row that cannot be read stays out: whoever needs it will be told.
    fn take_in(&mut self, rows: Vec<sqlx::sqlite::SqliteRow>) {
        for row in rows {
            if row.len() == 1 {
                continue;
            }
            let read = record::run(&row, self.db.path());
            match (read, record::run_id(&row, 0, self.db.path())) {
                (Ok(record), _) => {
                    self.absent.remove(&record.id);
                    self.put(Box::new(Slot::stored(record)));
                }
                (Err(error), Ok(id)) => {
                    tracing::error!(run_id = %id, %error, "a run's record cannot be read");
                    self.absent.remove(&id);
                    self.unreadable.insert(id);
                }
                (Err(error), Err(_)) => tracing::error!(%error, "a run's record cannot be read"),
            }
        }
    }

    fn put(&mut self, slot: Box<Slot>) {
        let place = Place::of(&slot.record);
        self.moved(&slot.record, None, Some(place));
        self.slots.insert(slot.record.id, slot);
    }

    /// Loads records, from memory where it has them.
    pub(crate) async fn load(&mut self, ids: &[RunId]) -> Result<()> {
        let mut unknown = Vec::new();
        for id in ids {
            if self.slots.contains_key(id) || self.absent.contains(id) {
                continue;
            }
            match self.cache.take(*id) {
                Some(slot) => self.put(slot),
                None => unknown.push(*id),
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        for chunk in unknown.chunks(WIDEST) {
            let width = width_for(chunk.len());
            let rows = self
                .db
                .rows(Arc::clone(&RUNS[width]), id_args(chunk, width))
                .await?;
            self.absent.extend(chunk);
            self.take_in(rows);
        }
        Ok(())
    }

    /// Whether the run exists.
    pub(crate) async fn exists(&mut self, run: RunId) -> Result<bool> {
        if !self.slots.contains_key(&run) {
            self.load(&[run]).await?;
        }
        if self.slots.contains_key(&run) {
            return Ok(true);
        }
        if self.absent.contains(&run) {
            return Ok(false);
        }
        Err(crate::error::corrupt(
            self.db.path(),
            format!("the record of {run} cannot be read"),
        ))
    }

    /// The record of a run that was loaded.
    pub(crate) fn record(&self, run: RunId) -> Result<&RunRecord> {
        let slot = self.slots.get(&run).ok_or(Error::RunNotFound(run))?;
        Ok(&slot.record)
    }

    /// A slot to change; its present shape is kept until the request is through.
    pub(crate) fn touch(&mut self, run: RunId, dirty: Dirty) -> Result<&mut Slot> {
        let slot = self.slots.get_mut(&run).ok_or(Error::RunNotFound(run))?;
        if slot.touched != self.request {
            self.undo_log.push(Undo::Slot(run, Some(slot.clone())));
            slot.touched = self.request;
        }
        slot.spoil(dirty);
        Ok(slot)
    }

    /// Puts in a run that is new.
    pub(crate) fn create(&mut self, mut slot: Box<Slot>) {
        let run = slot.record.id;
        slot.touched = self.request;
        self.undo_log.push(Undo::Slot(run, None));
        self.absent.remove(&run);
        if let Some(parent) = &slot.record.parent {
            self.spawned.entry(parent.run).or_default().push(run);
            self.undo_log.push(Undo::Child(parent.run));
        }
        if let Some(key) = &slot.record.idempotency_key {
            self.keys.insert(key.clone(), Some(run));
            self.undo_log.push(Undo::Key(key.clone()));
        }
        self.slots.insert(run, slot);
    }

    pub(crate) fn set_step(&mut self, run: RunId, step: StepSlot, key: String) {
        let old = self.steps.entry(run).or_default().insert(key.clone(), step);
        self.undo_log.push(Undo::Step(run, key, old));
    }

    pub(crate) fn set_fanout(&mut self, run: RunId, key: &Arc<str>, group: Group) {
        let fanout = Fanout { group, dirty: true };
        let old = self.fanouts.insert((run, Arc::clone(key)), fanout);
        self.undo_log.push(Undo::Fanout(run, Arc::clone(key), old));
    }

    /// Follows a record from one place to another; `None` is outside the slots.
    pub(crate) fn moved(
        &mut self,
        record: &RunRecord,
        before: Option<Place>,
        after: Option<Place>,
    ) {
        if before == after {
            return;
        }
        let id = record.id;
        if let Some(place) = before.filter(|place| place.ready) {
            self.ready.remove(&(place.rank, id));
        }
        if let Some(place) = after.filter(|place| place.ready) {
            self.ready.insert((place.rank, id));
        }
        let Some(concurrency) = &record.concurrency else {
            return;
        };
        if let Some(place) = before.filter(|place| place.blocked)
            && let Some(line) = self.blocked.get_mut(&concurrency.key)
        {
            line.remove(&(place.rank, id));
        }
        if let Some(place) = after.filter(|place| place.blocked) {
            let line = self
                .blocked
                .entry(Arc::clone(&concurrency.key))
                .or_default();
            line.insert((place.rank, id));
        }
        if let (Some(before), Some(after)) = (before, after) {
            let runs = |place: Place| i64::from(place.state == RunState::Running);
            let change = runs(after) - runs(before);
            if change != 0 {
                *self
                    .running
                    .entry(Arc::clone(&concurrency.key))
                    .or_default() += change;
            }
        }
    }

    /// The failure of a statement, which ends the batch.
    pub(crate) fn failure(&mut self) -> Result<()> {
        self.db.take_failure().map_or(Ok(()), Err)
    }

    /// The signals that no wait has taken yet.
    pub(crate) async fn mailbox(&mut self, run: RunId) -> Result<Vec<Signal>> {
        let stored = self.slots.get(&run).and_then(|slot| slot.stored);
        let mut signals = Vec::new();
        if stored.is_some_and(|stored| stored.unread > 0) {
            signals = crate::reads::signals(self.db, &[run])
                .await?
                .remove(&run)
                .unwrap_or_default();
        }
        let added = self.added.signals.iter().filter(|(to, _)| *to == run);
        signals.extend(added.map(|(_, signal)| signal.clone()));
        signals.retain(|signal| !self.added.taken.contains(&(run, signal.id)));
        Ok(signals)
    }
}

/// Ids to bind, with nulls up to the width.
pub(crate) fn id_args(ids: &[RunId], width: usize) -> Args {
    let mut args = Args::default();
    for id in ids {
        args.blob(id.as_bytes());
    }
    args.nulls(WIDTHS[width] - ids.len());
    args
}
