//! Opening the store.

use std::{path::Path, sync::Arc};

use adjutant_budget::{Account, Balance, BalanceFilter, OpenReservation};
use adjutant_core::{Clock, Error, Event, Result, RunId};
use adjutant_engine::{Counters, EngineConfig, EngineStore, Reads};
use adjutant_queue::{QueueStats, RunFilter, RunRecord, RunView};
use adjutant_state::{Checkpoint, History};
use adjutant_store::{CheckReport, StoreInfo};
use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::{
    clock::ServerClock,
    config::RedisConfig,
    error::from_redis,
    inspect,
    keys::SCHEMA,
    link::{Ear, Link},
    news::{Heard, Listener},
    server::{self, Server},
    storage::RedisStorage,
};

/// Connects, looks whether the server can be relied on, and starts the writer on the current runtime.
///
/// Any number of processes may open the same prefix; they share its queue.
///
/// # Errors
/// `Invalid`, `SchemaTooNew`, `ReadOnly`, `StorageFull`, or `Backend` saying what to do.
pub async fn open(config: RedisConfig) -> Result<EngineStore> {
    config.validate()?;
    let clock = Arc::new(ServerClock::new(config.clock.clone()));
    let reader = Link::new(&config, Arc::clone(&clock), None)?;
    let server = server::open(&reader).await?;
    let weak = server.weaknesses();
    if !weak.is_empty() {
        let settings = weak.join("; ");
        tracing::warn!(%settings, "with the server's settings, acknowledged writes can be lost");
    }

    let counters = Arc::<Counters>::default();
    let link = Link::new(&config, Arc::clone(&clock), Some(Arc::clone(&counters)))?;
    let mut writer = [0; 8];
    writer.copy_from_slice(&RunId::new().as_bytes()[8..]);
    let name = hex(&writer);
    let heard = Arc::<Heard>::default();
    let ear = Ear::new(&config)
        .map_err(|error| from_redis(error, "open the store", reader.location()))?;
    let keys = reader.keys().clone();
    // The listener needs the store to tell it, and the store the listener to end it.
    let (tell, told) = oneshot::channel();
    let (teller, ears) = (name.clone(), Arc::clone(&heard));
    let listening = tokio::spawn(async move {
        if let Ok(wake_ups) = told.await {
            let listener = Listener {
                ear,
                keys,
                writer: teller,
                heard: ears,
                wake_ups,
            };
            listener.run().await;
        }
    });
    let storage = RedisStorage::new(
        link,
        Arc::clone(&clock),
        heard,
        listening.abort_handle(),
        writer,
        name,
        &config,
    );
    let engine = EngineConfig {
        clock: clock as Arc<dyn Clock>,
        limits: config.limits,
        checkpoints_kept: config.checkpoints_kept,
    };
    let reads = Arc::new(RedisReads {
        link: reader,
        server,
    });
    let store = EngineStore::start(storage, reads, engine, counters);
    let _ended = tell.send(store.wake_ups());
    Ok(store)
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<String>().into_bytes()
}

struct RedisReads {
    link: Link,
    server: Server,
}

#[async_trait]
impl Reads for RedisReads {
    async fn view(&self, run: RunId) -> Result<Option<RunView>> {
        self.link.view(run).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Vec<RunRecord>> {
        self.link.list(filter).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.link.stats().await
    }

    async fn history(&self, run: RunId) -> Result<History> {
        self.link.history(run).await
    }

    async fn checkpoints(&self, run: RunId, limit: usize) -> Result<Vec<Checkpoint>> {
        self.link.checkpoints(run, limit).await
    }

    async fn last_seq(&self, run: RunId) -> Result<Option<u64>> {
        self.link.last_seq(run).await
    }

    async fn events(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>> {
        self.link.events(run, after, limit).await
    }

    async fn open_reservations(&self, run: RunId) -> Result<Vec<OpenReservation>> {
        self.link.open_reservations(run).await
    }

    async fn balance(&self, account: &Account) -> Result<Option<Balance>> {
        self.link.balance(account).await
    }

    async fn balances(&self, filter: &BalanceFilter) -> Result<Vec<Balance>> {
        self.link.balances(filter).await
    }

    fn info(&self) -> StoreInfo {
        StoreInfo {
            engine: "redis",
            location: self.link.location().to_owned(),
            durability: self.server.durability(),
            schema: Some(SCHEMA),
        }
    }

    async fn check(&self) -> Result<CheckReport> {
        inspect::check(&self.link).await
    }

    async fn backup(&self, _to: &Path) -> Result<()> {
        Err(Error::Invalid {
            field: "backup",
            problem: "is the server's work: use `redis-cli --rdb FILE`, or `BGSAVE` on the server"
                .to_owned(),
        })
    }

    async fn close(&self) {
        self.link.close().await;
    }
}
