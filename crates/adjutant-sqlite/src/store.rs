//! Opening the store.

use std::{path::Path, sync::Arc};

use adjutant_budget::{Account, Balance, BalanceFilter, OpenReservation};
use adjutant_core::{Event, Result, RunId};
use adjutant_engine::{EngineConfig, EngineStore, Reads};
use adjutant_queue::{QueueStats, RunFilter, RunRecord, RunView};
use adjutant_state::{Checkpoint, History};
use adjutant_store::{CheckReport, StoreInfo};
use async_trait::async_trait;

use crate::{
    config::{SqliteConfig, Synchronous},
    db::Db,
    inspect,
    reader::Readers,
    reads, schema,
    storage::{Opened, SqliteStorage, UNKNOWN},
    writes::Joined,
};

/// Opens the file, makes or upgrades its tables, and starts the writer on the current runtime.
///
/// Several processes may open the same file; they share its queue.
///
/// # Errors
/// `SchemaTooNew`, `Corrupt`, `ReadOnly`, `StorageFull`, or `Backend`.
pub async fn open(config: SqliteConfig) -> Result<EngineStore> {
    let mut db = Db::writer(&config).await?;
    schema::migrate(db.raw(), &config.path).await?;
    let counters = Arc::clone(&db.counters);
    let engine = EngineConfig {
        clock: Arc::clone(&config.clock),
        limits: config.limits,
        checkpoints_kept: config.checkpoints_kept,
    };
    let storage = SqliteStorage {
        db,
        config: config.clone(),
        joined: Joined::default(),
        version: UNKNOWN,
        generation: UNKNOWN,
        opened: Opened::No,
    };
    let reads = Arc::new(SqliteReads {
        readers: Readers::new(config.clone()),
        config,
    });
    Ok(EngineStore::start(storage, reads, engine, counters))
}

struct SqliteReads {
    readers: Readers,
    config: SqliteConfig,
}

#[async_trait]
impl Reads for SqliteReads {
    async fn view(&self, run: RunId) -> Result<Option<RunView>> {
        self.readers.get().await?.view(run).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Vec<RunRecord>> {
        self.readers.get().await?.list(filter).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.readers.get().await?.stats().await
    }

    async fn history(&self, run: RunId) -> Result<History> {
        reads::history(self.readers.get().await?.db()?, run).await
    }

    async fn checkpoints(&self, run: RunId, limit: usize) -> Result<Vec<Checkpoint>> {
        reads::checkpoints(self.readers.get().await?.db()?, run, limit).await
    }

    async fn last_seq(&self, run: RunId) -> Result<Option<u64>> {
        self.readers.get().await?.last_seq(run).await
    }

    async fn events(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>> {
        self.readers.get().await?.events(run, after, limit).await
    }

    async fn open_reservations(&self, run: RunId) -> Result<Vec<OpenReservation>> {
        self.readers.get().await?.open_reservations(run).await
    }

    async fn balance(&self, account: &Account) -> Result<Option<Balance>> {
        self.readers.get().await?.balance(account).await
    }

    async fn balances(&self, filter: &BalanceFilter) -> Result<Vec<Balance>> {
        self.readers.get().await?.balances(filter).await
    }

    fn info(&self) -> StoreInfo {
        let durability = match self.config.synchronous {
            Synchronous::Full => "a loss of power",
            Synchronous::Normal => {
                "a crash of the process; a loss of power may take the last moments"
            }
            Synchronous::Off => "a crash of the process; a loss of power may damage the file",
        };
        StoreInfo {
            engine: "sqlite",
            location: self.config.location(),
            durability: durability.to_owned(),
            schema: Some(schema::VERSION),
        }
    }

    async fn check(&self) -> Result<CheckReport> {
        inspect::check(&self.readers).await
    }

    async fn backup(&self, to: &Path) -> Result<()> {
        inspect::backup(&self.config, to).await
    }

    async fn close(&self) {
        self.readers.close().await;
    }
}
