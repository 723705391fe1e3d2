//! One connection: runs statements, counts them, and remembers the first failure of a transaction.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use adjutant_core::{Error, Result};
use adjutant_engine::{Counters, Failure, again};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};
use tokio::time::{Instant, sleep};

use crate::{
    config::SqliteConfig,
    error::{from_sqlx, is_busy, is_overtaken},
    sql::Args,
};

/// Pages of the log before it is copied into the file: 16 MiB, so that pages which are written again
/// and again are copied once.
const AUTOCHECKPOINT_PAGES: u32 = 4096;

/// The log keeps this size when it is reused: overwriting is cheaper to sync than appending.
const JOURNAL_BYTES: u32 = 64 << 20;

/// Memory for pages, per connection, in KiB.
const WRITER_CACHE_KIB: u32 = 16 << 10;
const READER_CACHE_KIB: u32 = 2 << 10;

/// Prepared statements kept per connection.
const STATEMENTS: usize = 400;

/// Pause before another try at a file that somebody else is just setting up.
const OPEN_RETRY: Duration = Duration::from_millis(5);

pub(crate) struct Db {
    conn: SqliteConnection,
    path: PathBuf,
    pub counters: Arc<Counters>,
    failed: Option<Failure>,
}

impl Db {
    /// A connection for writing.
    pub(crate) async fn writer(config: &SqliteConfig) -> Result<Self> {
        let mut options = base(config, WRITER_CACHE_KIB)
            .create_if_missing(config.create_if_missing)
            .pragma("journal_mode", "WAL")
            .pragma("synchronous", config.synchronous.pragma())
            .pragma("wal_autocheckpoint", AUTOCHECKPOINT_PAGES.to_string())
            .pragma("journal_size_limit", JOURNAL_BYTES.to_string());
        if let Some(pages) = config.max_pages {
            options = options.pragma("max_page_count", pages.to_string());
        }
        Self::connect(options, config).await
    }

    /// A connection for reading.
    pub(crate) async fn reader(config: &SqliteConfig) -> Result<Self> {
        let options = base(config, READER_CACHE_KIB).read_only(true);
        Self::connect(options, config).await
    }

    async fn connect(options: SqliteConnectOptions, config: &SqliteConfig) -> Result<Self> {
        let started = Instant::now();
        let conn = loop {
            match options.connect().await {
                Ok(conn) => break conn,
                // Switching a new file to WAL needs a lock that SQLite does not wait for.
                Err(error) if is_busy(&error) && started.elapsed() < config.busy_timeout => {
                    sleep(OPEN_RETRY).await;
                }
                Err(error) => return Err(from_sqlx(error, "open the store", &config.path)),
            }
        };
        Ok(Self {
            conn,
            path: config.path.clone(),
            counters: Arc::default(),
            failed: None,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn raw(&mut self) -> &mut SqliteConnection {
        &mut self.conn
    }

    /// Runs statements that return nothing.
    pub(crate) async fn run(&mut self, sql: Arc<str>, args: Args) -> Result<()> {
        self.counters.call();
        let query = sqlx::query_with(AssertSqlSafe(sql), args.into_inner());
        match self.conn.execute(query).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.fail(error, "write to the store")),
        }
    }

    /// Runs statements and collects their rows.
    pub(crate) async fn rows(&mut self, sql: Arc<str>, args: Args) -> Result<Vec<SqliteRow>> {
        self.counters.call();
        let query = sqlx::query_with(AssertSqlSafe(sql), args.into_inner());
        match self.conn.fetch_all(query).await {
            Ok(rows) => Ok(rows),
            Err(error) => Err(self.fail(error, "read from the store")),
        }
    }

    /// Runs one text without keeping it prepared.
    pub(crate) async fn run_once(&mut self, sql: &'static str) -> Result<()> {
        self.counters.call();
        match self.conn.execute(sql).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.fail(error, "write to the store")),
        }
    }

    /// The number that changes whenever another connection changes the file.
    pub(crate) async fn version(&mut self) -> Result<i64> {
        static VERSION: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("pragma data_version"));
        let rows = self.rows(Arc::clone(&VERSION), Args::default()).await?;
        rows.first()
            .map_or(Ok(0), |row| crate::record::get(row, 0, &self.path))
    }

    fn fail(&mut self, error: sqlx::Error, action: &'static str) -> Error {
        let lost_race = is_overtaken(&error);
        let told = from_sqlx(error, action, &self.path);
        let failure = if lost_race {
            Failure::Conflict(again(&told))
        } else {
            Failure::Broken(again(&told))
        };
        self.failed.get_or_insert(failure);
        told
    }

    /// The first failure since it was last forgotten.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failed.as_ref()
    }

    /// Notes that another process has written what was not expected.
    pub(crate) fn conflict(&mut self) -> Error {
        let error = || Error::Backend {
            action: "write to the store",
            transient: true,
            source: "another process has written at the same time".into(),
        };
        self.failed
            .get_or_insert_with(|| Failure::Conflict(error()));
        error()
    }

    pub(crate) fn forget_failure(&mut self) {
        self.failed = None;
    }

    pub(crate) async fn close(self) {
        // There is nobody left to tell, and what was acknowledged is on disk.
        let _closed = self.conn.close().await;
    }
}

fn base(config: &SqliteConfig, cache_kib: u32) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&config.path)
        .busy_timeout(config.busy_timeout)
        .foreign_keys(false)
        .pragma("cache_size", format!("-{cache_kib}"))
        .pragma("temp_store", "MEMORY")
        .statement_cache_capacity(STATEMENTS)
        .thread_name(|n| format!("adjutant-sqlite-{n}"))
        .disable_statement_logging()
}
