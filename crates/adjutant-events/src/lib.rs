//! The event log of each run: gap-free, readable from any point, and followed without polling.
//!
//! [`EventBus`] is the contract, [`MemoryEventBus`] the simplest engine, [`tail`] follows a run to its
//! end. Every engine passes the cases of `conformance`.
//!
//! ```
//! use std::sync::Arc;
//!
//! use adjutant_core::{EventType, Json, NewEvent, RunId};
//! use adjutant_events::{EventBus, MemoryEventBus, tail};
//! use futures::StreamExt;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> adjutant_core::Result<()> {
//! let (bus, run) = (Arc::new(MemoryEventBus::new()), RunId::new());
//! let facts = [EventType::RunStarted, EventType::RunSucceeded];
//! bus.append(run, facts.map(|fact| NewEvent::new(fact, Json::null())).into()).await?;
//! assert_eq!(tail(bus, run, 0).count().await, 2);
//! # Ok(()) }
//! ```

mod port;

mod memory;
mod tail;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

#[doc(hidden)]
pub use crate::memory::engine;
pub use crate::{
    memory::{EventConfig, MemoryEventBus},
    port::EventBus,
    tail::{TAIL_PAGE, tail},
};
