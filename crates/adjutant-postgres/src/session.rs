//! The writing connection: its transactions, what they have locked, and what becomes of them when it is lost.

mod doubt;
mod locks;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use adjutant_core::{Error, Result, Timestamp};
use adjutant_engine::{Counters, Failure};
use sqlx::postgres::PgRow;
use tokio::time::{Instant, sleep_until};

use crate::{
    args::Args,
    clock::ServerClock,
    config::PostgresConfig,
    db::{Db, Role},
    error::{Told, unknown_outcome},
    ledger, queries,
    reads::each,
    record, text,
    writes::{Rows, Texts},
};

/// A server that has been away for longer than this is not waited for by each group.
const AWAY: Duration = Duration::from_secs(1);

/// The least time between two attempts to reach it then.
const ATTEMPTS: Duration = Duration::from_millis(250);

/// Changes with more text than this travel as binary values, with a call of their own.
const LITERAL_BYTES: usize = 128 << 10;

pub(crate) struct Session {
    pub config: PostgresConfig,
    pub server_clock: Arc<ServerClock>,
    counters: Arc<Counters>,
    db: Option<Db>,
    failed: Option<Failure>,
    texts: Texts,
    /// Which of the texts the connection has prepared.
    prepared: HashSet<u16>,
    /// The server knows of a transaction. Until then, nothing is locked.
    begun: bool,
    /// Its number, once it is known.
    transaction: Option<String>,
    /// Concurrency keys that are locked.
    keys: BTreeSet<String>,
    /// How many runs are running, of some of these.
    running: HashMap<String, i64>,
    away_since: Option<Instant>,
    next_attempt: Instant,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// What keeps it from that.
    pub(crate) async fn connect(
        config: PostgresConfig,
        counters: Arc<Counters>,
        server_clock: Arc<ServerClock>,
    ) -> Result<Self> {
        let mut session = Self {
            config,
            server_clock,
            counters,
            db: None,
            failed: None,
            texts: Texts::default(),
            prepared: HashSet::new(),
            begun: false,
            transaction: None,
            keys: BTreeSet::new(),
            running: HashMap::new(),
            away_since: None,
            next_attempt: Instant::now(),
        };
        let db = session.open().await.map_err(|told| told.error)?;
        session.db = Some(db);
        Ok(session)
    }

    async fn open(&self) -> Result<Db, Told> {
        let mut db = Db::connect(&self.config, Role::Writer, &self.counters).await?;
        let ledger = ledger::PREPARES;
        db.text(format!("{}; {ledger}", queries::prepares()))
            .await?;
        Ok(db)
    }

    /// Makes ready for a transaction, on a new connection if the last one is lost. Meanwhile the group waits, first
    /// for the server and then, when that has been away for a while, for the time between two attempts.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        self.forget();
        if self.db.as_ref().is_some_and(Db::is_fit) {
            return Ok(());
        }
        self.db = None;
        sleep_until(self.next_attempt).await;
        let tried = Instant::now();
        match self.open().await {
            Ok(db) => {
                self.db = Some(db);
                self.prepared.clear();
                self.away_since = None;
                Ok(())
            }
            Err(mut told) => {
                let away = tried.duration_since(*self.away_since.get_or_insert(tried));
                if away > AWAY {
                    self.next_attempt = Instant::now() + ATTEMPTS;
                }
                // A server that is just starting again is worth the wait.
                told.conflict = told.lost && away <= AWAY && tried.elapsed() < ATTEMPTS;
                Err(self.fail(told))
            }
        }
    }

    fn forget(&mut self) {
        self.begun = false;
        self.transaction = None;
        self.keys.clear();
        self.running.clear();
    }

    fn fail(&mut self, mut told: Told) -> Error {
        // Nothing has happened, for commits have their own way: the group can be tried again on a new connection.
        told.conflict |= told.lost && self.db.is_some();
        self.failed.get_or_insert_with(|| told.failure());
        told.error
    }

    pub(crate) fn took<T>(&mut self, answer: Result<T, Told>) -> Result<T> {
        answer.map_err(|told| self.fail(told))
    }

    /// The connection, within the transaction.
    pub(crate) async fn db(&mut self) -> Result<&mut Db> {
        if !self.begun {
            self.text("").await?;
        }
        // Without a connection, `begin` has failed and nobody goes on.
        self.db.as_mut().ok_or(Error::Closed)
    }

    /// Runs a statement within the transaction.
    pub(crate) async fn rows(&mut self, sql: &Arc<str>, args: Args) -> Result<Vec<PgRow>> {
        let answer = self.db().await?.rows(sql, args.done()).await;
        self.took(answer)
    }

    /// Runs statements within the transaction, beginning it if need be, in one call.
    pub(crate) async fn text(&mut self, sql: &str) -> Result<Vec<PgRow>> {
        let answer = self.send(sql).await?;
        self.took(answer)
    }

    async fn send(&mut self, sql: &str) -> Result<Result<Vec<PgRow>, Told>> {
        let begin = if self.begun { "" } else { "begin; " };
        self.begun = true;
        let db = self.db.as_mut().ok_or(Error::Closed)?;
        Ok(db.text(format!("{begin}{sql}")).await)
    }

    /// Runs the last statements of the transaction, of which the very last one commits. If the connection is lost
    /// meanwhile, finds out whether that has happened.
    async fn last(&mut self, sql: &str) -> Result<()> {
        let mut told = match self.send(sql).await? {
            Err(told) if told.lost => told,
            answer => return self.took(answer).map(drop),
        };
        self.db = None;
        let done = match self.transaction.take() {
            Some(number) => self.has_happened(&number).await,
            // It has only made runs, if any. The next try finds them.
            None => Some(false),
        };
        match done {
            Some(true) => return Ok(()),
            Some(false) => told.conflict = true,
            None => told.error = unknown_outcome(told.error),
        }
        Err(self.fail(told))
    }

    /// Runs statements without rows within the transaction, and commits if they are the last.
    pub(crate) async fn run(&mut self, sql: &str, commit: bool) -> Result<()> {
        match commit {
            true => self.last(&format!("{sql}; commit")).await,
            false => self.text(sql).await.map(drop),
        }
    }

    /// The same as `text`, and sets the clock by the server's and notes the transaction's number.
    pub(crate) async fn timed(&mut self, sql: &str) -> Result<Vec<PgRow>> {
        let asked = std::time::Instant::now();
        let mut rows = self.text(&format!("{sql}; execute adj_now")).await?;
        let last = rows.pop();
        let mut told = self.each(last.as_slice(), |row, location| {
            let now = record::get::<i64>(row, 0, location)?;
            Ok((now, record::get::<String>(row, 1, location)?))
        })?;
        if let Some((now, transaction)) = told.pop() {
            self.server_clock.set(Timestamp::from_micros(now), asked);
            self.transaction = Some(transaction);
        }
        Ok(rows)
    }

    /// Reads every row; one that cannot be read ends the transaction.
    pub(crate) fn each<T>(
        &mut self,
        rows: &[PgRow],
        read: impl Fn(&PgRow, &str) -> Result<T>,
    ) -> Result<Vec<T>> {
        let db = self.db.as_ref().ok_or(Error::Closed)?;
        let read = each(db, rows, read);
        self.took(read)
    }

    /// Writes rows in as few calls as possible, and commits if that is all.
    pub(crate) async fn write(&mut self, rows: &Rows<'_>, commit: bool) -> Result<()> {
        if rows.bytes() > LITERAL_BYTES || rows.is_chunked() {
            return self.write_chunks(rows, commit).await;
        }
        let mut literals = crate::args::Literals::default();
        let parts = rows.bind(0, &mut literals);
        if parts == 0 {
            return self.end(commit).await;
        }
        if !self.prepared.contains(&parts) {
            let text = format!("prepare adj_write_{parts} as {}", self.texts.get(parts));
            self.text(&text).await?;
            self.prepared.insert(parts);
        }
        let write = format!("execute adj_write_{parts}({})", literals.as_str());
        self.run(&write, commit).await
    }

    async fn write_chunks(&mut self, rows: &Rows<'_>, commit: bool) -> Result<()> {
        for chunk in 0.. {
            let mut args = Args::default();
            let parts = rows.bind(chunk, &mut args);
            if parts == 0 {
                break;
            }
            let text = self.texts.get(parts);
            self.rows(&text, args).await?;
        }
        self.end(commit).await
    }

    /// Commits, if that is asked for and there is anything to commit.
    pub(crate) async fn end(&mut self, commit: bool) -> Result<()> {
        match commit && self.begun {
            true => self.last("commit").await,
            false => Ok(()),
        }
    }

    /// Takes the transaction back. The next one opens another connection if this one is lost.
    pub(crate) async fn roll_back(&mut self) {
        self.failed = None;
        let begun = self.begun;
        self.forget();
        let Some(db) = &mut self.db else { return };
        if !db.is_fit() || (begun && db.text("rollback").await.is_err()) {
            self.db = None;
        }
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failed.as_ref()
    }

    /// Which transactions have ended, in the server's words; `None` if it does not tell. Outside of transactions.
    pub(crate) async fn snapshot(&mut self) -> Option<String> {
        let db = self.db.as_mut().filter(|db| db.is_fit())?;
        let rows = db.text("select pg_current_snapshot()::text").await.ok()?;
        record::get(rows.first()?, 0, &db.location).ok()
    }

    pub(crate) fn location(&self) -> &str {
        self.db.as_ref().map_or("", |db| &db.location)
    }

    /// Tells other nodes something outside of transactions, as far as that is possible.
    pub(crate) async fn tell(&mut self, message: &str) {
        let Some(db) = self.db.as_mut().filter(|db| db.is_fit()) else {
            return;
        };
        let mut values = crate::args::Literals::default();
        values.text(&self.config.channel());
        values.text(message);
        // They look for themselves now and then.
        let told = db
            .text(format!("select pg_notify({})", values.as_str()))
            .await;
        if let Err(told) = told {
            tracing::debug!(error = %told.error, "other nodes were not told");
        }
    }

    pub(crate) async fn close(&mut self) {
        if let Some(db) = self.db.take() {
            db.close().await;
        }
    }
}

/// Texts as they are stored.
pub(crate) fn texts<'t>(texts: impl Iterator<Item = &'t str>) -> Vec<String> {
    texts.map(|text| text::stored(text).into_owned()).collect()
}
