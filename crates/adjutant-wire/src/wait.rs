//! Calls that may take days: timers, signals, other agents.
//!
//! The host may answer any of them (and `input/request`) with -31014 *park*: the wait is journaled under its key, and
//! the agent ends its attempt with `{stopReason: "yield"}`. When the wait is over a new attempt makes the same call and
//! is answered at once.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    content::{AgentFailure, Empty, RunInput, RunOutput, RunScope},
    dispatch::Call,
    method::Method,
};

/// A durable timer, agent → host; answered when it is over.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sleep {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// Names the wait in the journal.
    pub key: String,
    /// Counted from the first time the key was used, not from a later attempt's.
    pub seconds: f64,
}

impl Call for Sleep {
    const METHOD: &'static str = Method::SLEEP;
    type Answer = Empty;
}

/// Waits for a signal by name, agent → host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SignalWait {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// Names the wait in the journal.
    pub key: String,
    /// The signal's name.
    pub name: String,
    /// How long at most, from the first use of the key; absent means as long as the run may live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
}

impl Call for SignalWait {
    const METHOD: &'static str = Method::SIGNAL_WAIT;
    type Answer = Option<Signal>;
}

/// A signal that came; null instead of it means that the time was over first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Signal {
    /// What the sender said.
    #[serde(default)]
    pub payload: Value,
}

/// Runs other agents and waits for them, agent → host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Delegate {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// Names the wait in the journal; a later attempt does not start the children again.
    pub key: String,
    /// What to run, all at once.
    pub children: Vec<Child>,
    /// What a child's failure means.
    #[serde(default)]
    pub policy: FailurePolicy,
}

impl Call for Delegate {
    const METHOD: &'static str = Method::DELEGATE;
    type Answer = Delegated;
}

/// One child run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Child {
    /// The agent's key.
    pub agent: String,
    /// What to work on.
    #[serde(default)]
    pub input: RunInput,
    /// Settings.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub params: Value,
}

/// What a child's failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailurePolicy {
    /// Wait for all; then the call fails if one failed.
    #[default]
    All,
    /// The first failure cancels the others and fails the call.
    FailFast,
    /// Wait for all and report each; the call does not fail.
    Settle,
}

/// The children's results, in the order they were asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Delegated {
    /// One per child.
    pub results: Vec<ChildResult>,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChildResult {
    /// The child's run.
    pub run_id: String,
    /// How it ended.
    pub status: ChildStatus,
    /// What it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<RunOutput>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AgentFailure>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChildStatus {
    /// It answered.
    Succeeded,
    /// It failed for good.
    Failed,
    /// It was stopped.
    Cancelled,
    /// It ran out of time.
    TimedOut,
    /// It was set aside after too many attempts.
    Parked,
}
