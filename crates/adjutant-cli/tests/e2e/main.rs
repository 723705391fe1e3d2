//! The built binary, used as its users use it: real agents, real processes, real signals, a store on disk.

// Helpers of tests are no tests to clippy, and may stop at the first surprise all the same.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

mod approvals;
mod backup;
mod budgets;
mod conformance;
mod control;
mod crash;
mod editing;
mod effects;
mod errors;
mod events;
mod instances;
mod isolation;
mod logs;
mod mcp;
mod migrate;
mod output;
mod parked;
mod processes;
mod running;
mod sdk;
mod secrets;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod servers;
mod services;
mod turns;
