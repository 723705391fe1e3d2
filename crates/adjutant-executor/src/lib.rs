//! Drives runs: claims them, executes their agents, journals what they do, and gives them back.
//!
//! [`AgentRunner`] is the worker. It sees the store's contract and the [`Agent`](adjutant_core::Agent)
//! trait and nothing behind them. [`StepPlan`] runs an ordered or branching list of steps within a run.
//!
//! ```
//! use std::sync::Arc;
//! use adjutant_core::{AgentFn, AgentRegistry, RunInput, RunResult};
//! use adjutant_executor::{AgentRunner, RunnerConfig};
//! use adjutant_queue::{NewRun, RunLookup, RunQueue};
//! use adjutant_store::MemoryStore;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let store = Arc::new(MemoryStore::new());
//! let agents = AgentRegistry::new().with(AgentFn::new("greeter", |ctx| async move {
//!     let text = ctx.step("greet", || async { Ok("hello".to_owned()) }).await?;
//!     Ok(RunResult::output(text.as_str()))
//! }));
//! let runner = AgentRunner::new(store.clone(), agents, RunnerConfig::default())?;
//! let run = store.submit(vec![NewRun::new("greeter", &RunInput::default())?]).await?[0].run;
//! assert!(runner.run_once().await?);
//! assert!(store.get(run).await?.unwrap().run.state.is_terminal());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod config;

mod runner;

mod attempt;
mod control;
mod heartbeat;
mod shared;

mod delegate;
mod effect;
mod host;
mod journal;
mod steering;
mod step;
mod wait;

mod plan;

pub use crate::{
    config::{ConfigError, RunnerConfig},
    plan::{PlanReport, PlannedStep, StepPlan, StepStatus},
    runner::{AgentRunner, Drained},
};
