//! The executor's side of a run context.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use adjutant_core::{
    AgentError, AgentKey, ApprovalRequest, ChildOutcome, ConversationId, Decision, Delegate, Error,
    EventType, HostStep, Json, Message, NewEvent, Result, RunHost, RunId, RunInput, StepBody,
    Timestamp,
};
use adjutant_queue::{Claimed, Lease, Wait, WakeOn};
use adjutant_state::History;
use adjutant_store::{Commit, Committed, Op};
use async_trait::async_trait;
use serde::Serialize;

use crate::{
    control::{CANCEL, Control, LOST, PAUSE},
    journal::Journal,
    shared::Shared,
    steering::Steering,
};

/// One attempt's host.
pub(crate) struct Host {
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: Arc<Control>,
    pub(crate) lease: Lease,
    pub(crate) claimed: Box<Claimed>,
    inner: Mutex<Inner>,
    /// Steps whose body is being executed or recorded.
    busy: AtomicUsize,
    checkpoints: AtomicU64,
    broken: AtomicBool,
    deadline: Timestamp,
    steering: Steering,
}

struct Inner {
    journal: Journal,
    state: Option<Json>,
    /// Writes that go along with the next commit, since nothing has to wait for them alone.
    pending: Vec<Op>,
    /// What the agent waits for; more than one when it waits for several things at once.
    waits: Vec<(u64, Vec<WakeOn>, bool)>,
    next_wait: u64,
}

impl Host {
    pub(crate) fn new(
        shared: Arc<Shared>,
        control: Arc<Control>,
        mut claimed: Box<Claimed>,
        history: History,
    ) -> Self {
        let state = history
            .checkpoint
            .as_ref()
            .map(|checkpoint| checkpoint.state.clone());
        let steering = Steering::new(&claimed.signals, claimed.run.last_seq);
        let inner = Inner {
            state,
            journal: Journal::new(history, std::mem::take(&mut claimed.signals)),
            pending: Vec::new(),
            waits: Vec::new(),
            next_wait: 0,
        };
        let timeout = claimed.run.timeout.unwrap_or(shared.config.run_timeout);
        Self {
            steering,
            deadline: shared.clock.now() + timeout,
            shared,
            control,
            lease: claimed.lease,
            checkpoints: AtomicU64::new(claimed.run.checkpoint),
            claimed,
            inner: Mutex::new(inner),
            busy: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn journal<T>(&self, look: impl FnOnce(&mut Journal) -> T) -> T {
        look(&mut self.lock().journal)
    }

    /// Leaves a write to the next commit.
    pub(crate) fn defer(&self, op: Op) {
        self.lock().pending.push(op);
    }

    pub(crate) fn take_pending(&self) -> Vec<Op> {
        std::mem::take(&mut self.lock().pending)
    }

    /// Commits what is pending and `ops`. A write on its way is work under way: were the run suspended by
    /// another branch meanwhile, nobody would know what was written.
    pub(crate) async fn commit(&self, ops: Vec<Op>) -> Result<Committed> {
        if self.is_broken() {
            return Err(broken());
        }
        let _working = self.work();
        let pending = self.take_pending();
        let ops = if pending.is_empty() {
            ops
        } else {
            pending.iter().cloned().chain(ops).collect()
        };
        let commit = Commit {
            lease: self.lease,
            ops,
            end: None,
        };
        let committed = self.shared.store.commit(commit).await;
        match &committed {
            Ok(_) => {}
            Err(Error::LeaseLost { .. }) => self.control.set(LOST),
            // Refused, so nothing was written: what was pending still has to be.
            Err(Error::TooLarge { .. } | Error::Invalid { .. } | Error::Conflict { .. }) => {
                drop(self.lock().pending.splice(..0, pending));
            }
            // Nobody knows what was written. Only the journal can tell, so the attempt ends here.
            Err(_) => self.broken.store(true, Ordering::Release),
        }
        committed
    }

    /// Whether a write failed in a way that leaves open what was written.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub(crate) async fn flush(&self) -> Result<()> {
        if self.lock().pending.is_empty() {
            return Ok(());
        }
        self.commit(Vec::new()).await.map(drop)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    /// Keeps the run from being suspended while the guard lives.
    pub(crate) fn work(&self) -> Working<'_> {
        self.busy.fetch_add(1, Ordering::AcqRel);
        Working(self)
    }

    /// What the agent waits for, all in one, if it waits.
    pub(crate) fn waiting(&self) -> Option<Wait> {
        let inner = self.lock();
        if inner.waits.is_empty() {
            return None;
        }
        let wake_on = inner
            .waits
            .iter()
            .flat_map(|(_, on, _)| on.iter().cloned())
            .collect();
        let input_required = inner.waits.iter().any(|(_, _, person)| *person);
        Some(Wait {
            wake_on,
            input_required,
        })
    }

    /// Waits until one of the conditions holds. It never returns: the run is suspended, and a later
    /// attempt comes back to the same line and finds what it waited for.
    pub(crate) async fn park(
        &self,
        wake_on: Vec<WakeOn>,
        input_required: bool,
    ) -> Result<std::convert::Infallible> {
        let parked = {
            let mut inner = self.lock();
            inner.next_wait += 1;
            let id = inner.next_wait;
            inner.waits.push((id, wake_on, input_required));
            Parked { host: self, id }
        };
        // Children and questions must not have to wait for a sibling branch that is busy.
        if self.is_busy() {
            self.flush().await?;
        }
        self.control.nudge();
        std::future::pending::<()>().await;
        drop(parked);
        Err(Error::Closed)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}

fn broken() -> Error {
    Error::Backend {
        action: "write on behalf of an attempt whose earlier write failed",
        transient: true,
        source: "its next attempt goes on from the journal".into(),
    }
}

/// A wait that is given up when its future is dropped, as in a race that something else won.
struct Parked<'a> {
    host: &'a Host,
    id: u64,
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.host.lock().waits.retain(|(id, ..)| *id != self.id);
    }
}

/// What the event of a saved checkpoint says.
#[derive(Serialize)]
struct Saved {
    seq: u64,
    bytes: usize,
}

/// Work under way. Its end is of interest to what has to wait for it.
pub(crate) struct Working<'a>(&'a Host);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let is_last = self.0.busy.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && (self.0.control.has(PAUSE) || !self.0.lock().waits.is_empty()) {
            self.0.control.nudge();
        }
    }
}

#[async_trait]
impl RunHost for Host {
    fn run_id(&self) -> RunId {
        self.claimed.run.id
    }

    fn agent(&self) -> &AgentKey {
        &self.claimed.run.agent
    }

    fn attempt(&self) -> u32 {
        self.claimed.run.attempt
    }

    fn epoch(&self) -> u64 {
        self.lease.epoch
    }

    fn input(&self) -> &Json {
        &self.claimed.payload.input
    }

    fn metadata(&self) -> &Json {
        &self.claimed.payload.metadata
    }

    fn conversation_id(&self) -> Option<ConversationId> {
        self.claimed
            .payload
            .input
            .to::<RunInput>()
            .ok()?
            .conversation_id
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn cancelled(&self) -> bool {
        self.control.has(CANCEL)
    }

    async fn cancellation(&self) {
        self.control.wait_for(CANCEL).await;
    }

    async fn emit(&self, event: NewEvent) -> Result<u64> {
        Ok(self.commit(vec![Op::Event(event)]).await?.last_seq)
    }

    fn note(&self, event: NewEvent) {
        self.defer(Op::Event(event));
    }

    async fn checkpoint(&self, state: Json) -> Result<u64> {
        let seq = self.checkpoints.fetch_add(1, Ordering::AcqRel) + 1;
        let bytes = state.len();
        let payload = Json::from_value(&Saved { seq, bytes }).unwrap_or_default();
        let ops = vec![
            Op::Checkpoint(state.clone()),
            Op::Event(NewEvent::new(EventType::StateCheckpoint, payload)),
        ];
        let committed = self.commit(ops).await?;
        self.lock().state = Some(state);
        Ok(committed.checkpoint)
    }

    fn state(&self) -> Option<Json> {
        self.lock().state.clone()
    }

    async fn step(&self, step: HostStep, body: &mut StepBody<'_>) -> Result<Json, AgentError> {
        self.run_step(step, body).await
    }

    fn is_recorded(&self, name: &str) -> bool {
        self.journal(|journal| journal.is_recorded(name))
    }

    async fn sleep(&self, name: &str, duration: Duration) -> Result<(), AgentError> {
        self.durable_sleep(name, duration).await
    }

    async fn wait_for_signal(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<Option<Json>, AgentError> {
        self.durable_signal(name, timeout).await
    }

    async fn request_approval(&self, request: ApprovalRequest) -> Result<Decision, AgentError> {
        self.durable_approval(request).await
    }

    async fn delegate(&self, delegate: Delegate) -> Result<Vec<ChildOutcome>, AgentError> {
        self.run_children(delegate).await
    }

    async fn steering(&self, seen: usize) -> Result<Vec<Message>> {
        let run = self.claimed.run.id;
        self.steering.after(seen, &self.shared, run).await
    }

    fn deadline(&self) -> Option<Timestamp> {
        Some(self.deadline)
    }
}
