//! What an agent sees of its run.

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    AgentError, AgentKey, ChildOutcome, ConversationId, DeltaSink, Error, ErrorInfo, EventType,
    FailurePolicy, HostStep, Json, Lineage, Message, ModelCall, ModelRequest, ModelResponse,
    NewEvent, OnInterrupt, RetryPolicy, RunHost, RunId, RunInput, StepKind, Timestamp, ToolAnswer,
    ToolSpec, ToolUse, Usage,
};

/// An agent's view of the run it works on. Cheap to clone.
///
/// ```
/// use adjutant_core::{AgentError, RunContext, RunResult};
///
/// async fn run(ctx: &RunContext) -> Result<RunResult, AgentError> {
///     let words = ctx.step("count", || async { Ok(42) }).await?; // done once, even across crashes
///     ctx.checkpoint(&words).await?;
///     Ok(RunResult::output(serde_json::json!({ "words": words })))
/// }
/// ```
#[derive(Clone)]
pub struct RunContext {
    host: Arc<dyn RunHost>,
    input: Arc<OnceLock<RunInput>>,
}

impl fmt::Debug for RunContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunContext")
            .field("run_id", &self.run_id())
            .finish_non_exhaustive()
    }
}

impl RunContext {
    /// The view on a host.
    #[must_use]
    pub fn new(host: Arc<dyn RunHost>) -> Self {
        Self {
            host,
            input: Arc::new(OnceLock::new()),
        }
    }

    /// The run.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.host.run_id()
    }

    /// The agent's own key.
    #[must_use]
    pub fn agent_key(&self) -> &AgentKey {
        self.host.agent()
    }

    /// Which try of the agent this is, from 1. Waking from a wait is no new try.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.host.attempt()
    }

    /// The fencing number of this attempt, for agents that write to systems which can check it.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.host.epoch()
    }

    /// The conversation that the run belongs to.
    #[must_use]
    pub fn conversation_id(&self) -> Option<ConversationId> {
        self.host.conversation_id()
    }

    /// The whole input.
    #[must_use]
    pub fn input(&self) -> &RunInput {
        // The store checks inputs at the door, so the fallback is for hosts that do not.
        self.input
            .get_or_init(|| self.host.input().to().unwrap_or_default())
    }

    /// The input's messages.
    #[must_use]
    pub fn input_messages(&self) -> &[Message] {
        &self.input().messages
    }

    /// The run's settings.
    #[must_use]
    pub fn params(&self) -> &Json {
        &self.input().params
    }

    /// Reads the input's data as a `T`.
    ///
    /// # Errors
    /// A permanent `invalid_input` failure that says which field is wrong.
    pub fn input_data<T: DeserializeOwned>(&self) -> Result<T, AgentError> {
        self.input().data.to().map_err(|error| {
            AgentError::permanent("invalid_input", format!("the input's data: {error}"))
        })
    }

    /// What the submitter attached.
    #[must_use]
    pub fn metadata(&self) -> &Json {
        self.host.metadata()
    }

    /// The run's place in its tree of delegations.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        Lineage::of(self.run_id(), self.metadata())
    }

    /// The runtime's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.host.now()
    }

    /// Whether the run is to be cancelled; an agent that sees it should tidy up and return.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.host.cancelled()
    }

    /// Returns when the run is to be cancelled.
    pub async fn cancellation(&self) {
        self.host.cancellation().await;
    }

    /// Appends an event and returns its number. Durable when it returns.
    ///
    /// # Errors
    /// When the event cannot be written.
    pub async fn emit(
        &self,
        event_type: impl Into<EventType> + Send,
        payload: impl Into<Json> + Send,
    ) -> Result<u64, Error> {
        self.host.emit(NewEvent::new(event_type, payload)).await
    }

    /// Tells the user something.
    ///
    /// # Errors
    /// When the event cannot be written.
    pub async fn emit_user_message(&self, text: &str) -> Result<u64, Error> {
        let payload = json!({ "role": "assistant", "content": text });
        self.emit(EventType::AssistantMessage, payload).await
    }

    /// Reports a failure that does not end the run.
    ///
    /// # Errors
    /// When the event cannot be written.
    pub async fn emit_error(&self, error: &ErrorInfo) -> Result<u64, Error> {
        self.emit(
            EventType::Error,
            Json::from_value(error).unwrap_or_default(),
        )
        .await
    }

    /// Says how far the run is; `percent` is clamped to 0..=100.
    ///
    /// # Errors
    /// When the event cannot be written.
    pub async fn progress(&self, percent: f64, note: &str) -> Result<u64, Error> {
        let payload = json!({ "progress_percent": percent.clamp(0.0, 100.0), "note": note });
        self.emit(EventType::ProgressUpdate, payload).await
    }

    /// Saves the agent's state and returns the checkpoint's number. Durable when it returns, by value.
    ///
    /// # Errors
    /// When the state has no JSON form or cannot be written.
    pub async fn checkpoint<T: Serialize + Sync>(&self, state: &T) -> Result<u64, Error> {
        let state = Json::from_value(state).map_err(|error| Error::Invalid {
            field: "state",
            problem: error.to_string(),
        })?;
        self.host.checkpoint(state).await
    }

    /// The state saved last, by this attempt or an earlier one.
    ///
    /// # Errors
    /// When the saved state has another shape than `T`.
    pub fn get_state<T: DeserializeOwned>(&self) -> Result<Option<T>, AgentError> {
        let Some(state) = self.host.state() else {
            return Ok(None);
        };
        state.to().map(Some).map_err(|error| {
            AgentError::permanent("incompatible_state", format!("the checkpoint: {error}"))
        })
    }

    /// Does a piece of work once: a recorded result is returned without doing it again.
    ///
    /// # Errors
    /// The body's error after its last try, now or as recorded.
    pub async fn step<T, F, Fut>(&self, name: &str, body: F) -> Result<T, AgentError>
    where
        T: Serialize + DeserializeOwned + Send,
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T, AgentError>> + Send,
    {
        self.step_builder(name).run(body).await
    }

    /// A step with an input, retries or a timeout.
    pub fn step_builder(&self, name: &str) -> StepBuilder<'_> {
        StepBuilder {
            host: &*self.host,
            step: HostStep::new(name, StepKind::Code),
        }
    }

    /// Sleeps across crashes and restarts, without holding a worker.
    ///
    /// # Errors
    /// When the wait cannot be recorded.
    pub async fn sleep(&self, name: &str, duration: Duration) -> Result<(), AgentError> {
        self.host.sleep(name, duration).await
    }

    /// Waits for the next signal of this name; `None` when `timeout` is over first.
    /// A signal that came before the wait is kept for it.
    ///
    /// # Errors
    /// When the wait cannot be recorded.
    pub async fn wait_for_signal(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<Option<Json>, AgentError> {
        self.host.wait_for_signal(name, timeout).await
    }

    /// Asks a person and waits for the decision, for days if need be.
    ///
    /// # Errors
    /// When the request cannot be recorded.
    pub async fn request_approval(&self, request: ApprovalRequest) -> Result<Decision, AgentError> {
        self.host.request_approval(request).await
    }

    /// Runs other agents as child runs and waits for their outcomes, in the order given.
    ///
    /// # Errors
    /// By the [`FailurePolicy`]: `child_failed` when a child did not succeed.
    pub async fn delegate(&self, delegate: Delegate) -> Result<Vec<ChildOutcome>, AgentError> {
        self.host.delegate(delegate).await
    }

    /// Runs one agent as a child run and returns its output.
    ///
    /// # Errors
    /// `child_failed` when the child did not succeed.
    pub async fn call_agent(
        &self,
        name: &str,
        agent: impl Into<AgentKey>,
        input: RunInput,
    ) -> Result<Json, AgentError> {
        let outcomes = self
            .delegate(Delegate::new(name).child(agent, input))
            .await?;
        Ok(outcomes
            .into_iter()
            .next()
            .map(|child| child.output)
            .unwrap_or_default())
    }

    /// The tools that this run may call.
    ///
    /// # Errors
    /// When a source of tools cannot be asked.
    pub async fn tools(&self) -> Result<Vec<ToolSpec>, AgentError> {
        self.host.tools().await
    }

    /// Calls a tool once: a recorded answer is returned without calling it again. A failure of the tool itself is an
    /// answer, see [`ToolAnswer::is_error`].
    ///
    /// # Errors
    /// When there is no such tool or it may not be called, a budget is spent, or its answer stays unknown.
    pub async fn call_tool(&self, call: ToolUse) -> Result<ToolAnswer, AgentError> {
        self.host.call_tool(call).await
    }

    /// Asks a model once: a recorded answer is returned without paying for it again.
    ///
    /// # Errors
    /// When there is no such model, a budget is spent, or the provider fails for good.
    pub async fn generate(&self, request: ModelRequest) -> Result<ModelResponse, AgentError> {
        let call = ModelCall {
            key: "model".to_owned(),
            request,
        };
        self.host.generate(call, None).await
    }

    /// Like [`generate`](Self::generate) with a name of one's own, showing the answer while it is made.
    ///
    /// # Errors
    /// As there.
    pub async fn generate_streaming(
        &self,
        call: ModelCall,
        deltas: &mut DeltaSink<'_>,
    ) -> Result<ModelResponse, AgentError> {
        self.host.generate(call, Some(deltas)).await
    }

    /// What models and tools of this run have taken so far, earlier attempts included.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.host.usage()
    }

    /// What stands behind the context, for who wraps it.
    #[must_use]
    pub fn host(&self) -> &Arc<dyn RunHost> {
        &self.host
    }
}

/// A step being described.
#[must_use = "a step does nothing until it is run"]
pub struct StepBuilder<'a> {
    host: &'a dyn RunHost,
    step: HostStep,
}

impl StepBuilder<'_> {
    /// Names the step's input: a recorded step with another input fails instead of being replayed.
    ///
    /// # Errors
    /// When the input has no JSON form.
    pub fn input<T: Serialize + ?Sized>(mut self, input: &T) -> Result<Self, AgentError> {
        self.step.input = Json::from_value(input)?.fingerprint();
        Ok(self)
    }

    /// What the step does, for the records.
    pub fn kind(mut self, kind: StepKind) -> Self {
        self.step.kind = kind;
        self
    }

    /// Tries within this attempt of the run.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.step.retry = retry;
        self
    }

    /// Longest time for one try.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.step.timeout = Some(timeout);
        self
    }

    /// What to do when a crash left open whether the body has happened. Default: execute it again.
    pub fn on_interrupt(mut self, on_interrupt: OnInterrupt) -> Self {
        self.step.on_interrupt = on_interrupt;
        self
    }

    /// For people who watch.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.step.description = Some(text.into());
        self
    }

    /// Runs the step, or returns its recorded result.
    ///
    /// # Errors
    /// The body's error after its last try, now or as recorded.
    pub async fn run<T, F, Fut>(self, mut body: F) -> Result<T, AgentError>
    where
        T: Serialize + DeserializeOwned + Send,
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T, AgentError>> + Send,
    {
        let name = self.step.name.clone();
        let result = self
            .host
            .step(self.step, &mut |_attempt| {
                let work = body();
                Box::pin(async move { Ok(Json::from_value(&work.await?)?) })
            })
            .await?;
        result.to().map_err(|error| {
            AgentError::permanent(
                "step_changed",
                format!("the recorded result of step `{name}`: {error}"),
            )
        })
    }
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalRequest {
    /// The question's name within the run, and what `agent runs approve --key` names.
    pub key: String,
    /// The question.
    pub message: String,
    /// What the decision is about.
    pub data: Json,
    /// After this time the answer is no.
    pub expires_in: Option<Duration>,
}

impl ApprovalRequest {
    /// A question that stays open until it is answered.
    #[must_use]
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
            data: Json::null(),
            expires_in: None,
        }
    }
}

/// A person's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Yes or no; no when the request expired.
    pub approved: bool,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Data that came with the decision, such as edited arguments.
    #[serde(default)]
    pub data: Json,
    /// Whether nobody decided in time.
    #[serde(default)]
    pub expired: bool,
}

/// Work handed to other agents.
#[derive(Debug, Clone, PartialEq)]
pub struct Delegate {
    /// The step's name.
    pub name: String,
    /// Who is to do what.
    pub children: Vec<(AgentKey, RunInput)>,
    /// What becomes of the whole when a part fails.
    pub policy: FailurePolicy,
}

impl Delegate {
    /// A delegation without children yet.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            children: Vec::new(),
            policy: FailurePolicy::All,
        }
    }

    /// Adds a child run.
    #[must_use]
    pub fn child(mut self, agent: impl Into<AgentKey>, input: RunInput) -> Self {
        self.children.push((agent.into(), input));
        self
    }

    /// Sets what becomes of the whole when a part fails.
    #[must_use]
    pub fn policy(mut self, policy: FailurePolicy) -> Self {
        self.policy = policy;
        self
    }
}
