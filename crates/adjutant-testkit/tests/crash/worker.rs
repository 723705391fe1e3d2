//! The worker process.

use std::{io::Read, path::PathBuf, sync::Arc, time::Duration};

use adjutant_core::{Result, RetryAdvice};
use adjutant_executor::{AgentRunner, RunnerConfig};
use adjutant_postgres::PostgresConfig;
use adjutant_redis::RedisConfig;
use adjutant_sqlite::{EngineStore, SqliteConfig};
use adjutant_testkit::{FaultPlan, FaultStore, Moment};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::agents;

/// The variable that makes a worker of this binary.
pub const VARIABLE: &str = "CRASH_WORKER";

pub const LEASE_TTL: Duration = Duration::from_millis(400);
const HEARTBEAT: Duration = Duration::from_millis(100);

/// What a worker is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orders {
    /// A URL, or the path of a SQLite file.
    pub store: String,
    pub lines: PathBuf,
    pub concurrency: usize,
    pub kill_before: Option<u64>,
    pub kill_after: Option<u64>,
}

/// Opens any store.
pub async fn open(store: &str) -> Result<EngineStore> {
    if store.starts_with("postgres") {
        adjutant_postgres::open(PostgresConfig::parse(store)?).await
    } else if store.starts_with("redis") {
        adjutant_redis::open(RedisConfig::parse(store)?).await
    } else {
        let config = SqliteConfig {
            busy_timeout: Duration::from_secs(10),
            ..SqliteConfig::at(store)
        };
        adjutant_sqlite::open(config).await
    }
}

pub fn main() {
    let Ok(orders) = std::env::var(VARIABLE) else {
        return;
    };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::INFO)
        .init();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work(orders));
}

async fn work(orders: Orders) {
    let shutdown = CancellationToken::new();
    let ended = shutdown.clone();
    // The end of the input is the end of the worker, also when whoever holds the other end has died.
    std::thread::spawn(move || {
        let _read = std::io::stdin().read(&mut [0]);
        ended.cancel();
    });
    let store = loop {
        match open(&orders.store).await {
            Ok(store) => break store,
            // Its server may be away.
            Err(error) if error.retry() != RetryAdvice::Never => {
                eprintln!("failed to open the store: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    };
    let plan = FaultPlan {
        abort_before: orders.kill_before,
        abort_after: orders.kill_after,
        on_fault: Arc::new(|fault| {
            let moment = match fault.moment {
                Moment::Before => "before",
                Moment::After => "after",
            };
            eprintln!("killed {moment} {:?} {}", fault.call, fault.number);
            let _gone = kill_process(getpid(), Signal::KILL);
        }),
        ..FaultPlan::default()
    };
    let store = Arc::new(FaultStore::new(Arc::new(store), plan));
    let config = RunnerConfig {
        concurrency: orders.concurrency,
        lease_ttl: LEASE_TTL,
        heartbeat_interval: HEARTBEAT,
        drain_grace: Duration::from_secs(2),
        ..RunnerConfig::default()
    };
    let runner = AgentRunner::new(store, agents::registry(&orders.lines), config).unwrap();
    eprintln!("ready");
    runner.run_loop(shutdown).await.unwrap();
}
