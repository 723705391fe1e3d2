//! The words every part of Adjutant shares: ids, the run state machine, messages, events, errors with
//! retry advice, the [`Agent`] trait and its [`RunContext`], and the clock.
//!
//! Nothing here does I/O or names a runtime, an engine or a protocol.
//!
//! ```
//! use adjutant_core::{RunId, RunState, Transition};
//!
//! let run = RunId::new();
//! assert!(run.to_string().starts_with("run_"));
//! let state = RunState::Pending.apply(Transition::Claimed)?;
//! assert_eq!(state, RunState::Running);
//! # Ok::<(), adjutant_core::IllegalTransition>(())
//! ```

mod id_map;
mod ids;
mod json;
mod limits;
mod lineage;
mod time;

mod state;

mod message;
mod model;
mod tool;
mod usage;

mod failure;
mod retry;

mod event;
mod event_type;

mod step;

mod run;

mod agent;
mod context;
mod host;
mod registry;

mod error;

pub use crate::{
    agent::{Agent, AgentError, AgentFn, AgentKey},
    context::{ApprovalRequest, Decision, Delegate, RunContext, StepBuilder},
    error::{Error, ErrorCode, Result, RetryAdvice},
    event::{Event, NewEvent, Visibility},
    event_type::EventType,
    failure::{EFFECT_INDETERMINATE, ErrorInfo},
    host::{ChildOutcome, FailurePolicy, HostStep, OnInterrupt, RunHost, STEER_SIGNAL, StepBody},
    id_map::{IdHasher, IdMap, IdSet},
    ids::{ConversationId, ParseIdError, RunId, WorkerId},
    json::{Fingerprint, Json},
    limits::Limits,
    lineage::{Lineage, RESERVED_METADATA},
    message::{Content, ContentPart, Message, Role, ToolCall},
    model::{
        DeltaSink, FinishReason, ModelCall, ModelDelta, ModelRequest, ModelResponse,
        ResponseFormat, TokenUsage, ToolChoice,
    },
    registry::AgentRegistry,
    retry::RetryPolicy,
    run::{Artifact, Outcome, RunInput, RunResult},
    state::{IllegalTransition, RunState, Transition},
    step::{Intent, Resolution, StepKind, StepOutcome, StepRecord},
    time::{Clock, SystemClock, Timestamp},
    tool::{Effect, ToolAnswer, ToolSpec, ToolUse},
    usage::{BudgetLeft, Usage},
};
