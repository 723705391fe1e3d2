//! The writing connection, as the shared writer uses it.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use adjutant_budget::{
    Account, ReservationKey,
    engine::{AccountRow, Changes as LedgerChanges, ReservationRow},
};
use adjutant_core::{AgentKey, Result, RunId, Timestamp};
use adjutant_engine::{Begun, Changes, Failure, Loaded, Ready, Storage, StoredStep};
use adjutant_queue::{Group, Payload, PrunePolicy, Signal};
use adjutant_state::History;
use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    SqliteConfig,
    db::Db,
    error::corrupt,
    ledger, reads,
    record::{self, PAYLOAD_COLUMN, RANK_COLUMN},
    sql::{self, Args, Texts, WIDEST, WIDTHS, id_args, width_for},
    writes::{Flush, Joined},
};

/// The most runs that one prune forgets, so that others need not wait for long.
const PRUNE_LIMIT: usize = 1000;

static BEGIN: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from("begin immediate; pragma data_version; select runs from counts where class = -1")
});
static BEGIN_RUNS: Texts = LazyLock::new(|| {
    RUNS.each_ref()
        .map(|find| Arc::from(format!("{}; {find}", *BEGIN)))
});
static RUNS: Texts = LazyLock::new(|| sql::find(&record::columns_of("t"), "runs", "id", ""));
static KEYS: Texts =
    LazyLock::new(|| sql::find("t.key, t.id", "runs", "key", " and t.key is not null"));
static STEPS: Texts = LazyLock::new(|| {
    sql::rows(
        "select s.run, s.key, s.ordinal, s.state from (values ",
        2,
        ") as v cross join steps as s on s.run = v.column1 and s.key = v.column2",
    )
});
static FANOUT: LazyLock<Arc<str>> =
    LazyLock::new(|| Arc::from("select open, failed from fanouts where run = ? and key = ?"));
static CHILDREN: LazyLock<Arc<str>> =
    LazyLock::new(|| Arc::from("select id, fanout from runs where parent = ? order by id"));
// Whole records with what they were given, so that a claim need not look again.
static READY_OF_ONE: LazyLock<Arc<str>> = LazyLock::new(|| {
    ready_text(
        "runs as r",
        "r.line = 1 and r.agent = ?1 order by r.rank, r.id limit ?2",
    )
});
static READY_OF_SOME: LazyLock<Arc<str>> = LazyLock::new(|| {
    ready_text(
        "json_each(?1) as a cross join runs as r on r.id in \
         (select id from runs where line = 1 and agent = a.value order by rank, id limit ?2)",
        "true order by r.rank, r.id limit ?2",
    )
});
// From one agent with ready runs to the next, without looking at the runs between.
static READY_OF_ALL: LazyLock<Arc<str>> = LazyLock::new(|| {
    let select = ready_text(
        "agents as a cross join runs as r on r.id in \
         (select id from runs where line = 1 and agent = a.agent order by rank, id limit ?1)",
        "a.agent is not null order by r.rank, r.id limit ?1",
    );
    Arc::from(format!(
        "with recursive agents (agent) as ( \
           select * from (select agent from runs where line = 1 order by agent limit 1) \
           union all \
           select (select agent from runs where line = 1 and agent > agents.agent \
                   order by agent limit 1) from agents where agents.agent is not null) {select}"
    ))
});
static BLOCKED: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from("select id, rank from runs where line = 2 and slot = ? order by rank, id limit ?")
});
static RUNNING: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from("select count(*) from runs where slot = ? and slot is not null and state = 1")
});
static DUE: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from("select id, due_at from runs where due_at <= ? order by due_at, id limit ?")
});
static NEXT_DUE: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from("select due_at from runs where due_at is not null order by due_at limit 1")
});
static TRIM: LazyLock<Arc<str>> =
    LazyLock::new(|| Arc::from("delete from events where run = ? and seq <= ?"));
static COMMIT: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("commit"));
static PRUNABLE: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from(
        "select r.id, r.state from runs as r left join runs as p on p.id = r.parent \
         where r.state between 5 and 8 and r.finished_at < ? \
         and (r.parent is null or p.id is null or p.state between 5 and 8) \
         order by r.finished_at, r.id limit ?",
    )
});
static COUNT: LazyLock<Arc<str>> =
    LazyLock::new(|| Arc::from("update counts set runs = runs + ?2 where class = ?1"));

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

/// The places of a run's history in [`FORGET`].
const HISTORY: std::ops::Range<usize> = 1..3;

pub(crate) struct SqliteStorage {
    pub db: Db,
    pub config: SqliteConfig,
    pub joined: Joined,
    /// The file's version after our last transaction; others' changes make it another one.
    pub version: i64,
    /// How many transactions have changed the file's runs, as far as we know.
    pub generation: i64,
    pub opened: Opened,
}

/// A version that no file has: look before anything is decided.
pub(crate) const UNKNOWN: i64 = -1;

/// How far a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    /// There is none.
    No,
    /// Nothing had to be read yet. If that stays so, begin, changes and commit are one call.
    Later,
    Yes,
}

impl SqliteStorage {
    /// Begins the transaction if it was put off. Tells whether others have written since the last one.
    async fn open(&mut self, text: &Arc<str>, args: Args) -> Result<(Vec<SqliteRow>, bool)> {
        self.opened = Opened::Yes;
        let mut rows = self.db.rows(Arc::clone(text), args).await?;
        let path = self.db.path();
        let (version, generation) = match rows.as_slice() {
            [version, generation, ..] => (
                record::get(version, 0, path)?,
                record::get(generation, 0, path)?,
            ),
            _ => return Err(corrupt(path, "it does not count its transactions")),
        };
        let stale = version != self.version || generation != self.generation;
        (self.version, self.generation) = (version, generation);
        rows.drain(..2);
        Ok((rows, stale))
    }

    /// Reads within the transaction.
    async fn rows(&mut self, text: &Arc<str>, args: Args) -> Result<Vec<SqliteRow>> {
        self.begun().await?;
        self.db.rows(Arc::clone(text), args).await
    }

    /// Makes sure that the transaction has begun.
    async fn begun(&mut self) -> Result<()> {
        if self.opened == Opened::Later {
            let (_, stale) = self.open(&BEGIN, Args::default()).await?;
            if stale {
                // What was decided so far rests on what is no longer so.
                return Err(self.db.conflict());
            }
        }
        Ok(())
    }

    /// Nothing was read, nothing is to be written: what was answered rests on what we knew. Others may have changed
    /// that.
    async fn still_so(&mut self) -> Result<()> {
        if self.db.version().await? == self.version {
            return Ok(());
        }
        Err(self.db.conflict())
    }

    async fn ids(&mut self, text: &Arc<str>, args: Args) -> Result<Vec<(i64, RunId)>> {
        let rows = self.rows(text, args).await?;
        let path = self.db.path();
        rows.iter()
            .map(|row| Ok((record::get(row, 1, path)?, record::run_id(row, 0, path)?)))
            .collect()
    }

    /// A row that cannot be read is told of in the log.
    fn loaded(&self, row: &SqliteRow) -> Option<Loaded> {
        let read = record::run(row, self.db.path());
        match (read, record::run_id(row, 0, self.db.path())) {
            (Ok(record), _) => {
                let given = (row.len() > PAYLOAD_COLUMN)
                    .then(|| record::payload(row, PAYLOAD_COLUMN, self.db.path()).ok());
                Some(Loaded::Run(Box::new(record), given.flatten()))
            }
            (Err(error), Ok(id)) => {
                tracing::error!(run_id = %id, %error, "a run's record cannot be read");
                Some(Loaded::Unreadable(id))
            }
            (Err(error), Err(_)) => {
                tracing::error!(%error, "a run's record cannot be read");
                None
            }
        }
    }

    /// Deletes what belongs to these runs from some of the tables.
    async fn forget(&mut self, runs: &[RunId], tables: std::ops::Range<usize>) -> Result<()> {
        for chunk in runs.chunks(WIDEST) {
            let width = width_for(chunk.len());
            for table in &FORGET[tables.clone()] {
                self.db
                    .run(Arc::clone(&table[width]), id_args(chunk, width))
                    .await?;
            }
        }
        Ok(())
    }
}

/// Selects ready runs, their columns first and then what they were given.
fn ready_text(from: &str, filter: &str) -> Arc<str> {
    Arc::from(format!(
        "select {}, p.input, p.metadata from {from} left join payloads as p on p.run = r.id where {filter}",
        record::columns_of("r")
    ))
}

fn limit_arg(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl Storage for SqliteStorage {
    const KEEPS_RECORDS: bool = true;
    /// Another process may have written between two transactions of ours.
    const MAY_CONFLICT: bool = true;
    /// SQLite tells nobody by itself; asking costs two thread hops and reads no page.
    const LOOK_AROUND: Duration = Duration::from_millis(20);

    async fn begin(&mut self, runs: &[RunId]) -> Result<Begun> {
        let mut begun = Begun {
            now: self.config.clock.now(),
            runs: Vec::new(),
            stale: false,
        };
        self.opened = Opened::Later;
        let (now, rest) = runs.split_at(runs.len().min(WIDEST));
        if !now.is_empty() || self.version == UNKNOWN {
            let (text, args) = if now.is_empty() {
                (&*BEGIN, Args::default())
            } else {
                let width = width_for(now.len());
                (&BEGIN_RUNS[width], id_args(now, width))
            };
            let (rows, stale) = self.open(text, args).await?;
            begun.stale = stale;
            begun
                .runs
                .extend(rows.iter().filter_map(|row| self.loaded(row)));
            begun.runs.extend(self.runs(rest).await?);
        }
        Ok(begun)
    }

    async fn runs(&mut self, runs: &[RunId]) -> Result<Vec<Loaded>> {
        let mut found = Vec::with_capacity(runs.len());
        for chunk in runs.chunks(WIDEST) {
            let width = width_for(chunk.len());
            let args = id_args(chunk, width);
            let rows = self.rows(&RUNS[width], args).await?;
            found.extend(rows.iter().filter_map(|row| self.loaded(row)));
        }
        Ok(found)
    }

    async fn keys(&mut self, keys: &[&str]) -> Result<Vec<(String, RunId)>> {
        let mut found = Vec::new();
        for chunk in keys.chunks(WIDEST) {
            let width = width_for(chunk.len());
            let mut args = Args::default();
            chunk.iter().for_each(|key| args.text(key));
            args.nulls(WIDTHS[width] - chunk.len());
            let rows = self.rows(&KEYS[width], args).await?;
            let path = self.db.path();
            for row in rows {
                found.push((record::get(&row, 0, path)?, record::run_id(&row, 1, path)?));
            }
        }
        Ok(found)
    }

    async fn steps(&mut self, steps: &[(RunId, &str)]) -> Result<Vec<StoredStep>> {
        let mut found = Vec::new();
        for chunk in steps.chunks(WIDEST) {
            let width = width_for(chunk.len());
            let mut args = Args::default();
            for (run, key) in chunk {
                args.blob(run.as_bytes());
                args.text(key);
            }
            args.nulls((WIDTHS[width] - chunk.len()) * 2);
            let rows = self.rows(&STEPS[width], args).await?;
            let path = self.db.path();
            for row in rows {
                found.push(StoredStep {
                    run: record::run_id(&row, 0, path)?,
                    key: record::get(&row, 1, path)?,
                    ordinal: record::count(&row, 2, path)?,
                    is_final: record::get::<i64>(&row, 3, path)? != 0,
                });
            }
        }
        Ok(found)
    }

    async fn ready(
        &mut self,
        agents: &[AgentKey],
        limit: usize,
        known: &[RunId],
    ) -> Result<Vec<Ready>> {
        let mut args = Args::default();
        let text = match agents {
            [] => &READY_OF_ALL,
            [agent] => {
                args.text(agent.as_str());
                &READY_OF_ONE
            }
            agents => {
                // Names always have a JSON form.
                args.text(&serde_json::to_string(agents).unwrap_or_default());
                &READY_OF_SOME
            }
        };
        args.int(limit_arg(limit + known.len()));
        let rows = self.rows(text, args).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let run = record::run_id(&row, 0, self.db.path())?;
            if found.len() < limit && !known.contains(&run) {
                found.push(Ready {
                    rank: record::get(&row, RANK_COLUMN, self.db.path())?,
                    run,
                    loaded: self.loaded(&row),
                });
            }
        }
        Ok(found)
    }

    async fn blocked(&mut self, key: &str, known: &[RunId]) -> Result<Option<(i64, RunId)>> {
        let mut args = Args::default();
        args.text(key);
        args.int(limit_arg(known.len() + 1));
        let found = self.ids(&BLOCKED, args).await?;
        Ok(found.into_iter().find(|(_, run)| !known.contains(run)))
    }

    async fn running(&mut self, key: &str) -> Result<i64> {
        let mut args = Args::default();
        args.text(key);
        let rows = self.rows(&RUNNING, args).await?;
        rows.first()
            .map_or(Ok(0), |row| record::get(row, 0, self.db.path()))
    }

    async fn due(
        &mut self,
        now: Timestamp,
        limit: usize,
        known: &[RunId],
    ) -> Result<Vec<(Timestamp, RunId)>> {
        let mut args = Args::default();
        args.int(now.as_micros());
        args.int(limit_arg(limit + known.len()));
        let found = self.ids(&DUE, args).await?;
        let unknown = found.into_iter().filter(|(_, run)| !known.contains(run));
        Ok(unknown
            .map(|(at, run)| (Timestamp::from_micros(at), run))
            .collect())
    }

    async fn next_due(&mut self) -> Result<Option<Timestamp>> {
        let rows = self.rows(&NEXT_DUE, Args::default()).await?;
        let due = rows
            .first()
            .map(|row| record::get(row, 0, self.db.path()))
            .transpose()?;
        Ok(due.map(Timestamp::from_micros))
    }

    async fn children(&mut self, parent: RunId) -> Result<Vec<(RunId, Arc<str>)>> {
        let mut args = Args::default();
        args.blob(parent.as_bytes());
        let rows = self.rows(&CHILDREN, args).await?;
        let path = self.db.path();
        rows.iter()
            .map(|row| {
                let fanout: &str = record::get(row, 1, path)?;
                Ok((record::run_id(row, 0, path)?, Arc::from(fanout)))
            })
            .collect()
    }

    async fn fanout(&mut self, run: RunId, key: &str) -> Result<Option<Group>> {
        let mut args = Args::default();
        args.blob(run.as_bytes());
        args.text(key);
        let rows = self.rows(&FANOUT, args).await?;
        let path = self.db.path();
        let group = rows.first().map(|row| {
            Ok(Group {
                open: record::count(row, 0, path)?,
                failed: record::count(row, 1, path)?,
            })
        });
        group.transpose()
    }

    async fn signals(&mut self, runs: &[RunId]) -> Result<Vec<(RunId, Signal)>> {
        self.begun().await?;
        reads::signals(&mut self.db, runs).await
    }

    async fn payloads(&mut self, runs: &[RunId]) -> Result<Vec<(RunId, Payload)>> {
        self.begun().await?;
        reads::payloads(&mut self.db, runs).await
    }

    async fn history(&mut self, run: RunId) -> Result<History> {
        self.begun().await?;
        reads::history(&mut self.db, run).await
    }

    async fn write(&mut self, changes: &Changes<'_>, commit: bool) -> Result<()> {
        if changes.is_empty() {
            return match (commit, self.opened) {
                (true, Opened::Later) => self.still_so().await,
                (true, _) => self.commit().await,
                (false, _) => self.begun().await,
            };
        }
        let mut flush = Flush::default();
        flush.add(changes, self.generation);
        if self.opened == Opened::Later && commit && flush.is_joined() {
            flush.begin();
        } else {
            self.begun().await?;
        }
        if commit {
            flush.commit();
        }
        flush.write(&mut self.db, &mut self.joined).await?;
        self.generation += 1;
        Ok(())
    }

    async fn trim(&mut self, run: RunId, upto: u64) -> Result<()> {
        let mut args = Args::default();
        args.blob(run.as_bytes());
        args.int(i64::try_from(upto).unwrap_or(i64::MAX));
        self.db.run(Arc::clone(&TRIM), args).await
    }

    async fn forget_history(&mut self, runs: &[RunId]) -> Result<()> {
        self.forget(runs, HISTORY).await
    }

    async fn prune(&mut self, policy: &PrunePolicy) -> Result<Vec<RunId>> {
        let mut args = Args::default();
        args.int(policy.finished_before.as_micros());
        args.int(limit_arg(policy.limit.min(PRUNE_LIMIT)));
        let rows = self.rows(&PRUNABLE, args).await?;
        let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
        let mut runs = Vec::with_capacity(rows.len());
        for row in rows {
            runs.push(record::run_id(&row, 0, self.db.path())?);
            let class = record::get(&row, 1, self.db.path())?;
            *counts.entry(class).or_default() -= 1;
        }
        self.forget(&runs, 0..FORGET.len()).await?;
        for (class, change) in counts {
            let mut args = Args::default();
            args.int(class);
            args.int(change);
            self.db.run(Arc::clone(&COUNT), args).await?;
        }
        Ok(runs)
    }

    async fn reservations(&mut self, keys: &[&ReservationKey]) -> Result<Vec<ReservationRow>> {
        self.begun().await?;
        ledger::reservations(&mut self.db, keys).await
    }

    async fn accounts(&mut self, names: &[&Account]) -> Result<Vec<AccountRow>> {
        self.begun().await?;
        ledger::accounts(&mut self.db, names).await
    }

    async fn old_reservations(
        &mut self,
        before: Timestamp,
        limit: usize,
    ) -> Result<(Vec<ReservationRow>, Vec<AccountRow>)> {
        self.begun().await?;
        ledger::old(&mut self.db, before, limit).await
    }

    async fn write_ledger(&mut self, changes: &LedgerChanges<'_>, commit: bool) -> Result<()> {
        self.begun().await?;
        ledger::write(&mut self.db, changes).await?;
        match commit {
            true => self.commit().await,
            false => Ok(()),
        }
    }

    async fn commit(&mut self) -> Result<()> {
        self.begun().await?;
        self.db.run(Arc::clone(&COMMIT), Args::default()).await
    }

    async fn roll_back(&mut self) {
        // There may be no transaction to end, and the failure that matters is known.
        let _none = self.db.run_once("rollback").await;
        if self.db.version().await.is_err() {
            // The connection itself is lost. If there is no other, the next group says why.
            if let Ok(mut db) = Db::writer(&self.config).await {
                db.counters = Arc::clone(&self.db.counters);
                self.db = db;
            }
        }
        self.db.forget_failure();
        // Whatever was decided on what we knew was wrong: look again.
        self.version = UNKNOWN;
    }

    fn failure(&self) -> Option<&Failure> {
        self.db.failure()
    }

    async fn is_stale(&mut self) -> bool {
        let version = self.db.version().await;
        // A connection that cannot tell is found out by the next transaction.
        self.db.forget_failure();
        let stale = version.map_or(true, |version| version != self.version);
        if stale {
            self.version = UNKNOWN;
        }
        stale
    }

    async fn close(mut self) {
        // Nothing is lost if this fails: the next one to open the file reads the log.
        let _checkpointed = self.db.run_once("pragma wal_checkpoint(truncate)").await;
        self.db.close().await;
    }
}
