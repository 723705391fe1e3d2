//! An empty store of any engine, and as many handles on it as a test wants.

use std::{any::Any, sync::Arc};

use adjutant_core::{Clock, RunId, SystemClock};
use adjutant_postgres::PostgresConfig;
use adjutant_redis::RedisConfig;
use adjutant_servers::{RedisServer, SharedPostgres};
use adjutant_sqlite::{EngineStore, SqliteConfig, Synchronous};
use adjutant_store::{MemoryConfig, MemoryStore, Store};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
    Redis,
}

/// Handles on one store, each with its own writer and its own caches.
pub struct Place {
    pub handles: Vec<Arc<dyn Store>>,
    /// What has to live as long as they.
    pub keep: Box<dyn Any + Send + Sync>,
}

impl Place {
    /// A memory store, of which there can be one handle.
    pub fn memory(clock: Arc<dyn Clock>) -> Self {
        let store = MemoryStore::with(MemoryConfig {
            clock,
            ..MemoryConfig::default()
        });
        Self {
            handles: vec![Arc::new(store)],
            keep: Box::new(()),
        }
    }

    /// A new store of this engine. Without a clock, the time is the one that the engine takes by default.
    pub async fn new(engine: Engine, handles: usize, clock: Option<Arc<dyn Clock>>) -> Self {
        match engine {
            Engine::Sqlite => sqlite(handles, clock).await,
            Engine::Postgres => postgres(handles, clock).await,
            Engine::Redis => redis(handles, clock).await,
        }
    }
}

async fn open<F: Future<Output = adjutant_core::Result<EngineStore>>>(
    handles: usize,
    open: impl Fn() -> F,
) -> Vec<Arc<dyn Store>> {
    let mut opened: Vec<Arc<dyn Store>> = Vec::new();
    for _ in 0..handles {
        opened.push(Arc::new(open().await.unwrap()));
    }
    opened
}

async fn sqlite(handles: usize, clock: Option<Arc<dyn Clock>>) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let config = SqliteConfig {
        clock: clock.unwrap_or_else(|| Arc::new(SystemClock)),
        // Nothing here pulls the plug, so nothing has to be synced.
        synchronous: Synchronous::Off,
        ..SqliteConfig::at(dir.path().join("store.db"))
    };
    Place {
        handles: open(handles, || adjutant_sqlite::open(config.clone())).await,
        keep: Box::new(dir),
    }
}

async fn postgres(handles: usize, clock: Option<Arc<dyn Clock>>) -> Place {
    let server = SharedPostgres::get().unwrap();
    let mut config = PostgresConfig::parse(&server.url()).unwrap();
    // The server goes soon after the test, and with it everything that it holds.
    config.schema = format!("t{}", RunId::new()).replace('_', "");
    config.clock = clock;
    Place {
        handles: open(handles, || adjutant_postgres::open(config.clone())).await,
        keep: Box::new(server),
    }
}

async fn redis(handles: usize, clock: Option<Arc<dyn Clock>>) -> Place {
    let server = RedisServer::start().unwrap();
    let mut config = RedisConfig::parse(&server.url()).unwrap();
    config.clock = clock;
    Place {
        handles: open(handles, || adjutant_redis::open(config.clone())).await,
        keep: Box::new(server),
    }
}
