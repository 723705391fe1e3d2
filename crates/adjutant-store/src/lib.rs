//! Queue, state and events of one database under one atomic [`Store::commit`].
//!
//! [`MemoryStore`] is the simplest engine and the model that the others are compared with. Every engine
//! passes the cases of `conformance`.

mod port;

pub use crate::port::{CheckReport, Commit, Committed, Fork, Op, Store, StoreInfo};
