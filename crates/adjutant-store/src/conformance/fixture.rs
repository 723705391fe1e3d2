//! What a case works on, and the short ways to do things with it.

use std::{any::Any, sync::Arc, time::Duration};

use adjutant_core::{
    Clock, Event, EventType, Fingerprint, Json, NewEvent, RunId, RunResult, RunState, StepKind,
    StepOutcome, StepRecord, WorkerId,
};
use adjutant_queue::{
    AgentFilter, ClaimRequest, Claimed, Command, Disposition, Lease, NewRun, ParentLink, RunRecord,
    RunView, Swept, Wait, WakeOn, conformance::LEASE,
};
use adjutant_state::{Checkpoint, History};
use async_trait::async_trait;

use super::ManualClock;
use crate::{Commit, Committed, Op, Store};

/// A fresh, empty engine with limits and bounds as by default, whose time is the fixture's clock.
pub struct Fixture {
    /// The engine.
    pub engine: Arc<dyn Store>,
    /// The engine's clock.
    pub clock: ManualClock,
    /// What has to live as long as the engine, such as its directory.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// Everything that a store tells of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub view: Option<RunView>,
    pub history: History,
    pub checkpoints: Vec<Checkpoint>,
    pub events: Vec<Event>,
}

impl Snapshot {
    /// Reads it.
    pub async fn of(engine: &dyn Store, run: RunId) -> Self {
        let view = engine.get(run).await.unwrap();
        let events = match &view {
            Some(_) => engine
                .read(run, 0, usize::MAX >> 1)
                .await
                .unwrap_or_default(),
            None => Vec::new(),
        };
        Self {
            view,
            history: engine.history(run).await.unwrap(),
            checkpoints: engine.checkpoints(run, 1000).await.unwrap(),
            events,
        }
    }

    /// The kinds of its events, in order.
    #[must_use]
    pub fn told(&self) -> Vec<&str> {
        self.events
            .iter()
            .map(|event| event.event_type.as_str())
            .collect()
    }
}

impl Fixture {
    /// The same engine for the queue's cases.
    #[must_use]
    pub fn into_queue(self) -> adjutant_queue::conformance::Fixture {
        adjutant_queue::conformance::Fixture {
            engine: self.engine,
            clock: self.clock,
            keep: self.keep,
        }
    }

    /// The same engine for the state store's cases.
    #[must_use]
    pub fn into_state(self) -> adjutant_state::conformance::Fixture {
        adjutant_state::conformance::Fixture {
            epochs: Box::new(Leases(Arc::clone(&self.engine))),
            engine: self.engine,
            keep: self.keep,
        }
    }

    /// The same engine for the event bus's cases.
    #[must_use]
    pub fn into_events(self) -> adjutant_events::conformance::Fixture {
        adjutant_events::conformance::Fixture {
            runs: Box::new(Leases(Arc::clone(&self.engine))),
            engine: self.engine,
            keep: self.keep,
        }
    }

    /// The same engine's ledger for the ledger's cases.
    #[must_use]
    pub fn into_budgets(self) -> adjutant_budget::conformance::Fixture {
        let clock = self.clock.clone();
        adjutant_budget::conformance::Fixture {
            ledger: self.engine.ledger(),
            clock: Arc::new(self.clock),
            advance: Box::new(move |by| clock.advance(by)),
            keep: Box::new((self.engine, self.keep)),
        }
    }

    #[must_use]
    pub fn run(&self) -> NewRun {
        NewRun::with_json("a", Json::parse(r#"{"data":1}"#.to_owned()).unwrap())
    }

    #[must_use]
    pub fn child(&self, parent: RunId, group: &str) -> NewRun {
        let mut run = self.run();
        let group = Arc::from(group);
        run.parent = Some(ParentLink { run: parent, group });
        run
    }

    pub async fn submitted(&self) -> RunId {
        self.engine.submit(vec![self.run()]).await.unwrap()[0].run
    }

    pub async fn claim(&self, capacity: usize) -> Vec<Claimed> {
        self.engine
            .claim(request(AgentFilter::Any, capacity))
            .await
            .unwrap()
    }

    pub async fn claim_one(&self) -> Claimed {
        self.claim(1).await.pop().expect("a run is ready")
    }

    pub async fn running(&self) -> Lease {
        let run = self.submitted().await;
        let lease = self.claim_one().await.lease;
        assert_eq!(lease.run, run);
        lease
    }

    pub async fn commit(&self, lease: Lease, ops: Vec<Op>, end: Option<Disposition>) -> Committed {
        self.engine
            .commit(Commit { lease, ops, end })
            .await
            .unwrap()
    }

    pub async fn succeed(&self, lease: Lease) -> Committed {
        let end = Disposition::Succeeded(RunResult::default());
        self.commit(lease, Vec::new(), Some(end)).await
    }

    pub async fn control(&self, run: RunId, command: Command) -> RunRecord {
        self.engine.control(run, command).await.unwrap()
    }

    pub async fn cancel(&self, run: RunId) -> RunRecord {
        let reason = "test".to_owned();
        self.control(run, Command::Cancel { reason }).await
    }

    pub async fn signal(&self, run: RunId, name: &str) -> RunRecord {
        let (name, payload) = (name.to_owned(), Json::from("payload"));
        self.control(run, Command::Signal { name, payload }).await
    }

    pub async fn after(&self, time: Duration) -> Swept {
        self.clock.advance(time);
        self.engine.sweep(1000, Duration::ZERO).await.unwrap()
    }

    pub async fn state(&self, run: RunId) -> RunState {
        self.engine
            .get(run)
            .await
            .unwrap()
            .expect("the run is there")
            .run
            .state
    }

    pub async fn snapshot(&self, run: RunId) -> Snapshot {
        Snapshot::of(&*self.engine, run).await
    }

    #[must_use]
    pub fn step(&self, key: &str, outcome: StepOutcome) -> StepRecord {
        StepRecord {
            key: key.to_owned(),
            kind: StepKind::Code,
            input: Fingerprint(7),
            outcome,
            attempts: 1,
            started_at: self.clock.now(),
            recorded_at: self.clock.now(),
        }
    }

    #[must_use]
    pub fn done(&self, key: &str) -> Op {
        let result = Json::from(key);
        Op::Step(self.step(key, StepOutcome::Completed { result }))
    }

    #[must_use]
    pub fn begun(&self, key: &str) -> Op {
        let memo = Json::from(key);
        Op::Step(self.step(key, StepOutcome::Started { memo }))
    }
}

pub(super) fn request(agents: AgentFilter, capacity: usize) -> ClaimRequest {
    ClaimRequest {
        worker: WorkerId::new(),
        capacity,
        agents,
        lease_ttl: LEASE,
        wait: Duration::ZERO,
    }
}

pub(super) fn note(text: &str) -> Op {
    Op::Event(NewEvent::new(EventType::from("note"), Json::from(text)))
}

pub(super) fn save(state: &str) -> Op {
    Op::Checkpoint(Json::from(state))
}

pub(super) fn wait_for(wake_on: WakeOn) -> Option<Disposition> {
    Some(Disposition::Waiting(Wait {
        wake_on: vec![wake_on],
        input_required: false,
    }))
}

pub(super) fn wait_for_group(group: &str, fail_fast: bool) -> Option<Disposition> {
    let key = Arc::from(group);
    wait_for(WakeOn::Group { key, fail_fast })
}

/// Runs and epochs of a store that holds its queue: real ones.
struct Leases(Arc<dyn Store>);

impl Leases {
    /// Each run has its own agent, so that it can be claimed by name.
    async fn claim(&self, run: RunId) -> Lease {
        let agents = AgentFilter::Only(vec![run.to_string().into()]);
        let mut claimed = self.0.claim(request(agents, 1)).await.unwrap();
        claimed.pop().expect("the run is ready").lease
    }

    async fn submit(&self) -> RunId {
        let mut run = NewRun::with_json("a", Json::null());
        run.agent = run.id.to_string().into();
        self.0.submit(vec![run]).await.unwrap()[0].run
    }
}

#[async_trait]
impl adjutant_state::conformance::Epochs for Leases {
    async fn begin(&self) -> (RunId, u64) {
        let lease = self.claim(self.submit().await).await;
        (lease.run, lease.epoch)
    }

    async fn next(&self, run: RunId, epoch: u64) -> u64 {
        let held = self.0.get(run).await.unwrap().unwrap().run.held.unwrap();
        let worker = held.worker;
        let reason = "next epoch".to_owned();
        let lease = Lease { run, worker, epoch };
        self.0
            .settle(lease, Disposition::Released { reason })
            .await
            .unwrap();
        self.claim(run).await.epoch
    }
}

#[async_trait]
impl adjutant_events::conformance::Runs for Leases {
    async fn begin(&self) -> RunId {
        self.submit().await
    }
}
