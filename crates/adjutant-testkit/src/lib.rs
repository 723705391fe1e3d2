//! For tests: virtual time, a run context without a store, and a store that fails on purpose.

mod clock;

mod context;

mod fault;

pub use crate::clock::VirtualClock;
pub use crate::fault::{Failures, Fault, FaultPlan, FaultStore, FaultyCall, Moment};
