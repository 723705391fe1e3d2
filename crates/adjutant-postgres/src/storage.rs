//! The writing connection, as the shared writer uses it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use adjutant_core::{AgentKey, Clock, Result, RunId, RunState, SystemClock, Timestamp};
use adjutant_engine::{Begun, Changes, Counters, Failure, Loaded, Ready, Storage, StoredStep};
use adjutant_queue::{Group, Payload, PrunePolicy, Signal};
use adjutant_state::History;
use sqlx::postgres::PgRow;
use tokio::time::{Instant, sleep_until};

use crate::{
    args::{Args, int, limit, uuid, uuids},
    clock::ServerClock,
    config::PostgresConfig,
    db::{Db, Role},
    error::Told,
    news::{News, Outbox},
    queries,
    reads::{self, each},
    record::{self, COLUMNS},
    text,
    writes::{Rows, Texts, bind_counts},
};

/// The most runs that one prune forgets, so that others need not wait for long.
const PRUNE_LIMIT: usize = 1000;

/// Commits between two foldings of `counts`.
const FOLD_EVERY: u32 = 500;

/// How often to look for what no message has told of, while messages come. Without them it is `LOOK_AROUND`.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);

/// A server that has been away for longer than this is not waited for by each group.
const AWAY: Duration = Duration::from_secs(1);

/// The least time between two attempts to reach it then.
const ATTEMPTS: Duration = Duration::from_millis(250);

/// What belongs to one transaction.
#[derive(Default)]
struct Transaction {
    /// Concurrency keys that are locked.
    keys: BTreeSet<String>,
    /// How many runs are running, of some of these.
    running: HashMap<String, i64>,
    news: News,
    /// Ready runs that were locked for claims, less those that were taken.
    left_ready: usize,
    /// Ready runs were passed over because of their key.
    passed_over: bool,
    /// The commit is on its way: it may or may not have happened.
    committing: bool,
}

pub(crate) struct PostgresStorage {
    pub config: PostgresConfig,
    pub counters: Arc<Counters>,
    pub server_clock: Arc<ServerClock>,
    pub outbox: Arc<Outbox>,
    db: Option<Db>,
    failed: Option<Failure>,
    texts: Texts,
    tx: Transaction,
    unfolded: u32,
    looked: Instant,
    snapshot: Option<String>,
    /// The earliest time that others have been told of as due.
    due_told: i64,
    away_since: Option<Instant>,
    next_attempt: Instant,
}

impl PostgresStorage {
    /// Connects.
    ///
    /// # Errors
    /// What keeps it from that.
    pub(crate) async fn connect(
        config: PostgresConfig,
        counters: Arc<Counters>,
        server_clock: Arc<ServerClock>,
        outbox: Arc<Outbox>,
    ) -> Result<Self> {
        let now = Instant::now();
        let mut storage = Self {
            config,
            counters,
            server_clock,
            outbox,
            db: None,
            failed: None,
            texts: Texts::default(),
            tx: Transaction::default(),
            unfolded: 0,
            looked: now,
            snapshot: None,
            due_told: i64::MAX,
            away_since: None,
            next_attempt: now,
        };
        let db = storage.open().await.map_err(|told| told.error)?;
        storage.db = Some(db);
        Ok(storage)
    }

    async fn open(&self) -> Result<Db, Told> {
        let mut db = Db::connect(&self.config, Role::Writer, &self.counters).await?;
        db.text(queries::prepares()).await?;
        Ok(db)
    }

    /// The connection, a new one if the last one is lost. Meanwhile the group waits, first for the server and then,
    /// when that has been away for a while, for the time between two attempts.
    async fn ready_db(&mut self) -> Result<()> {
        if self.db.as_ref().is_some_and(Db::is_fit) {
            return Ok(());
        }
        self.db = None;
        sleep_until(self.next_attempt).await;
        let begun = Instant::now();
        match self.open().await {
            Ok(db) => {
                self.db = Some(db);
                self.away_since = None;
                Ok(())
            }
            Err(mut told) => {
                let away = begun.duration_since(*self.away_since.get_or_insert(begun));
                let quick = begun.elapsed() < ATTEMPTS;
                if away > AWAY {
                    self.next_attempt = Instant::now() + ATTEMPTS;
                }
                // A server that is just starting again is worth the wait.
                told.conflict = told.lost && quick && away <= AWAY;
                Err(self.fail(told))
            }
        }
    }

    fn fail(&mut self, mut told: Told) -> adjutant_core::Error {
        // Before the commit, nothing has happened: the group can be tried again on a new connection.
        let was_up = self.db.is_some() && !self.tx.committing;
        told.conflict |= told.lost && was_up;
        self.failed.get_or_insert_with(|| told.failure());
        told.error
    }

    fn took<T>(&mut self, answer: Result<T, Told>) -> Result<T> {
        answer.map_err(|told| self.fail(told))
    }

    fn db(&mut self) -> Result<&mut Db> {
        // Without a connection, `begin` has failed and nobody goes on.
        self.db.as_mut().ok_or(adjutant_core::Error::Closed)
    }

    async fn rows(&mut self, sql: &Arc<str>, args: Args) -> Result<Vec<PgRow>> {
        let answer = self.db()?.rows(sql, args.done()).await;
        self.took(answer)
    }

    async fn text(&mut self, sql: impl Into<String>) -> Result<Vec<PgRow>> {
        let answer = self.db()?.text(sql).await;
        self.took(answer)
    }

    /// Reads every row; one that cannot be read ends the transaction.
    fn each<T>(
        &mut self,
        rows: &[PgRow],
        read: impl Fn(&PgRow, &str) -> Result<T>,
    ) -> Result<Vec<T>> {
        let read = each(self.db()?, rows, read);
        self.took(read)
    }

    fn ids(&mut self, rows: &[PgRow]) -> Result<Vec<(i64, RunId)>> {
        self.each(rows, |row, location| {
            Ok((
                record::get(row, 0, location)?,
                record::run_id(row, 1, location)?,
            ))
        })
    }

    /// Locks concurrency keys, always in the same order. Whoever changes how many runs with a key are running, or
    /// lets one go that it holds back, holds its lock.
    async fn lock_keys(&mut self, keys: BTreeSet<String>) -> Result<()> {
        let keys: Vec<String> = keys.difference(&self.tx.keys).cloned().collect();
        if keys.is_empty() {
            return Ok(());
        }
        let args = Args::default().with(self.key_names(&keys));
        self.rows(&queries::LOCK_KEYS, args).await?;
        self.tx.keys.extend(keys);
        Ok(())
    }

    /// Locks as many of the keys as nobody else has locked.
    async fn try_keys(&mut self, keys: BTreeSet<String>) -> Result<()> {
        let keys: Vec<String> = keys.difference(&self.tx.keys).cloned().collect();
        if keys.is_empty() {
            return Ok(());
        }
        let args = Args::default().with(self.key_names(&keys));
        let rows = self.rows(&queries::TRY_KEYS, args).await?;
        let got = self.each(&rows, |row, location| record::get::<bool>(row, 0, location))?;
        let got = keys.into_iter().zip(got).filter(|(_, got)| *got);
        let got: Vec<String> = got.map(|(key, _)| key).collect();
        self.count_running(&got).await?;
        self.tx.keys.extend(got);
        Ok(())
    }

    /// Counts the running runs of keys that are locked.
    async fn count_running(&mut self, keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let stored: Vec<_> = keys.iter().map(|key| text::stored(key)).collect();
        let stored: Vec<&str> = stored.iter().map(|key| &**key).collect();
        let args = Args::default().with(stored);
        let rows = self.rows(&queries::RUNNING, args).await?;
        let counts = self.each(&rows, |row, location| {
            Ok((
                record::string(row, 0, location)?,
                record::get::<i64>(row, 1, location)?,
            ))
        })?;
        self.tx
            .running
            .extend(keys.iter().map(|key| (key.clone(), 0)));
        self.tx.running.extend(counts);
        Ok(())
    }

    /// The names under which keys are locked: schemas do not share them.
    fn key_names(&self, keys: &[String]) -> Vec<String> {
        let schema = &self.config.schema;
        let names = keys
            .iter()
            .map(|key| format!("{schema}:{}", text::stored(key)));
        names.collect()
    }

    fn loaded(&self, rows: &[PgRow]) -> Vec<Loaded> {
        let location = self.db.as_ref().map_or("", |db| &db.location);
        let loaded = rows
            .iter()
            .filter_map(|row| record::loaded(row, false, location));
        loaded.collect()
    }

    /// What is done after every commit.
    fn committed(&mut self) {
        let mut news = std::mem::take(&mut self.tx.news);
        // Runs that were locked and are still in line: others may have passed them over.
        news.ready |= self.tx.left_ready > 0;
        if let Some(due) = news.due {
            let now = self.server_clock.now().as_micros();
            match due < self.due_told || self.due_told <= now {
                true => self.due_told = due,
                // Whoever sleeps until then looks at what is due next by itself.
                false => news.due = None,
            }
        }
        if self.tx.passed_over {
            self.outbox.again.notify_one();
        }
        self.outbox.post(news);
        self.tx = Transaction::default();
    }
}

impl Drop for PostgresStorage {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

/// `'{…}'`: ids as an array in a text.
fn literal(runs: &[RunId]) -> String {
    let ids: Vec<String> = runs
        .iter()
        .map(|run| uuid(run.as_bytes()).simple().to_string())
        .collect();
    format!("'{{{}}}'", ids.join(","))
}

fn key_of(loaded: &Loaded) -> Option<&str> {
    match loaded {
        Loaded::Run(record, _) => record.concurrency.as_ref().map(|c| &*c.key),
        Loaded::Unreadable(_) => None,
    }
}

fn is_running(loaded: &Loaded) -> bool {
    matches!(loaded, Loaded::Run(record, _) if record.state == RunState::Running)
}

impl Storage for PostgresStorage {
    const KEEPS_RECORDS: bool = false;
    const MAY_CONFLICT: bool = true;
    const LOOK_AROUND: Duration = Duration::from_secs(1);

    async fn begin(&mut self, runs: &[RunId]) -> Result<Begun> {
        self.tx = Transaction::default();
        self.ready_db().await?;
        let asked = SystemClock.now();
        let rows = if runs.is_empty() {
            self.text("begin; execute adj_now").await?
        } else {
            let text = format!(
                "begin; execute adj_lock({}); execute adj_now",
                literal(runs)
            );
            self.text(text).await?
        };
        let answered = SystemClock.now();
        let (now, found) = rows.split_last().map_or((None, &[][..]), |(now, found)| {
            (Some(std::slice::from_ref(now)), found)
        });
        let now = self.each(now.unwrap_or_default(), |row, location| {
            record::get::<i64>(row, 0, location)
        })?;
        let now = now
            .first()
            .map_or(answered, |now| Timestamp::from_micros(*now));
        self.server_clock.set(now, asked, answered);
        let found = self.loaded(found);
        let held = found.iter().filter(|run| is_running(run));
        let keys = held.filter_map(key_of).map(ToOwned::to_owned).collect();
        self.lock_keys(keys).await?;
        let hears = self.outbox.listening.load(SeqCst);
        let patience = if hears {
            LOOK_ANYWAY
        } else {
            Self::LOOK_AROUND
        };
        let stale = self.looked.elapsed() >= patience;
        if stale {
            self.looked = Instant::now();
        }
        Ok(Begun {
            now: self.config.clock.as_ref().map_or(now, |clock| clock.now()),
            runs: found,
            stale,
        })
    }

    async fn runs(&mut self, runs: &[RunId]) -> Result<Vec<Loaded>> {
        let rows = self.rows(&queries::RUNS, Args::runs(runs)).await?;
        Ok(self.loaded(&rows))
    }

    async fn keys(&mut self, keys: &[&str]) -> Result<Vec<(String, RunId)>> {
        let stored: Vec<_> = keys.iter().map(|key| text::stored(key)).collect();
        let stored: Vec<&str> = stored.iter().map(|key| &**key).collect();
        let rows = self
            .rows(&queries::KEYS, Args::default().with(stored))
            .await?;
        self.each(&rows, |row, location| {
            Ok((
                record::string(row, 0, location)?,
                record::run_id(row, 1, location)?,
            ))
        })
    }

    async fn steps(&mut self, steps: &[(RunId, &str)]) -> Result<Vec<StoredStep>> {
        let runs: Vec<RunId> = steps.iter().map(|(run, _)| *run).collect();
        let keys: Vec<_> = steps.iter().map(|(_, key)| text::stored(key)).collect();
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let args = Args::runs(&runs).with(keys);
        let rows = self.rows(&queries::STEPS, args).await?;
        self.each(&rows, |row, location| {
            Ok(StoredStep {
                run: record::run_id(row, 0, location)?,
                key: record::string(row, 1, location)?,
                ordinal: record::count(row, 2, location)?,
                is_final: record::get::<i64>(row, 3, location)? != 0,
            })
        })
    }

    async fn ready(
        &mut self,
        agents: &[AgentKey],
        most: usize,
        known: &[RunId],
    ) -> Result<Vec<Ready>> {
        let names: Vec<_> = agents
            .iter()
            .map(|agent| text::stored(agent.as_str()))
            .collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        let (sql, args) = match &names[..] {
            [] => (
                &queries::READY_OF_ALL,
                Args::default().with(None::<Vec<String>>),
            ),
            [name] => (&queries::READY_OF_ONE, Args::default().with(*name)),
            _ => (&queries::READY_OF_SOME, Args::default().with(names)),
        };
        let args = args.with(limit(most)).with(uuids(known));
        let rows = self.rows(sql, args).await?;
        let rank = COLUMNS.iter().position(|column| *column == "rank");
        let mut found = self.each(&rows, |row, location| {
            Ok(Ready {
                rank: record::get(row, rank.unwrap_or_default(), location)?,
                run: record::run_id(row, 0, location)?,
                loaded: record::loaded(row, true, location),
            })
        })?;
        let key = |ready: &Ready| {
            ready
                .loaded
                .as_ref()
                .and_then(key_of)
                .map(ToOwned::to_owned)
        };
        let keys: BTreeSet<String> = found.iter().filter_map(key).collect();
        self.try_keys(keys).await?;
        let all = found.len();
        found.retain(|ready| key(ready).is_none_or(|key| self.tx.keys.contains(&key)));
        self.tx.passed_over |= found.len() < all;
        self.tx.left_ready += found.len();
        Ok(found)
    }

    async fn blocked(&mut self, key: &str, known: &[RunId]) -> Result<Option<(i64, RunId)>> {
        self.lock_keys(BTreeSet::from([key.to_owned()])).await?;
        let args = Args::default().with(&*text::stored(key)).with(uuids(known));
        let rows = self.rows(&queries::BLOCKED, args).await?;
        Ok(self.ids(&rows)?.pop())
    }

    async fn running(&mut self, key: &str) -> Result<i64> {
        if let Some(running) = self.tx.running.get(key) {
            return Ok(*running);
        }
        self.lock_keys(BTreeSet::from([key.to_owned()])).await?;
        self.count_running(&[key.to_owned()]).await?;
        Ok(self.tx.running.get(key).copied().unwrap_or(0))
    }

    async fn due(
        &mut self,
        now: Timestamp,
        most: usize,
        known: &[RunId],
    ) -> Result<Vec<(Timestamp, RunId)>> {
        let args = Args::default().with(now.as_micros()).with(limit(most));
        let rows = self.rows(&queries::DUE, args.with(uuids(known))).await?;
        let due = self.ids(&rows)?.into_iter();
        Ok(due
            .map(|(at, run)| (Timestamp::from_micros(at), run))
            .collect())
    }

    async fn next_due(&mut self) -> Result<Option<Timestamp>> {
        let rows = self.rows(&queries::NEXT_DUE, Args::default()).await?;
        let due = self.each(&rows, |row, location| record::get::<i64>(row, 0, location))?;
        Ok(due.first().map(|due| Timestamp::from_micros(*due)))
    }

    async fn children(&mut self, parent: RunId) -> Result<Vec<(RunId, Arc<str>)>> {
        let rows = self.rows(&queries::CHILDREN, Args::run(parent)).await?;
        self.each(&rows, |row, location| {
            let fanout = record::string(row, 1, location)?;
            Ok((record::run_id(row, 0, location)?, Arc::from(fanout)))
        })
    }

    async fn fanout(&mut self, run: RunId, key: &str) -> Result<Option<Group>> {
        let args = Args::run(run).with(&*text::stored(key));
        let rows = self.rows(&queries::FANOUT, args).await?;
        let mut groups = self.each(&rows, |row, location| {
            Ok(Group {
                open: record::count(row, 0, location)?,
                failed: record::count(row, 1, location)?,
            })
        })?;
        Ok(groups.pop())
    }

    async fn signals(&mut self, runs: &[RunId]) -> Result<Vec<(RunId, Signal)>> {
        let answer = reads::signals(self.db()?, runs).await;
        self.took(answer)
    }

    async fn payloads(&mut self, runs: &[RunId]) -> Result<Vec<(RunId, Payload)>> {
        let answer = reads::payloads(self.db()?, runs).await;
        self.took(answer)
    }

    async fn history(&mut self, run: RunId) -> Result<History> {
        let answer = reads::history(self.db()?, run).await;
        self.took(answer)
    }

    async fn write(&mut self, changes: &Changes<'_>, commit: bool) -> Result<()> {
        let fold = self.unfolded >= FOLD_EVERY;
        let rows = Rows::of(changes, fold);
        self.unfolded += u32::from(!changes.runs.is_empty());
        let statements = rows.statements(&mut self.texts);
        drop(rows);
        for (sql, args) in statements {
            self.rows(&sql, args).await?;
        }
        if fold {
            self.unfolded = 0;
        }
        let taken = changes.runs.iter().filter(|run| {
            run.before.is_some_and(|place| place.ready) && run.record.state != RunState::Pending
        });
        self.tx.left_ready = self.tx.left_ready.saturating_sub(taken.count());
        self.tx.news = News::of(changes);
        if commit { self.commit().await } else { Ok(()) }
    }

    async fn trim(&mut self, run: RunId, upto: u64) -> Result<()> {
        let upto = int(upto.min(i64::MAX.cast_unsigned()));
        self.rows(&queries::TRIM, Args::run(run).with(upto)).await?;
        Ok(())
    }

    async fn forget_history(&mut self, runs: &[RunId]) -> Result<()> {
        self.rows(&queries::FORGET, Args::runs(runs)).await?;
        Ok(())
    }

    async fn prune(&mut self, policy: &PrunePolicy) -> Result<Vec<RunId>> {
        let most = limit(policy.limit.min(PRUNE_LIMIT));
        let args = Args::default().with(policy.finished_before.as_micros());
        let rows = self.rows(&queries::PRUNABLE, args.with(most)).await?;
        let found = self.ids(&rows)?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let counts: Vec<(i64, i64)> = found.iter().map(|(state, _)| (*state, -1)).collect();
        let runs: Vec<RunId> = found.into_iter().map(|(_, run)| run).collect();
        let mut args = Args::runs(&runs);
        bind_counts(&counts, &mut args);
        self.rows(&queries::PRUNE, args).await?;
        self.tx.news.everything = true;
        Ok(runs)
    }

    async fn commit(&mut self) -> Result<()> {
        self.tx.committing = true;
        self.text("commit").await?;
        self.committed();
        Ok(())
    }

    async fn roll_back(&mut self) {
        self.failed = None;
        self.tx = Transaction::default();
        let Some(db) = &mut self.db else { return };
        if !db.is_fit() || db.text("rollback").await.is_err() {
            // The next `begin` opens another one.
            self.db = None;
        }
    }

    fn failure(&self) -> Option<&Failure> {
        self.failed.as_ref()
    }

    async fn is_stale(&mut self) -> bool {
        let hears = self.outbox.listening.load(SeqCst);
        if hears && self.looked.elapsed() < LOOK_ANYWAY {
            return false;
        }
        let Some(db) = self.db.as_mut().filter(|db| db.is_fit()) else {
            return true;
        };
        let rows = db.rows(&queries::SNAPSHOT, Args::default().done()).await;
        let snapshot = rows.ok().and_then(|rows| {
            let row = rows.first()?;
            record::get::<String>(row, 0, &db.location).ok()
        });
        let same = snapshot.is_some() && snapshot == self.snapshot;
        self.snapshot = snapshot;
        if same {
            self.looked = Instant::now();
        }
        !same
    }

    async fn close(mut self) {
        self.outbox.close();
        if let Some(db) = self.db.take() {
            db.close().await;
        }
    }
}
