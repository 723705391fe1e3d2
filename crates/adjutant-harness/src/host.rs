//! The host that an equipped agent's context stands on: the executor's, with models and tools.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use adjutant_budget::Refusal;
use adjutant_core::{
    AgentError, AgentKey, ApprovalRequest, BudgetLeft, ChildOutcome, ConversationId, Decision,
    Delegate, DeltaSink, Error, EventType, HostStep, Json, Message, ModelCall, ModelResponse,
    NewEvent, RunContext, RunHost, RunId, StepBody, Timestamp, ToolAnswer, ToolSpec, ToolUse,
    Usage,
};
use adjutant_telemetry::{Failure, Scope};
use adjutant_tools::{Caller, ToolSet};
use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::{equipment::Equipment, guard::Guard, names::Names, purse::Purse};

/// One attempt's host.
pub(crate) struct EquippedHost {
    pub inner: Arc<dyn RunHost>,
    pub equipment: Equipment,
    pub names: Names,
    pub guard: Guard,
    pub purse: Option<Purse>,
    pub caller: Caller,
    /// The tools that the run has, in all its attempts.
    pub tools: OnceCell<Vec<ToolSpec>>,
    /// The same as they are now; opened when one is called.
    pub toolset: tokio::sync::Mutex<Option<Arc<ToolSet>>>,
    /// When the run made its first call.
    pub began: OnceCell<Timestamp>,
    /// Where spans of this attempt belong.
    pub scope: Option<Scope>,
    /// What a budget had no room for in this attempt.
    pub refused: OnceLock<Refusal>,
    usage: Mutex<Usage>,
    environment: OnceLock<Vec<(String, String)>>,
}

/// What metadata says of whom the run is for, and with which model it is to be done.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    tenant: Option<String>,
    principal: Option<String>,
    adjutant: Reserved,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reserved {
    model: Option<String>,
}

impl EquippedHost {
    pub fn new(inner: Arc<dyn RunHost>, mut equipment: Equipment, scope: Option<Scope>) -> Self {
        let told: Told = inner.metadata().to().unwrap_or_default();
        if let Some(model) = told.adjutant.model {
            equipment.model = model;
        }
        let caller = Caller {
            tenant: told.tenant,
            principal: told.principal,
            ..Caller::new(inner.agent().clone(), inner.run_id())
        };
        let purse = equipment.ledger.as_ref().map(|ledger| {
            let whose = (inner.run_id(), inner.epoch());
            Purse::new(
                Arc::clone(ledger),
                equipment.budget.clone(),
                whose,
                inner.agent().clone(),
                inner.metadata(),
            )
        });
        Self {
            inner,
            equipment,
            names: Names::default(),
            guard: Guard::default(),
            purse,
            caller,
            tools: OnceCell::new(),
            toolset: tokio::sync::Mutex::default(),
            began: OnceCell::new(),
            scope,
            refused: OnceLock::new(),
            usage: Mutex::default(),
            environment: OnceLock::new(),
        }
    }

    /// Sets the variables for the attempt's process; once, before the agent begins.
    pub fn give(&self, environment: Vec<(String, String)>) {
        // The first ones stay.
        let _ = self.environment.set(environment);
    }

    /// Settles what earlier attempts left reserved.
    pub async fn settle_lost(&self) -> Result<(), AgentError> {
        match &self.purse {
            Some(purse) => purse.settle_lost().await,
            None => Ok(()),
        }
    }

    /// Adds to what the run has used.
    pub fn used(&self, usage: Usage) {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) += usage;
    }

    pub fn note(&self, event_type: EventType, payload: serde_json::Value) {
        self.inner.note(NewEvent::new(event_type, payload));
    }
}

#[async_trait]
impl RunHost for EquippedHost {
    fn run_id(&self) -> RunId {
        self.inner.run_id()
    }
    fn agent(&self) -> &AgentKey {
        self.inner.agent()
    }
    fn attempt(&self) -> u32 {
        self.inner.attempt()
    }
    fn epoch(&self) -> u64 {
        self.inner.epoch()
    }
    fn input(&self) -> &Json {
        self.inner.input()
    }
    fn metadata(&self) -> &Json {
        self.inner.metadata()
    }
    fn conversation_id(&self) -> Option<ConversationId> {
        self.inner.conversation_id()
    }
    fn now(&self) -> Timestamp {
        self.inner.now()
    }
    fn cancelled(&self) -> bool {
        self.inner.cancelled()
    }
    async fn cancellation(&self) {
        self.inner.cancellation().await;
    }
    async fn emit(&self, event: NewEvent) -> Result<u64, Error> {
        self.inner.emit(event).await
    }
    fn note(&self, event: NewEvent) {
        self.inner.note(event);
    }
    async fn checkpoint(&self, state: Json) -> Result<u64, Error> {
        self.inner.checkpoint(state).await
    }
    fn state(&self) -> Option<Json> {
        self.inner.state()
    }
    async fn step(&self, step: HostStep, body: &mut StepBody<'_>) -> Result<Json, AgentError> {
        let recorded = self.inner.is_recorded(&step.name);
        let span = self.scope.as_ref().filter(|_| !recorded);
        let span = span.map(|scope| scope.step(&step.name));
        let result = self.inner.step(step, body).await;
        if let Some(span) = span {
            span.end(result.as_ref().map(drop).map_err(Failure::from));
        }
        result
    }
    fn is_recorded(&self, name: &str) -> bool {
        self.inner.is_recorded(name)
    }
    async fn sleep(&self, name: &str, duration: Duration) -> Result<(), AgentError> {
        self.inner.sleep(name, duration).await
    }
    async fn wait_for_signal(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<Option<Json>, AgentError> {
        self.inner.wait_for_signal(name, timeout).await
    }
    async fn request_approval(&self, request: ApprovalRequest) -> Result<Decision, AgentError> {
        self.inner.request_approval(request).await
    }
    async fn delegate(&self, delegate: Delegate) -> Result<Vec<ChildOutcome>, AgentError> {
        self.delegate_within_bounds(delegate).await
    }
    async fn tools(&self) -> Result<Vec<ToolSpec>, AgentError> {
        self.pinned_tools().await.map(<[ToolSpec]>::to_vec)
    }
    async fn call_tool(&self, call: ToolUse) -> Result<ToolAnswer, AgentError> {
        self.use_tool(call).await
    }
    async fn generate(
        &self,
        call: ModelCall,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse, AgentError> {
        self.ask_model(call, deltas).await
    }
    fn usage(&self) -> Usage {
        self.usage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
    async fn steering(&self, seen: usize) -> Result<Vec<Message>, Error> {
        self.inner.steering(seen).await
    }
    fn deadline(&self) -> Option<Timestamp> {
        self.inner.deadline()
    }
    fn budget_left(&self) -> BudgetLeft {
        self.inner.budget_left()
    }
    fn environment(&self) -> Vec<(String, String)> {
        let mut all = self.inner.environment();
        all.extend(self.environment.get().into_iter().flatten().cloned());
        all
    }
}

/// The context over a host.
pub(crate) fn context(host: &Arc<EquippedHost>) -> RunContext {
    RunContext::new(Arc::clone(host) as Arc<dyn RunHost>)
}
