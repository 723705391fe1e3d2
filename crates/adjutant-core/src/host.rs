//! What stands behind a run context: the executor in production, a mock in tests.

use std::{future::Future, pin::Pin, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    AgentError, AgentKey, ApprovalRequest, BudgetLeft, ConversationId, Decision, Delegate,
    DeltaSink, Error, ErrorInfo, Fingerprint, Json, Message, ModelCall, ModelResponse, NewEvent,
    RetryPolicy, RunId, RunState, StepKind, Timestamp, ToolAnswer, ToolSpec, ToolUse, Usage,
};

/// The signal that tells a run at work what people say to it; its payload is a list of messages. No wait takes it.
pub const STEER_SIGNAL: &str = "adjutant.steer";

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
    /// What to do when a crash left open whether the body has happened.
    pub on_interrupt: OnInterrupt,
}

impl HostStep {
    /// A step without input that is tried once, for as long as it takes, and simply repeated after a crash.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: StepKind) -> Self {
        Self {
            name: name.into(),
            kind,
            input: Fingerprint(0),
            retry: RetryPolicy::never(),
            timeout: None,
            description: None,
            on_interrupt: OnInterrupt::Repeat,
        }
    }

    /// Whether the intent is recorded before the body begins.
    #[must_use]
    pub fn intends(&self) -> bool {
        self.on_interrupt != OnInterrupt::Repeat
    }
}

/// What becomes of a step that was begun and has no recorded result, since a crash came between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnInterrupt {
    /// It is executed again.
    #[default]
    Repeat,
    /// The intent is recorded before the step begins; after a crash a person says what happened.
    Ask,
    /// The intent is recorded before the step begins; after a crash the step has failed.
    Fail,
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
    /// Appends an event together with whatever is written next; a crash before that loses it.
    fn note(&self, event: NewEvent);
    /// Saves the agent's state and returns the checkpoint's number.
    async fn checkpoint(&self, state: Json) -> Result<u64, Error>;
    /// The state saved last, by this attempt or an earlier one.
    fn state(&self) -> Option<Json>;

    /// Returns the step's recorded result, or executes `body` and records it.
    async fn step(&self, step: HostStep, body: &mut StepBody<'_>) -> Result<Json, AgentError>;
    /// Whether the next step of this name has a recorded result, children that have been begun, or an intent whose outcome
    /// is open: what it costs has been paid for, unless a person has it executed again.
    fn is_recorded(&self, _name: &str) -> bool {
        false
    }
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

    /// The tools that the run may call. The list is the same throughout an attempt.
    async fn tools(&self) -> Result<Vec<ToolSpec>, AgentError> {
        Ok(Vec::new())
    }
    /// Calls a tool, or returns the call's recorded answer. A failure of the tool itself is an answer, see
    /// [`ToolAnswer::is_error`].
    async fn call_tool(&self, call: ToolUse) -> Result<ToolAnswer, AgentError> {
        Err(AgentError::permanent(
            "tool_unavailable",
            format!("there is no tool `{}`: this agent has no tools", call.name),
        ))
    }
    /// Asks a model, or returns the recorded answer of this call; `deltas` sees it while it is made.
    async fn generate(
        &self,
        _call: ModelCall,
        _deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse, AgentError> {
        Err(AgentError::permanent(
            "model_unavailable",
            "this agent has no model; name one with `model` in its agent.yaml",
        ))
    }
    /// What models and tools of this run have taken so far, earlier attempts included.
    fn usage(&self) -> Usage {
        Usage::default()
    }

    /// What people have said to the run with the signal [`STEER_SIGNAL`], before this attempt or during it, without the first
    /// `seen` messages; waits until there is something. Dropping the future loses nothing.
    async fn steering(&self, _seen: usize) -> Result<Vec<Message>, Error> {
        std::future::pending().await
    }

    /// When this attempt's time is over, where there is a limit.
    fn deadline(&self) -> Option<Timestamp> {
        None
    }
    /// What is left of the run's budget, where it has one.
    fn budget_left(&self) -> BudgetLeft {
        BudgetLeft::default()
    }
    /// Environment variables for programs that work on this attempt, such as the address and token of an endpoint for
    /// model calls. Values may be secrets of the attempt. Asked once, when the attempt begins.
    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}
