//! Opening the store.

use std::{path::Path, sync::Arc};

use adjutant_budget::{Account, Balance, BalanceFilter, OpenReservation};
use adjutant_core::{Clock, Error, Event, Result, RunId};
use adjutant_engine::{Counters, EngineConfig, EngineStore, Reads};
use adjutant_queue::{QueueStats, RunFilter, RunRecord, RunView};
use adjutant_state::{Checkpoint, History};
use adjutant_store::{CheckReport, StoreInfo};
use async_trait::async_trait;

use crate::{
    clock::ServerClock,
    config::PostgresConfig,
    db::Role,
    inspect, listener,
    news::Outbox,
    reader::Readers,
    schema::{self, Server},
    session::Session,
    storage::PostgresStorage,
};

/// Connects, makes or upgrades the tables, and starts the writer on the current runtime.
///
/// Any number of nodes may open the same schema; they share its queue.
///
/// # Errors
/// `Invalid`, `SchemaTooNew`, `ReadOnly`, `StorageFull`, or `Backend` saying what to do.
pub async fn open(config: PostgresConfig) -> Result<EngineStore> {
    config.validate()?;
    let readers = Arc::new(Readers::new(config.clone()));
    let mut keeper = readers.connect(Role::Keeper).await?;
    let server = Server::ask(&mut keeper).await.map_err(|told| told.error)?;
    server.validate(&keeper.location)?;
    schema::migrate(&mut keeper, &config).await?;
    keeper.close().await;
    let weak = server.weaknesses();
    if !weak.is_empty() {
        let settings = weak.join(", ");
        tracing::warn!(%settings, "with the server's settings, acknowledged writes can be lost");
    }

    let counters = Arc::<Counters>::default();
    let server_clock = Arc::<ServerClock>::default();
    let outbox = Arc::new(Outbox::new());
    let session = Session::connect(
        config.clone(),
        Arc::clone(&counters),
        Arc::clone(&server_clock),
    )
    .await?;
    let storage = PostgresStorage::new(session, Arc::clone(&outbox));
    let clock: Arc<dyn Clock> = match &config.clock {
        Some(clock) => Arc::clone(clock),
        None => server_clock,
    };
    let engine = EngineConfig {
        clock,
        limits: config.limits,
        checkpoints_kept: config.checkpoints_kept,
    };
    let reads = PostgresReads {
        readers: Arc::clone(&readers),
        server,
    };
    let store = EngineStore::start(storage, Arc::new(reads), engine, counters);
    listener::start(config, &outbox, readers, store.wake_ups());
    Ok(store)
}

struct PostgresReads {
    readers: Arc<Readers>,
    server: Server,
}

#[async_trait]
impl Reads for PostgresReads {
    async fn view(&self, run: RunId) -> Result<Option<RunView>> {
        self.readers.view(run).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Vec<RunRecord>> {
        self.readers.list(filter).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.readers.stats().await
    }

    async fn history(&self, run: RunId) -> Result<History> {
        self.readers.history(run).await
    }

    async fn checkpoints(&self, run: RunId, limit: usize) -> Result<Vec<Checkpoint>> {
        self.readers.checkpoints(run, limit).await
    }

    async fn last_seq(&self, run: RunId) -> Result<Option<u64>> {
        self.readers.last_seq(run).await
    }

    async fn events(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>> {
        self.readers.events(run, after, limit).await
    }

    async fn open_reservations(&self, run: RunId) -> Result<Vec<OpenReservation>> {
        self.readers.open_reservations(run).await
    }

    async fn balance(&self, account: &Account) -> Result<Option<Balance>> {
        self.readers.balance(account).await
    }

    async fn balances(&self, filter: &BalanceFilter) -> Result<Vec<Balance>> {
        self.readers.balances(filter).await
    }

    fn info(&self) -> StoreInfo {
        StoreInfo {
            engine: "postgres",
            location: self.readers.config.location(),
            durability: self.server.durability(),
            schema: Some(schema::VERSION),
        }
    }

    async fn check(&self) -> Result<CheckReport> {
        inspect::check(&self.readers).await
    }

    async fn backup(&self, _to: &Path) -> Result<()> {
        let schema = &self.readers.config.schema;
        Err(Error::Invalid {
            field: "backup",
            problem: format!(
                "is the server's work: use `pg_dump --schema={schema}`, or `pg_basebackup` for all of it"
            ),
        })
    }

    async fn close(&self) {
        self.readers.close().await;
    }
}
