//! The agent wire: what Adjutant's runtime (the *host*) and an agent process say to each other.
//!
//! JSON-RPC 2.0, one object a line, usually over the process's stdin and stdout. Either side may send requests. This
//! crate holds the words and the framing, and does no I/O: the host's side lives in `adjutant-process`, the agent's in
//! `adjutant-agent`. The reference for people who write an agent in another language is `docs/reference/agent-wire.md`.
//!
//! ```
//! use adjutant_wire::{Decoder, Frame, HealthCheck, Message, Request, encode};
//!
//! let line = encode(&Message::from(Request::call(7, &HealthCheck {})?));
//! let mut decoder = Decoder::default();
//! decoder.push(line.as_bytes());
//! assert!(matches!(decoder.next_frame(), Some(Frame::Message(Message::Request(_)))));
//! # Ok::<(), adjutant_wire::Error>(())
//! ```
//!
//! A message's type says its method and its answer: see [`Call`] and [`Notice`]. What arrives is read into one of
//! [`AgentRequest`], [`AgentNotice`], [`HostRequest`] and [`HostNotice`], which also make the right refusal for a
//! method they do not know.

// Framing and the envelope.
mod codec;
mod envelope;
mod fault;
mod method;

// The messages; `content` is what several of them carry.
mod checkpoint;
mod content;
mod control;
mod initialize;
mod live;
mod routed;
mod run;
mod step;
mod wait;

// From a method and its params to a typed message.
mod dispatch;
mod error;
pub mod exec;
#[cfg(feature = "schema")]
pub mod schema;
pub mod transport;
#[cfg(feature = "websocket")]
pub mod websocket;

pub use crate::{
    checkpoint::{Checkpoint, CheckpointLoad, CheckpointSave, CheckpointSaved},
    codec::{DEFAULT_MAX_LINE_BYTES, Decoder, Frame, MAX_GARBAGE_LINES, encode},
    content::{
        AgentFailure, Content, Empty, RunInput, RunMessage, RunOutput, RunScope, TokenUsage,
    },
    control::{
        CancelRequest, HealthAnswer, HealthCheck, HealthStatus, Log, LogLevel, RunHealth, Shutdown,
    },
    dispatch::{AgentNotice, AgentRequest, Call, HostNotice, HostRequest, Notice},
    envelope::{Message, Notification, Outcome, Request, RequestId, Response},
    error::{Error, Result},
    fault::{ErrorCode, ErrorData, RpcError},
    initialize::{
        AgentCapabilities, AgentDescription, AgentLimits, CheckpointAbility, Endpoints, Hello,
        HostCapabilities, Info, Initialize, Initialized, Instance, Limits, LlmAbility,
        MIN_PROTOCOL_VERSION, PROTOCOL_VERSION, negotiate,
    },
    live::{CallProgress, LlmDelta, ToolCallDelta, ToolsChanged},
    method::Method,
    routed::{
        GeneratedMessage, InputAction, InputAnswer, InputKind, InputRequest, LlmAnswer,
        LlmGenerate, ToolAnswer, ToolDescription, ToolsCall, ToolsList, ToolsPage,
    },
    run::{
        RunBudget, RunCancel, RunEnvironment, RunEvent, RunHeartbeat, RunResult, RunStart,
        RunSteer, StopReason,
    },
    step::{StepBegin, StepDecision, StepEnd, StepTries},
    wait::{
        Child, ChildResult, ChildStatus, Delegate, Delegated, FailurePolicy, Signal, SignalWait,
        Sleep,
    },
};
