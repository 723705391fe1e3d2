//! Queue, state and events in one SQLite file: durable on one machine, with nothing to install.
//!
//! All writes go through one connection that groups them: whatever has queued up while the last group
//! was synced becomes the next transaction, and nobody is answered before it is on disk. Reads go
//! through connections of their own.
//!
//! ```no_run
//! use adjutant_core::RunInput;
//! use adjutant_queue::{NewRun, RunQueue};
//! use adjutant_sqlite::SqliteConfig;
//!
//! # async fn example() -> adjutant_core::Result<()> {
//! let store = adjutant_sqlite::open(SqliteConfig::at("runs.db")).await?;
//! store.submit(vec![NewRun::new("greeter", &RunInput::text("hello"))?]).await?;
//! # Ok(())
//! # }
//! ```

mod config;
mod error;

mod schema;

mod history; // how things are stored
mod record;

mod db;
mod sql;

mod reads;
mod writes;

mod ledger;
mod reader;
mod storage;

mod inspect;
mod store;

pub use adjutant_engine::{EngineStore, WriterStats};

pub use crate::{
    config::{SqliteConfig, Synchronous},
    store::open,
};
