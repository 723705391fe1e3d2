//! The process itself: health, shutdown, logs, giving up on a request.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    content::Empty,
    dispatch::{Call, Notice},
    envelope::RequestId,
    method::Method,
};

/// Is the reader alive? Host → agent. Answered from the reader, also while the agent works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(from = "Empty")]
pub struct HealthCheck {}

impl From<Empty> for HealthCheck {
    fn from(_: Empty) -> Self {
        Self {}
    }
}

impl Call for HealthCheck {
    const METHOD: &'static str = Method::HEALTH_CHECK;
    type Answer = HealthAnswer;
}

/// The agent's word on its health.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HealthAnswer {
    /// How it is.
    pub status: HealthStatus,
    /// The runs it is working on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunHealth>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Well.
    #[default]
    Ok,
    /// Works, but not as it should.
    Degraded,
}

/// One run in a health answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RunHealth {
    /// The run.
    pub run_id: String,
    /// Milliseconds since its code last called the library; automatic heartbeats do not count.
    #[serde(default)]
    pub last_progress_ms: u64,
}

/// Finish and exit with 0, host → agent. No new runs; EOF, TERM and KILL follow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Shutdown {
    /// How long the agent has, in milliseconds.
    pub grace_ms: u64,
    /// Why, for people.
    pub reason: String,
}

impl Call for Shutdown {
    const METHOD: &'static str = Method::SHUTDOWN;
    type Answer = Empty;
}

/// Gives up on an open request, either way; that request then fails with -32800.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CancelRequest {
    /// The id that the sender of this notification gave the request.
    pub request_id: RequestId,
}

impl Notice for CancelRequest {
    const METHOD: &'static str = Method::CANCEL_REQUEST;
}

/// A log line, agent → host. What the process writes to stderr is kept as well, as level `info`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// How important.
    #[serde(default)]
    pub level: LogLevel,
    /// The text.
    pub message: String,
    /// The run it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// More, for programs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

impl Notice for Log {
    const METHOD: &'static str = Method::LOG;
}

/// How important a log line is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// For whoever debugs the agent.
    Debug,
    /// Ordinary.
    #[default]
    Info,
    /// Unusual.
    Warn,
    /// Wrong.
    Error,
}
