//! For tests: virtual time, a run context without a store, and a store that fails on purpose.
//!
//! ```
//! use adjutant_core::{AgentFn, RunInput, RunResult};
//! use adjutant_testkit::run_agent_test;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let agent = AgentFn::new("echo", |ctx| async move {
//!     Ok(RunResult::output(ctx.input_messages()[0].text().as_str()))
//! });
//! let (result, ctx) = run_agent_test(&agent, RunInput::text("hello")).await;
//! assert_eq!(result.unwrap().final_output.as_str(), "\"hello\"");
//! assert!(ctx.journal().is_empty());
//! # });
//! ```

mod clock;

mod context;

mod fault;

pub use crate::{
    clock::VirtualClock,
    context::{TestContext, TestContextBuilder, run_agent_test},
    fault::{Failures, Fault, FaultPlan, FaultStore, FaultyCall, Moment, Reaction, Script},
};
