//! Write an agent for Adjutant as a program of its own.
//!
//! The program talks to the runtime over stdin and stdout, or over the socket that `AGENT_WIRE` names
//! ([the agent wire](adjutant_wire)), and gets what agents inside
//! the runtime get: steps that are not done twice, sleeps and signals that survive restarts, approvals, checkpoints,
//! events, child runs. It is plain blocking code; a reader thread keeps the runtime answered while it works.
//!
//! ```no_run
//! use std::{process::ExitCode, time::Duration};
//!
//! fn main() -> ExitCode {
//!     adjutant_agent::serve("word-report", |run| {
//!         let words = run.step("count", || Ok(std::fs::read_to_string("book.txt")?.split_whitespace().count()))?;
//!         run.progress(50.0, "counted")?;
//!         run.sleep("cool down", Duration::from_secs(3600))?;
//!         Ok(format!("{words} words"))
//!     })
//! }
//! ```
//!
//! # Two rules
//!
//! - **Stdout belongs to the protocol.** `println!` there corrupts it; print to stderr, which the runtime keeps as the
//!   agent's log, and give child processes another stdout than your own.
//! - **Pass [`RunError`] on with `?`.** [`RunError::Parked`] is how a run that has to wait for hours leaves its
//!   process: the function ends, and a later attempt begins at the top, where finished steps return their recorded
//!   results. So what happens outside of steps should be cheap and come out the same each time.

mod attempt;
mod heartbeat;
mod keys;
mod link;
mod reader;
mod transport;
#[cfg(feature = "websocket")]
mod websocket;

mod error;
mod routed;
mod run;
mod server;
mod step;
mod suspend;
mod wait;

/// The protocol's own types, where they appear in this crate's functions.
pub use adjutant_wire as wire;

pub use crate::{
    attempt::RunHandle,
    error::{AgentError, RunError, RunResult},
    run::Run,
    server::{Server, serve},
    step::{RetryPolicy, StepBuilder},
    suspend::Suspension,
    wait::{Approval, Decision},
};
