//! Queue, state and events on Redis: standalone, Sentinel or Cluster.
//!
//! ```no_run
//! # async fn open() -> adjutant_core::Result<()> {
//! let config = adjutant_redis::RedisConfig::parse("redis://127.0.0.1/?prefix=adjutant")?;
//! let store = adjutant_redis::open(config).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A transaction reads what it needs, decides in this process, and writes with one script that first looks whether
//! what was read is still so: whoever comes second tries again. All keys of a store have one hash tag, so that one
//! script may touch everything of a transaction on a cluster too. `keys.rs` says what is where.

mod config;
mod error;
mod url;

mod keys; // what is where
mod record;
mod shapes;
mod words;

mod clock;
mod link; // the way to the server
mod reply;
mod script;
mod server;

mod ledger;
mod prune;
mod storage;
mod transaction;
mod writes;

mod news; // what other processes tell

mod inspect;
mod reads;
mod store;

pub use adjutant_engine::{EngineStore, WriterStats};

pub use crate::{
    config::{RedisConfig, Topology},
    store::open,
};
