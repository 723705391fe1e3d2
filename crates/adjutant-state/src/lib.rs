//! What a run has done so far: its journal of steps and its checkpoints.
//!
//! [`StateStore`] is the contract, [`MemoryStateStore`] the simplest engine. Every engine passes the
//! cases of `conformance`.

mod port;

pub use crate::port::{Checkpoint, DEFAULT_CHECKPOINTS_KEPT, History, StateStore, StateWrite};
