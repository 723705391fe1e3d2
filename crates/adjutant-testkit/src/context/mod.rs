//! A run context without a store: for testing what an agent does, not how it is kept.

mod builder;
mod host;
mod journal;
mod steps;
mod waits;

use std::sync::{Arc, atomic::Ordering::SeqCst};

use adjutant_core::{
    Agent, AgentError, AgentKey, Event, EventType, Json, RunContext, RunHost, RunInput, RunResult,
    StepRecord,
};

pub use self::builder::TestContextBuilder;
use self::host::MockHost;

/// A run in memory that an agent can be run on, again and again: each [`run`](Self::run) is a new attempt
/// that finds what the ones before have recorded, as after a crash or a retry.
///
/// Steps are executed, journaled and replayed as the executor does it. What takes time takes none: sleeps,
/// time limits of waits and the pauses between a step's tries only move the run's clock on. Signals,
/// decisions and the outcomes of child runs are scripted; one that is missing is an error that names it.
///
/// ```
/// use adjutant_core::{AgentFn, RunResult};
/// use adjutant_testkit::TestContext;
/// use serde_json::json;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let agent = AgentFn::new("publisher", |ctx| async move {
///     let text: String = ctx.step("draft", || async { Ok("hello".to_owned()) }).await?;
///     let go = ctx.wait_for_signal("go", None).await?;
///     Ok(RunResult::output(json!([text, go])))
/// });
/// let ctx = TestContext::builder().signal("go", json!(1)).build();
/// let result = ctx.run(&agent).await?;
/// assert_eq!(result.final_output.as_str(), r#"["hello",1]"#);
/// ctx.run(&agent).await?;
/// assert_eq!(ctx.executions("draft"), 1); // recorded, not done again
/// # Ok::<(), adjutant_core::AgentError>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct TestContext {
    host: Arc<MockHost>,
}

/// Runs an agent once on an input, with nothing scripted.
///
/// The context comes back with all that the agent did.
pub async fn run_agent_test(
    agent: &dyn Agent,
    input: RunInput,
) -> (Result<RunResult, AgentError>, TestContext) {
    let ctx = TestContext::builder().input(input).build();
    (ctx.run(agent).await, ctx)
}

impl TestContext {
    /// Describes a run.
    pub fn builder() -> TestContextBuilder {
        TestContextBuilder::default()
    }

    /// Runs the agent: the run's next attempt. A panic of the agent is the test's own.
    ///
    /// # Errors
    /// The agent's own, before it is classified.
    pub async fn run(&self, agent: &dyn Agent) -> Result<RunResult, AgentError> {
        self.host.begin(agent.key());
        agent.run(&self.context()).await
    }

    /// What an agent sees, for calling its parts one by one.
    #[must_use]
    pub fn context(&self) -> RunContext {
        RunContext::new(Arc::clone(&self.host) as Arc<dyn RunHost>)
    }

    /// Asks for the run to be cancelled.
    pub fn cancel(&self) {
        self.host.cancelled.store(true, SeqCst);
        self.host.cancelling.notify_waiters();
    }

    /// Sends a signal; a wait takes those of its name in the order in which they were sent.
    pub fn signal(&self, name: &str, payload: impl Into<Json>) {
        let mut inner = self.host.lock();
        inner.signals.push_back((name.to_owned(), payload.into()));
    }

    /// All events so far, in order, over all attempts.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.host.lock().events.clone()
    }

    /// The payloads of all events of one kind.
    #[must_use]
    pub fn payloads(&self, kind: impl Into<EventType>) -> Vec<Json> {
        let kind = kind.into();
        let inner = self.host.lock();
        let of_kind = inner.events.iter().filter(|event| event.event_type == kind);
        of_kind.map(|event| event.payload.clone()).collect()
    }

    /// All checkpoints so far, oldest first.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<Json> {
        self.host.lock().checkpoints.clone()
    }

    /// The journal: what another attempt would find.
    #[must_use]
    pub fn journal(&self) -> Vec<StepRecord> {
        self.host.lock().journal.records().to_vec()
    }

    /// How often a step's body was called, over all attempts and tries.
    #[must_use]
    pub fn executions(&self, key: &str) -> u32 {
        let inner = self.host.lock();
        inner.executions.get(key).copied().unwrap_or_default()
    }

    /// What was handed to other agents, in order.
    #[must_use]
    pub fn delegated(&self) -> Vec<(AgentKey, RunInput)> {
        self.host.lock().delegated.clone()
    }
}
