//! What a case works on, and the short ways to do things with it.

use std::{any::Any, future::Future, sync::Arc, time::Duration};

use adjutant_core::{
    Clock, Error, Json, RetryPolicy, RunId, RunResult, RunState, Timestamp, WorkerId,
};

use super::ManualClock;
use crate::{
    AgentFilter, ClaimRequest, Claimed, Command, Disposition, Lease, NewRun, ParentLink, RunQueue,
    RunRecord, Swept, Wait, WakeOn,
};

/// The leases that cases take, on the fixture's clock.
pub const LEASE: Duration = Duration::from_secs(10);

/// How long cases wait for what must come, in real time.
pub const WAIT: Duration = Duration::from_secs(20);

/// A fresh, empty engine with limits as by default, whose time is the fixture's clock.
pub struct Fixture {
    /// The engine.
    pub engine: Arc<dyn RunQueue>,
    /// The engine's clock.
    pub clock: ManualClock,
    /// What has to live as long as the engine, such as its directory.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// Fails a case that hangs.
pub async fn in_time(case: impl Future<Output = ()>) {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, case)
        .await
        .expect("the case hangs");
}

impl Fixture {
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A run of agent `a` that retries after exactly 2, 4, 8, … seconds.
    #[must_use]
    pub fn run(&self) -> NewRun {
        let mut run = NewRun::with_json("a", Json::parse(r#"{"data":1}"#.to_owned()).unwrap());
        run.retry = RetryPolicy {
            jitter: 0.0,
            ..RetryPolicy::default()
        };
        run
    }

    #[must_use]
    pub fn child(&self, parent: RunId, group: &str) -> NewRun {
        let mut run = self.run();
        let group = Arc::from(group);
        run.parent = Some(ParentLink { run: parent, group });
        run
    }

    pub async fn submit(&self, run: NewRun) -> RunId {
        self.engine.submit(vec![run]).await.unwrap()[0].run
    }

    pub async fn submitted(&self) -> RunId {
        self.submit(self.run()).await
    }

    #[must_use]
    pub fn request(&self, capacity: usize) -> ClaimRequest {
        ClaimRequest {
            worker: WorkerId::new(),
            capacity,
            agents: AgentFilter::Any,
            lease_ttl: LEASE,
            wait: Duration::ZERO,
        }
    }

    pub async fn claim(&self, capacity: usize) -> Vec<Claimed> {
        self.engine.claim(self.request(capacity)).await.unwrap()
    }

    pub async fn claim_one(&self) -> Claimed {
        self.claim(1).await.pop().expect("a run is ready")
    }

    /// Claims everything there is and says what, in order.
    pub async fn claim_ids(&self) -> Vec<RunId> {
        self.claim(1000)
            .await
            .iter()
            .map(|claimed| claimed.lease.run)
            .collect()
    }

    /// A run that is running, and the lease on it.
    pub async fn running(&self) -> Lease {
        let run = self.submitted().await;
        let lease = self.claim_one().await.lease;
        assert_eq!(lease.run, run);
        lease
    }

    pub async fn settle(&self, lease: Lease, disposition: Disposition) -> RunRecord {
        self.engine.settle(lease, disposition).await.unwrap()
    }

    pub async fn succeed(&self, lease: Lease) -> RunRecord {
        self.settle(lease, Disposition::Succeeded(RunResult::default()))
            .await
    }

    pub async fn release(&self, lease: Lease) -> RunRecord {
        let reason = "drain".to_owned();
        self.settle(lease, Disposition::Released { reason }).await
    }

    pub async fn wait_for(&self, lease: Lease, wake_on: Vec<WakeOn>) -> RunRecord {
        let wait = Wait {
            wake_on,
            input_required: false,
        };
        self.settle(lease, Disposition::Waiting(wait)).await
    }

    pub async fn control(&self, run: RunId, command: Command) -> RunRecord {
        self.engine.control(run, command).await.unwrap()
    }

    pub async fn cancel(&self, run: RunId) -> RunRecord {
        let reason = "test".to_owned();
        self.control(run, Command::Cancel { reason }).await
    }

    pub async fn signal(&self, run: RunId, name: &str, payload: &str) -> RunRecord {
        let (name, payload) = (name.to_owned(), Json::from(payload));
        self.control(run, Command::Signal { name, payload }).await
    }

    /// Lets time pass and sweeps once.
    pub async fn after(&self, time: Duration) -> Swept {
        self.clock.advance(time);
        self.engine.sweep(1000, Duration::ZERO).await.unwrap()
    }

    pub async fn record(&self, run: RunId) -> RunRecord {
        self.engine
            .get(run)
            .await
            .unwrap()
            .expect("the run is there")
            .run
    }

    pub async fn state(&self, run: RunId) -> RunState {
        self.record(run).await.state
    }
}

pub(super) fn is_conflict<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Conflict { .. }))
}

pub(super) fn is_lost<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::LeaseLost { .. }))
}

pub(super) fn is_illegal<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Illegal { .. }))
}
