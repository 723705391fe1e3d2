//! The event log of each run: gap-free, readable from any point, and followed without polling.
//!
//! [`EventBus`] is the contract, [`MemoryEventBus`] the simplest engine, [`tail`] follows a run to its
//! end. Every engine passes the cases of `conformance`.

mod port;

pub use crate::port::EventBus;
