//! What the shared writer asks of the writing connection.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use adjutant_budget::{
    Account, ReservationKey,
    engine::{AccountRow, Changes as LedgerChanges, ReservationRow},
};
use adjutant_core::{AgentKey, Clock, Result, RunId, RunState, Timestamp};
use adjutant_engine::{Begun, Changes, Failure, Loaded, Ready, Storage, StoredStep};
use adjutant_queue::{Group, Payload, PrunePolicy, Signal};
use adjutant_state::History;
use sqlx::postgres::PgRow;
use tokio::time::Instant;

use crate::{
    args::{Args, Literals, Values, int, limit, uuids},
    news::{News, Outbox},
    queries, reads,
    record::{self, COLUMNS},
    session::{Session, texts},
    text,
    writes::{Rows, bind_counts},
};

/// The most runs that one prune forgets, so that others need not wait for long.
const PRUNE_LIMIT: usize = 1000;

/// Writes between two foldings of `counts`.
const FOLD_EVERY: u32 = 500;

/// How often to look for what no message has told of, while messages come. Without them it is `LOOK_AROUND`.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);

/// For how long the server's clock is known well enough not to be asked.
const CLOCK_FRESH: Duration = Duration::from_secs(5);

pub(crate) struct PostgresStorage {
    session: Session,
    outbox: Arc<Outbox>,
    /// What others are to hear of the transaction.
    news: News,
    /// Ready runs that it has locked for claims, less those that were taken.
    left_ready: usize,
    /// It has passed over ready runs because of their key.
    passed_over: bool,
    unfolded: u32,
    looked: Instant,
    snapshot: Option<String>,
    /// The earliest time that others have been told of as due.
    due_told: i64,
}

impl PostgresStorage {
    pub(crate) fn new(session: Session, outbox: Arc<Outbox>) -> Self {
        Self {
            session,
            outbox,
            news: News::default(),
            left_ready: 0,
            passed_over: false,
            unfolded: 0,
            looked: Instant::now(),
            snapshot: None,
            due_told: i64::MAX,
        }
    }

    fn loaded(&self, rows: &[PgRow]) -> Vec<Loaded> {
        let location = self.session.location();
        let loaded = rows
            .iter()
            .filter_map(|row| record::loaded(row, false, location));
        loaded.collect()
    }

    fn ids(&mut self, rows: &[PgRow]) -> Result<Vec<(i64, RunId)>> {
        self.session.each(rows, |row, location| {
            let number = record::get(row, 0, location)?;
            Ok((number, record::run_id(row, 1, location)?))
        })
    }

    fn forget(&mut self) {
        self.news = News::default();
        self.left_ready = 0;
        self.passed_over = false;
    }

    /// Tells of what is committed.
    fn tell(&mut self) {
        let mut news = std::mem::take(&mut self.news);
        // Runs that were locked and are still in line: others may have passed them over.
        news.ready |= self.left_ready > 0;
        if let Some(due) = news.due {
            let now = self.session.server_clock.now().as_micros();
            match due < self.due_told || self.due_told <= now {
                true => self.due_told = due,
                // Whoever sleeps until then looks at what is due next by itself.
                false => news.due = None,
            }
        }
        if self.passed_over {
            self.outbox.again.notify_one();
        }
        self.outbox.post(news);
        self.forget();
    }
}

impl Drop for PostgresStorage {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

/// The concurrency key of a run.
fn key_of(loaded: &Loaded) -> Option<&str> {
    match loaded {
        Loaded::Run(record, _) => record.concurrency.as_ref().map(|c| &*c.key),
        Loaded::Unreadable(_) => None,
    }
}

fn is_running(loaded: &&Loaded) -> bool {
    matches!(loaded, Loaded::Run(record, _) if record.state == RunState::Running)
}

impl Storage for PostgresStorage {
    const KEEPS_RECORDS: bool = false;
    const MAY_CONFLICT: bool = true;
    const LOOK_AROUND: Duration = Duration::from_secs(1);

    async fn begin(&mut self, runs: &[RunId]) -> Result<Begun> {
        self.forget();
        self.session.begin().await?;
        let mut found = Vec::new();
        if !runs.is_empty() {
            let mut ids = Literals::default();
            ids.ids(runs.iter().map(RunId::as_bytes));
            let lock = format!("execute adj_lock({})", ids.as_str());
            let rows = self.session.timed(&lock).await?;
            found = self.loaded(&rows);
        } else if !self.session.server_clock.is_fresh(CLOCK_FRESH) {
            // Else the transaction begins with the next call.
            self.session.timed("").await?;
        }
        // Those that may free a place for others, all at once: whoever locks several takes them in order.
        let keys = found.iter().filter(is_running).filter_map(key_of);
        let keys = keys.map(ToOwned::to_owned).collect();
        self.session.lock_keys(keys).await?;
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
        let now = match &self.session.config.clock {
            Some(clock) => clock.now(),
            None => self.session.server_clock.now(),
        };
        Ok(Begun {
            now,
            runs: found,
            stale,
        })
    }

    async fn runs(&mut self, runs: &[RunId]) -> Result<Vec<Loaded>> {
        let rows = self.session.rows(&queries::RUNS, Args::runs(runs)).await?;
        Ok(self.loaded(&rows))
    }

    async fn keys(&mut self, keys: &[&str]) -> Result<Vec<(String, RunId)>> {
        let args = Args::default().with(texts(keys.iter().copied()));
        let rows = self.session.rows(&queries::KEYS, args).await?;
        self.session.each(&rows, |row, location| {
            let key = record::string(row, 0, location)?;
            Ok((key, record::run_id(row, 1, location)?))
        })
    }

    async fn steps(&mut self, steps: &[(RunId, &str)]) -> Result<Vec<StoredStep>> {
        let runs: Vec<RunId> = steps.iter().map(|(run, _)| *run).collect();
        let args = Args::runs(&runs).with(texts(steps.iter().map(|(_, key)| *key)));
        let rows = self.session.rows(&queries::STEPS, args).await?;
        self.session.each(&rows, |row, location| {
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
        let names = texts(agents.iter().map(AgentKey::as_str));
        let mut values = Literals::default();
        let statement = match &names[..] {
            [name] => {
                values.text(name);
                "adj_ready_one"
            }
            [] => {
                values.texts(std::iter::empty());
                "adj_ready_all"
            }
            names => {
                values.texts(names.iter().map(String::as_str));
                "adj_ready_some"
            }
        };
        values.int(limit(most));
        values.ids(known.iter().map(RunId::as_bytes));
        let text = format!("execute {statement}({})", values.as_str());
        let rows = self.session.timed(&text).await?;
        let rank = COLUMNS.iter().position(|column| *column == "rank");
        let mut found = self.session.each(&rows, |row, location| {
            Ok(Ready {
                rank: record::get(row, rank.unwrap_or_default(), location)?,
                run: record::run_id(row, 0, location)?,
                loaded: record::loaded(row, true, location),
            })
        })?;
        let key = |ready: &Ready| {
            let key = ready.loaded.as_ref().and_then(key_of);
            key.map(ToOwned::to_owned)
        };
        let keys: BTreeSet<String> = found.iter().filter_map(key).collect();
        self.session.try_keys(keys).await?;
        let all = found.len();
        found.retain(|ready| key(ready).is_none_or(|key| self.session.has_key(&key)));
        self.passed_over |= found.len() < all;
        self.left_ready += found.len();
        Ok(found)
    }

    async fn blocked(&mut self, key: &str, known: &[RunId]) -> Result<Option<(i64, RunId)>> {
        let keys = BTreeSet::from([key.to_owned()]);
        self.session.lock_keys(keys).await?;
        let args = Args::default().with(&*text::stored(key)).with(uuids(known));
        let rows = self.session.rows(&queries::BLOCKED, args).await?;
        Ok(self.ids(&rows)?.pop())
    }

    async fn running(&mut self, key: &str) -> Result<i64> {
        self.session.running(key).await
    }

    async fn due(
        &mut self,
        now: Timestamp,
        most: usize,
        known: &[RunId],
    ) -> Result<Vec<(Timestamp, RunId)>> {
        let args = Args::default().with(now.as_micros()).with(limit(most));
        let args = args.with(uuids(known));
        let rows = self.session.rows(&queries::DUE, args).await?;
        let due = self.ids(&rows)?.into_iter();
        Ok(due
            .map(|(at, run)| (Timestamp::from_micros(at), run))
            .collect())
    }

    async fn next_due(&mut self) -> Result<Option<Timestamp>> {
        let rows = self.session.rows(&queries::NEXT_DUE, Args::default());
        let rows = rows.await?;
        let due = self
            .session
            .each(&rows, |row, location| record::get::<i64>(row, 0, location))?;
        Ok(due.first().map(|due| Timestamp::from_micros(*due)))
    }

    async fn children(&mut self, parent: RunId) -> Result<Vec<(RunId, Arc<str>)>> {
        let rows = self.session.rows(&queries::CHILDREN, Args::run(parent));
        let rows = rows.await?;
        self.session.each(&rows, |row, location| {
            let fanout = record::string(row, 1, location)?;
            Ok((record::run_id(row, 0, location)?, Arc::from(fanout)))
        })
    }

    async fn fanout(&mut self, run: RunId, key: &str) -> Result<Option<Group>> {
        let args = Args::run(run).with(&*text::stored(key));
        let rows = self.session.rows(&queries::FANOUT, args).await?;
        let mut groups = self.session.each(&rows, |row, location| {
            Ok(Group {
                open: record::count(row, 0, location)?,
                failed: record::count(row, 1, location)?,
            })
        })?;
        Ok(groups.pop())
    }

    async fn signals(&mut self, runs: &[RunId]) -> Result<Vec<(RunId, Signal)>> {
        let answer = reads::signals(self.session.db().await?, runs).await;
        self.session.took(answer)
    }

    async fn payloads(&mut self, runs: &[RunId]) -> Result<Vec<(RunId, Payload)>> {
        let answer = reads::payloads(self.session.db().await?, runs).await;
        self.session.took(answer)
    }

    async fn history(&mut self, run: RunId) -> Result<History> {
        let answer = reads::history(self.session.db().await?, run).await;
        self.session.took(answer)
    }

    async fn write(&mut self, changes: &Changes<'_>, commit: bool) -> Result<()> {
        // Only along with something else.
        let fold = self.unfolded >= FOLD_EVERY && !changes.runs.is_empty();
        self.unfolded = match fold {
            true => 0,
            false => self.unfolded + u32::from(!changes.runs.is_empty()),
        };
        self.news = News::of(changes);
        let taken = changes.runs.iter().filter(|run| {
            run.before.is_some_and(|place| place.ready) && run.record.state != RunState::Pending
        });
        self.left_ready = self.left_ready.saturating_sub(taken.count());
        let rows = Rows::of(changes, fold);
        self.session.write(&rows, commit).await?;
        if commit {
            self.tell();
        }
        Ok(())
    }

    async fn trim(&mut self, run: RunId, upto: u64) -> Result<()> {
        let upto = int(upto.min(i64::MAX.cast_unsigned()));
        let args = Args::run(run).with(upto);
        self.session.rows(&queries::TRIM, args).await?;
        Ok(())
    }

    async fn forget_history(&mut self, runs: &[RunId]) -> Result<()> {
        let args = Args::runs(runs);
        self.session.rows(&queries::FORGET, args).await?;
        Ok(())
    }

    async fn prune(&mut self, policy: &PrunePolicy) -> Result<Vec<RunId>> {
        let most = limit(policy.limit.min(PRUNE_LIMIT));
        let args = Args::default().with(policy.finished_before.as_micros());
        let rows = self.session.rows(&queries::PRUNABLE, args.with(most));
        let rows = rows.await?;
        let found = self.ids(&rows)?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let counts: Vec<(i64, i64)> = found.iter().map(|(state, _)| (*state, -1)).collect();
        let runs: Vec<RunId> = found.into_iter().map(|(_, run)| run).collect();
        let mut args = Args::runs(&runs);
        bind_counts(&counts, &mut args);
        self.session.rows(&queries::PRUNE, args).await?;
        self.news.everything = true;
        Ok(runs)
    }

    async fn reservations(&mut self, keys: &[&ReservationKey]) -> Result<Vec<ReservationRow>> {
        self.session.reservations(keys).await
    }

    async fn accounts(&mut self, names: &[&Account]) -> Result<Vec<AccountRow>> {
        self.session.accounts(names).await
    }

    async fn old_reservations(
        &mut self,
        before: Timestamp,
        limit: usize,
    ) -> Result<(Vec<ReservationRow>, Vec<AccountRow>)> {
        self.session.old_reservations(before, limit).await
    }

    async fn write_ledger(&mut self, changes: &LedgerChanges<'_>, commit: bool) -> Result<()> {
        self.session.write_ledger(changes, commit).await?;
        if commit {
            self.tell();
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        self.session.end(true).await?;
        self.tell();
        Ok(())
    }

    async fn roll_back(&mut self) {
        self.forget();
        self.session.roll_back().await;
    }

    fn failure(&self) -> Option<&Failure> {
        self.session.failure()
    }

    async fn is_stale(&mut self) -> bool {
        let hears = self.outbox.listening.load(SeqCst);
        if hears && self.looked.elapsed() < LOOK_ANYWAY {
            return false;
        }
        // The same answer twice means that nobody has written in between.
        let snapshot = self.session.snapshot().await;
        let same = snapshot.is_some() && snapshot == self.snapshot;
        self.snapshot = snapshot;
        if same {
            self.looked = Instant::now();
        }
        !same
    }

    async fn close(mut self) {
        self.outbox.close();
        if self.outbox.wrote.load(SeqCst) {
            // A command that ends at once may not have told anybody yet, nor know who is there.
            let news = News {
                everything: true,
                ..News::default()
            };
            self.session.tell(&news.message("")).await;
        }
        self.session.close().await;
    }
}
