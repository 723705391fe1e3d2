//! A schema of its own for every case, on a server that all cases share.

#![allow(dead_code, reason = "each test binary uses some of it")]

pub mod proxy;

use std::{error::Error as _, fmt::Write, path::PathBuf, sync::Arc, time::Duration};

use adjutant_core::{Error, Json, RunInput, RunResult, WorkerId};
use adjutant_postgres::{EngineStore, PgConnectOptions, PostgresConfig};
use adjutant_queue::{AgentFilter, ClaimRequest, Disposition, Lease, NewRun, RunQueue};
use adjutant_servers::SharedPostgres;
use adjutant_store::{
    Commit, Op,
    conformance::{Fixture, ManualClock},
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

/// A schema that is dropped with the value.
pub struct Place {
    pub config: PostgresConfig,
    _server: SharedPostgres,
}

impl Place {
    pub fn new() -> Self {
        let server = SharedPostgres::get().unwrap();
        let mut config = PostgresConfig::parse(&server.url()).unwrap();
        config.schema = format!("t{}", adjutant_core::RunId::new()).replace('_', "");
        Self {
            config,
            _server: server,
        }
    }

    pub async fn open(&self) -> EngineStore {
        adjutant_postgres::open(self.config.clone()).await.unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (options, schema) = (self.config.connect.clone(), self.config.schema.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut conn = options.connect().await.unwrap();
                let text = format!(
                    "set client_min_messages = error; set lock_timeout = '10s'; \
                     drop schema if exists \"{schema}\" cascade"
                );
                conn.execute(AssertSqlSafe(text)).await.unwrap();
                conn.close().await.unwrap();
            });
        });
        // A test that has failed already need not fail again.
        let _dropped = dropped.join();
    }
}

/// A new store in a schema of its own.
pub async fn fresh() -> Fixture {
    let clock = ManualClock::default();
    let mut place = Place::new();
    place.config.clock = Some(Arc::new(clock.clone()));
    Fixture {
        engine: Arc::new(place.open().await),
        clock,
        keep: Box::new(place),
    }
}

/// A connection beside the store, in its schema.
pub async fn beside(config: &PostgresConfig) -> PgConnection {
    let options: PgConnectOptions = config.connect.clone().application_name("beside");
    let mut conn = options.connect().await.unwrap();
    run(
        &mut conn,
        format!("set search_path to \"{}\"", config.schema),
    )
    .await;
    conn
}

pub async fn run(conn: &mut PgConnection, sql: impl Into<String>) {
    conn.execute(AssertSqlSafe(sql.into())).await.unwrap();
}

pub fn new_run() -> NewRun {
    NewRun::new("a", &RunInput::text("hello")).unwrap()
}

pub fn claim(wait: Duration) -> ClaimRequest {
    ClaimRequest {
        worker: WorkerId::new(),
        capacity: 1,
        agents: AgentFilter::Any,
        lease_ttl: Duration::from_secs(60),
        wait,
    }
}

pub async fn submit(store: &EngineStore) -> adjutant_core::RunId {
    store.submit(vec![new_run()]).await.unwrap()[0].run
}

pub fn end(lease: Lease) -> Commit {
    Commit {
        lease,
        ops: vec![Op::Checkpoint(Json::from("half"))],
        end: Some(Disposition::Succeeded(RunResult::output("done"))),
    }
}

/// Waits for something to become true, for as long as a test may take.
pub async fn until<F: Future<Output = bool>>(mut is: impl FnMut() -> F) {
    while !is().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Everything that an error says to people.
pub fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, ": {error}").unwrap();
        source = error.source();
    }
    text
}

/// The socket of the server at this place.
pub fn socket(config: &PostgresConfig) -> PathBuf {
    let folder = config.connect.get_socket().unwrap();
    folder.join(format!(".s.PGSQL.{}", config.connect.get_port()))
}
