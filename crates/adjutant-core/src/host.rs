//! What stands behind a run context: the executor in production, a mock in tests.

use std::{future::Future, pin::Pin, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    AgentError, AgentKey, ApprovalRequest, ConversationId, Decision, Delegate, Error, ErrorInfo,
    Fingerprint, Json, NewEvent, RetryPolicy, RunId, RunState, StepKind, Timestamp,
};

/// A step's body: called once per try with the try's number, from 1.
pub type StepBody<'a> = dyn FnMut(u32) -> Pin<Box<dyn Future<Output = Result<Json, AgentError>> + Send + 'a>>
    + Send
    + 'a;

/// What a host has to know of a step to run it.
#[derive(Debug, Clone, PartialEq)]
pub struct HostStep {
    /// The step's name, without the number that the host adds when the name comes again.
    pub name: String,
    /// What the step does.
    pub kind: StepKind,
    /// Fingerprint of its input, 0 for none.
    pub input: Fingerprint,
    /// Tries within this attempt of the run.
    pub retry: RetryPolicy,
    /// Longest time for one try.
    pub timeout: Option<Duration>,
    /// For people who watch.
    pub description: Option<String>,
}

/// What becomes of a fan-out when a child run does not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailurePolicy {
    /// Wait for all children; the step fails if one of them did.
    #[default]
    All,
    /// The first failure cancels the other children and fails the step.
    FailFast,
    /// Wait for all children and return every outcome, good or bad.
    Settle,
}

/// How a child run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildOutcome {
    /// The child.
    pub run_id: RunId,
    /// Its state at the end.
    pub status: RunState,
    /// Its output, if it succeeded.
    #[serde(default)]
    pub output: Json,
    /// Its failure, if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
}

/// The runtime's side of one attempt at a run. Contract:
///
/// - What an awaited call returned is durable.
/// - A call that has to wait for longer than a moment may never return: the run is suspended and the
///   agent's future dropped; a later attempt gets the answer at once.
/// - After the lease is lost no call writes anything.
#[async_trait]
pub trait RunHost: Send + Sync {
    /// The run.
    fn run_id(&self) -> RunId;
    /// The agent that is being run.
    fn agent(&self) -> &AgentKey;
    /// Which try of the agent this is, from 1.
    fn attempt(&self) -> u32;
    /// The fencing number of this attempt's lease.
    fn epoch(&self) -> u64;
    /// The run's input, a [`crate::RunInput`] as JSON.
    fn input(&self) -> &Json;
    /// What the submitter attached.
    fn metadata(&self) -> &Json;
    /// The conversation, where there is one.
    fn conversation_id(&self) -> Option<ConversationId>;
    /// The time.
    fn now(&self) -> Timestamp;

    /// Whether the run is to be cancelled.
    fn cancelled(&self) -> bool;
    /// Returns when the run is to be cancelled.
    async fn cancellation(&self);

    /// Appends an event and returns its number.
    async fn emit(&self, event: NewEvent) -> Result<u64, Error>;
    /// Saves the agent's state and returns the checkpoint's number.
    async fn checkpoint(&self, state: Json) -> Result<u64, Error>;
    /// The state saved last, by this attempt or an earlier one.
    fn state(&self) -> Option<Json>;

    /// Returns the step's recorded result, or executes `body` and records it.
    async fn step(&self, step: HostStep, body: &mut StepBody<'_>) -> Result<Json, AgentError>;
    /// Returns once `duration` has passed since the first attempt came here.
    async fn sleep(&self, name: &str, duration: Duration) -> Result<(), AgentError>;
    /// Returns the next signal of this name, or `None` when `timeout` is over first.
    async fn wait_for_signal(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<Option<Json>, AgentError>;
    /// Returns a person's decision.
    async fn request_approval(&self, request: ApprovalRequest) -> Result<Decision, AgentError>;
    /// Runs children to their end and returns their outcomes in order.
    async fn delegate(&self, delegate: Delegate) -> Result<Vec<ChildOutcome>, AgentError>;
}
