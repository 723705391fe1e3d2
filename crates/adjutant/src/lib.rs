#![doc = include_str!("../../../README.md")]
//!
//! # In this crate
//!
//! The libraries under one name, and [`open_store`], which finds the engine behind a URL. Whoever needs only a
//! part depends on that part: every module here is a crate of its own.

mod open;

pub use adjutant_budget as budget;
pub use adjutant_core as core;
#[cfg(feature = "harness")]
pub use adjutant_endpoint as endpoint;
pub use adjutant_events as events;
pub use adjutant_executor as executor;
#[cfg(feature = "harness")]
pub use adjutant_harness as harness;
#[cfg(feature = "harness")]
pub use adjutant_llm as llm;
#[cfg(feature = "process")]
pub use adjutant_logs as logs;
#[cfg(feature = "harness")]
pub use adjutant_mcp as mcp;
#[cfg(feature = "postgres")]
pub use adjutant_postgres as postgres;
#[cfg(feature = "process")]
pub use adjutant_process as process;
pub use adjutant_queue as queue;
#[cfg(feature = "redis")]
pub use adjutant_redis as redis;
#[cfg(feature = "sqlite")]
pub use adjutant_sqlite as sqlite;
pub use adjutant_state as state;
pub use adjutant_store as store;
#[cfg(feature = "harness")]
pub use adjutant_telemetry as telemetry;
#[cfg(feature = "harness")]
pub use adjutant_tools as tools;

pub use adjutant_core::{
    Agent, AgentError, AgentFn, AgentKey, AgentRegistry, ApprovalRequest, ChildOutcome, Decision,
    Delegate, Error, ErrorInfo, Event, EventType, FailurePolicy, Fingerprint, Json, Limits,
    Message, NewEvent, Outcome, Result, RetryPolicy, RunContext, RunId, RunInput, RunResult,
    RunState, Timestamp, WorkerId,
};
pub use adjutant_executor::{AgentRunner, Drained, RunnerConfig, StepPlan};
pub use adjutant_queue::{
    Command, NewRun, RunFilter, RunLookup, RunQueue, RunRecord, RunView, Submitted,
};
pub use adjutant_store::{ComposedStore, MemoryStore, Migrated, Migration, Store};

/// What stops [`AgentRunner::run_loop`], and what reads [`events::tail`].
pub use {futures::StreamExt, tokio_util::sync::CancellationToken};

pub use crate::open::{StoreOptions, Synchronous, has_password, open_store, shown_url};

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/embedding.md")]
mod guide {}
