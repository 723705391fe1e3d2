//! Queue, state and events of one database under one atomic [`Store::commit`].
//!
//! [`MemoryStore`] is the simplest engine and the model that the others are compared with. Every engine
//! passes the cases of `conformance`.
//!
//! ```
//! use adjutant_core::RunInput;
//! use adjutant_queue::{NewRun, RunLookup, RunQueue};
//! use adjutant_store::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> adjutant_core::Result<()> {
//! let store = MemoryStore::new();
//! let run = NewRun::new("greeter", &RunInput::text("hello"))?;
//! let again = store.submit(vec![run.clone(), run]).await?;
//! assert!(again[0].created && !again[1].created);
//! assert_eq!(store.stats().await?.ready, 1);
//! # Ok(()) }
//! ```

mod package;
mod port;

mod composed;
mod memory;

mod migrate;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use crate::{
    composed::ComposedStore,
    memory::{MemoryConfig, MemoryStore},
    migrate::{Migrated, Migration},
    package::Package,
    port::{CheckReport, Commit, Committed, Fork, Op, Store, StoreInfo},
};
