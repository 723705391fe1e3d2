//! A server of its own for every case.

#![allow(dead_code, reason = "each test binary uses some of it")]

use std::{sync::Arc, time::Duration};

use adjutant_core::{Json, RunId, RunInput, RunResult, WorkerId};
use adjutant_queue::{AgentFilter, ClaimRequest, Disposition, Lease, NewRun, RunQueue};
use adjutant_redis::{EngineStore, RedisConfig};
use adjutant_servers::{AppendFsync, RedisCluster, RedisServer, RedisSettings};
use adjutant_store::{
    Commit, Op,
    conformance::{Fixture, ManualClock},
};

/// A new store on a server of its own.
pub async fn fresh() -> Fixture {
    let server = durable();
    let mut config = config(&server);
    let clock = ManualClock::default();
    config.clock = Some(Arc::new(clock.clone()));
    Fixture {
        engine: Arc::new(adjutant_redis::open(config).await.unwrap()),
        clock,
        keep: Box::new(server),
    }
}

/// A server that keeps what it has acknowledged.
pub fn durable() -> RedisServer {
    RedisServer::with(RedisSettings {
        fsync: AppendFsync::Always,
        ..RedisSettings::default()
    })
    .unwrap()
}

pub fn config(server: &RedisServer) -> RedisConfig {
    RedisConfig::parse(&server.url()).unwrap()
}

pub async fn open(server: &RedisServer) -> EngineStore {
    adjutant_redis::open(config(server)).await.unwrap()
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

pub async fn submit(store: &EngineStore) -> RunId {
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

/// A new store on a cluster of its own.
pub async fn fresh_on_cluster() -> Fixture {
    let cluster = RedisCluster::with(AppendFsync::Always).unwrap();
    let mut config = RedisConfig::parse(&cluster.url()).unwrap();
    let clock = ManualClock::default();
    config.clock = Some(Arc::new(clock.clone()));
    Fixture {
        engine: Arc::new(adjutant_redis::open(config).await.unwrap()),
        clock,
        keep: Box::new(cluster),
    }
}
