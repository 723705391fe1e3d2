//! One connection: set up, timed, and fit for use or known not to be.

use std::{sync::Arc, time::Duration};

use adjutant_engine::Counters;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection,
    postgres::{PgArguments, PgRow},
};
use tokio::time::timeout;

use crate::{
    config::PostgresConfig,
    error::{Told, from_sqlx, timed_out},
};

/// Prepared statements kept per connection.
const STATEMENTS: usize = 200;

/// How much longer than the server's own limit to wait for an answer.
const GRACE: Duration = Duration::from_secs(5);

/// A writer that has gone silent within a transaction gives its locks back after this time.
const SILENCE: Duration = Duration::from_secs(5);

/// All lookups of the engine are meant to go through an index. A plan that was made while a table was small, or
/// without statistics, must not survive as one that reads it all.
const PLANS: &str = "set enable_seqscan = off; set enable_bitmapscan = off; set enable_hashjoin = off; \
     set enable_mergejoin = off; set jit = off; set max_parallel_workers_per_gather = 0";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    Reader,
    /// Making tables, and looking through all of them: without a limit on time.
    Keeper,
}

pub(crate) struct Db {
    conn: PgConnection,
    pub location: Arc<str>,
    patience: Duration,
    counters: Arc<Counters>,
    /// A call has begun and not ended, as when its future was dropped.
    busy: bool,
    lost: bool,
}

impl Db {
    /// Connects and sets the session up.
    ///
    /// # Errors
    /// What keeps it from that.
    pub(crate) async fn connect(
        config: &PostgresConfig,
        role: Role,
        counters: &Arc<Counters>,
    ) -> Result<Self, Told> {
        let location: Arc<str> = config.location().into();
        let action = "connect to the server";
        let options = options(config);
        let conn = match timeout(config.connect_timeout, options.connect()).await {
            Ok(Ok(conn)) => conn,
            Ok(Err(error)) => return Err(from_sqlx(error, action, &location)),
            Err(_) => return Err(timed_out(action, &location)),
        };
        let patience = match role {
            Role::Keeper => Duration::MAX,
            _ => config.statement_timeout.saturating_add(GRACE),
        };
        let mut db = Self {
            conn,
            location,
            patience,
            counters: Arc::clone(counters),
            busy: false,
            lost: false,
        };
        db.text(setup(config, role)).await?;
        Ok(db)
    }

    /// Runs a statement with values and collects its rows. It is kept prepared.
    pub(crate) async fn rows(
        &mut self,
        sql: &Arc<str>,
        args: PgArguments,
    ) -> Result<Vec<PgRow>, Told> {
        self.query(sql, args, true).await
    }

    /// The same, kept prepared or not.
    pub(crate) async fn query(
        &mut self,
        sql: &Arc<str>,
        args: PgArguments,
        keep: bool,
    ) -> Result<Vec<PgRow>, Told> {
        self.counters.call();
        self.busy = true;
        let query = sqlx::query_with(AssertSqlSafe(Arc::clone(sql)), args).persistent(keep);
        let answer = timeout(self.patience, self.conn.fetch_all(query)).await;
        self.took(answer)
    }

    /// Runs statements without values in one call, and collects the rows of all of them.
    pub(crate) async fn text(&mut self, sql: impl Into<String>) -> Result<Vec<PgRow>, Told> {
        self.counters.call();
        self.busy = true;
        let answer = self.conn.fetch_all(AssertSqlSafe(sql.into()));
        let answer = timeout(self.patience, answer).await;
        self.took(answer)
    }

    fn took<T>(
        &mut self,
        answer: Result<sqlx::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, Told> {
        self.busy = false;
        let told = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => from_sqlx(error, "use the store", &self.location),
            Err(_) => timed_out("use the store", &self.location),
        };
        self.lost |= told.lost;
        Err(told)
    }

    /// Whether it can be used again.
    pub(crate) fn is_fit(&self) -> bool {
        !self.busy && !self.lost
    }

    pub(crate) async fn close(self) {
        if self.is_fit() {
            // There is nobody left to tell, and what was acknowledged is safe.
            let _closed = timeout(GRACE, self.conn.close()).await;
        }
    }
}

/// How to connect for any purpose.
pub(crate) fn options(config: &PostgresConfig) -> sqlx::postgres::PgConnectOptions {
    let options = config.connect.clone();
    let named = options.get_application_name().is_some();
    let options = options
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging();
    match named {
        true => options,
        false => options.application_name("adjutant"),
    }
}

/// The session's settings, all in one call.
fn setup(config: &PostgresConfig, role: Role) -> String {
    let millis = |time: Duration| time.as_millis();
    let mut text = format!(
        "set search_path to \"{}\"; set standard_conforming_strings = on; set timezone = 'UTC'; \
         set default_transaction_isolation = 'read committed'",
        config.schema
    );
    if role != Role::Keeper {
        let limits = format!(
            "; {PLANS}; set statement_timeout = {}; set lock_timeout = {}",
            millis(config.statement_timeout),
            millis(config.lock_timeout),
        );
        text.push_str(&limits);
    }
    if role == Role::Writer {
        let limits = format!(
            "; set idle_in_transaction_session_timeout = {}; set plan_cache_mode = force_generic_plan",
            millis(SILENCE)
        );
        text.push_str(&limits);
    }
    text
}
