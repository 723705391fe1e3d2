//! The mock's side of a run context.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{
    AgentError, AgentKey, ApprovalRequest, ChildOutcome, ConversationId, Decision, Delegate, Error,
    Event, EventType, Fingerprint, HostStep, Json, NewEvent, Result, RunHost, RunId, RunInput,
    StepBody, StepKind, StepOutcome, StepRecord, Timestamp,
};
use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Notify;

use super::{
    builder::{Child, Script},
    journal::Journal,
};

/// A run host that keeps everything in memory and waits for nothing.
pub(super) struct MockHost {
    id: RunId,
    agent: OnceLock<AgentKey>,
    input: Json,
    metadata: Json,
    conversation: Option<ConversationId>,
    attempt: AtomicU32,
    pub cancelled: AtomicBool,
    pub cancelling: Notify,
    inner: Mutex<Inner>,
}

pub(super) struct Inner {
    pub now: Timestamp,
    pub events: Vec<Event>,
    pub checkpoints: Vec<Json>,
    /// Checkpoints that were there before.
    inherited: Option<Json>,
    pub journal: Journal,
    pub executions: BTreeMap<String, u32>,
    pub signals: VecDeque<(String, Json)>,
    pub decisions: BTreeMap<String, VecDeque<Decision>>,
    pub children: BTreeMap<AgentKey, Child>,
    pub delegated: Vec<(AgentKey, RunInput)>,
}

impl MockHost {
    pub fn new(
        input: Json,
        conversation: Option<ConversationId>,
        metadata: Json,
        state: Option<Json>,
        script: Script,
    ) -> Self {
        Self {
            id: RunId::new(),
            agent: OnceLock::new(),
            input,
            metadata,
            conversation,
            attempt: AtomicU32::new(0),
            cancelled: AtomicBool::new(false),
            cancelling: Notify::new(),
            inner: Mutex::new(Inner {
                now: Timestamp::from_micros(1_700_000_000_000_000),
                events: Vec::new(),
                checkpoints: Vec::new(),
                inherited: state,
                journal: Journal::default(),
                executions: BTreeMap::new(),
                signals: script.signals,
                decisions: script.decisions,
                children: script.children,
                delegated: Vec::new(),
            }),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the next attempt.
    pub fn begin(&self, agent: AgentKey) {
        // A run has one agent; a test that runs another one on it keeps the first one's name.
        let _first = self.agent.get_or_init(|| agent);
        self.attempt.fetch_add(1, SeqCst);
        self.lock().journal.rewind();
    }

    pub fn tell(&self, event_type: EventType, payload: serde_json::Value) {
        self.append(NewEvent::new(event_type, payload));
    }

    fn append(&self, event: NewEvent) -> u64 {
        let mut inner = self.lock();
        let seq = inner.events.len() as u64 + 1;
        let event = Event {
            run_id: self.id,
            seq,
            timestamp: inner.now,
            event_type: event.event_type,
            visibility: event.visibility,
            payload: event.payload,
        };
        inner.events.push(event);
        seq
    }

    pub fn pass(&self, time: Duration) {
        let mut inner = self.lock();
        inner.now = inner.now + time;
    }

    /// Looks a step up under its next key.
    pub fn look_up(
        &self,
        name: &str,
        kind: StepKind,
        input: Fingerprint,
    ) -> (String, Result<Option<Json>, AgentError>) {
        let mut inner = self.lock();
        let key = inner.journal.next_key(name);
        let found = inner.journal.find(&key, kind, input);
        (key, found)
    }

    pub fn record(
        &self,
        key: &str,
        kind: StepKind,
        input: Fingerprint,
        outcome: StepOutcome,
        began: Timestamp,
        attempts: u32,
    ) {
        let mut inner = self.lock();
        let recorded_at = inner.now;
        inner.journal.record(StepRecord {
            key: key.to_owned(),
            kind,
            input,
            outcome,
            attempts,
            started_at: began,
            recorded_at,
        });
    }
}

#[async_trait]
impl RunHost for MockHost {
    fn run_id(&self) -> RunId {
        self.id
    }

    fn agent(&self) -> &AgentKey {
        self.agent.get_or_init(|| AgentKey::new("agent-under-test"))
    }

    fn attempt(&self) -> u32 {
        self.attempt.load(SeqCst).max(1)
    }

    fn epoch(&self) -> u64 {
        u64::from(self.attempt())
    }

    fn input(&self) -> &Json {
        &self.input
    }

    fn metadata(&self) -> &Json {
        &self.metadata
    }

    fn conversation_id(&self) -> Option<ConversationId> {
        self.conversation
    }

    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(SeqCst)
    }

    async fn cancellation(&self) {
        loop {
            let told = self.cancelling.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.cancelled() {
                return;
            }
            told.await;
        }
    }

    async fn emit(&self, event: NewEvent) -> Result<u64, Error> {
        Ok(self.append(event))
    }

    fn note(&self, event: NewEvent) {
        self.append(event);
    }

    async fn checkpoint(&self, state: Json) -> Result<u64, Error> {
        let bytes = state.len();
        let seq = {
            let mut inner = self.lock();
            inner.checkpoints.push(state);
            inner.checkpoints.len() as u64
        };
        let payload = json!({ "seq": seq, "bytes": bytes });
        self.tell(EventType::StateCheckpoint, payload);
        Ok(seq)
    }

    fn state(&self) -> Option<Json> {
        let inner = self.lock();
        inner
            .checkpoints
            .last()
            .or(inner.inherited.as_ref())
            .cloned()
    }

    async fn step(&self, step: HostStep, body: &mut StepBody<'_>) -> Result<Json, AgentError> {
        let (key, found) = self.look_up(&step.name, step.kind, step.input);
        if let Some(result) = found? {
            let payload = json!({ "step_name": key, "reason": "recorded" });
            self.tell(EventType::StepSkipped, payload);
            return Ok(result);
        }
        self.execute(&key, &step, body).await
    }

    fn is_recorded(&self, name: &str) -> bool {
        self.lock().journal.is_recorded(name)
    }

    async fn sleep(&self, name: &str, duration: Duration) -> Result<(), AgentError> {
        self.sleep_through(name, duration)
    }

    async fn wait_for_signal(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<Option<Json>, AgentError> {
        self.take_signal(name, timeout)
    }

    async fn request_approval(&self, request: ApprovalRequest) -> Result<Decision, AgentError> {
        self.decide(&request)
    }

    async fn delegate(&self, delegate: Delegate) -> Result<Vec<ChildOutcome>, AgentError> {
        self.run_children(&delegate)
    }
}
