//! A store that fails on purpose.

use std::{
    fmt,
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{Error, Event, Limits, NewEvent, Result, RunId};
use adjutant_events::EventBus;
use adjutant_queue::{
    Beat, ClaimRequest, Claimed, Command, Disposition, Lease, NewRun, PrunePolicy, QueueStats,
    RunFilter, RunLookup, RunQueue, RunRecord, RunView, Submitted, Swept,
};
use adjutant_state::{Checkpoint, History, StateStore, StateWrite};
use adjutant_store::{CheckReport, Commit, Committed, Fork, Store, StoreInfo};
use async_trait::async_trait;

/// A call that a worker makes as, or to become, the holder of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultyCall {
    /// [`Store::commit`].
    Commit,
    /// [`RunQueue::claim`].
    Claim,
    /// [`RunQueue::heartbeat`].
    Heartbeat,
    /// [`RunQueue::settle`].
    Settle,
    /// [`StateStore::write`].
    Write,
}

/// Which side of the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Nothing has been written.
    Before,
    /// It has been written, and the answer is lost.
    After,
}

/// A fault that is about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// At this call.
    pub call: FaultyCall,
    /// On this side of it.
    pub moment: Moment,
    /// The call's number among all counted calls, from 1.
    pub number: u64,
}

/// Calls that fail by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failures {
    /// The same seed fails the same calls.
    pub seed: u64,
    /// Share of calls that fail with nothing written, 0 to 1.
    pub before: f64,
    /// Share of calls that fail although they were carried out, 0 to 1.
    pub after: f64,
}

/// Which calls meet a fault.
#[derive(Clone)]
pub struct FaultPlan {
    /// Call `on_fault` before the call with this number, from 1.
    pub abort_before: Option<u64>,
    /// Call `on_fault` after the call with this number has been carried out, before it is answered.
    pub abort_after: Option<u64>,
    /// What a fault does; when it returns, the call goes on. Default: it aborts the process.
    pub on_fault: Arc<dyn Fn(Fault) + Send + Sync>,
    /// Calls that fail with a transient error.
    pub fail: Option<Failures>,
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self {
            abort_before: None,
            abort_after: None,
            on_fault: Arc::new(|_fault| std::process::abort()),
            fail: None,
        }
    }
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultPlan")
            .field("abort_before", &self.abort_before)
            .field("abort_after", &self.abort_after)
            .field("fail", &self.fail)
            .finish_non_exhaustive()
    }
}

/// A store that counts the calls of lease holders and meets them with the plan's faults. Everything else
/// goes through untouched.
#[derive(Clone)]
pub struct FaultStore {
    store: Arc<dyn Store>,
    plan: FaultPlan,
    calls: Arc<AtomicU64>,
    failures: Arc<AtomicU64>,
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore")
            .field("plan", &self.plan)
            .field("calls", &self.calls())
            .finish_non_exhaustive()
    }
}

impl FaultStore {
    /// A store with these faults.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, plan: FaultPlan) -> Self {
        Self {
            store,
            plan,
            calls: Arc::default(),
            failures: Arc::default(),
        }
    }

    /// Calls counted so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }

    /// Calls that failed by chance so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(SeqCst)
    }

    async fn around<T>(
        &self,
        call: FaultyCall,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let number = self.calls.fetch_add(1, SeqCst) + 1;
        self.meet(call, Moment::Before, number)?;
        let answer = work.await?;
        self.meet(call, Moment::After, number)?;
        Ok(answer)
    }

    fn meet(&self, call: FaultyCall, moment: Moment, number: u64) -> Result<()> {
        let abort = match moment {
            Moment::Before => self.plan.abort_before,
            Moment::After => self.plan.abort_after,
        };
        if abort == Some(number) {
            (self.plan.on_fault)(Fault {
                call,
                moment,
                number,
            });
        }
        let Some(fail) = self.plan.fail else {
            return Ok(());
        };
        let (share, side) = match moment {
            Moment::Before => (fail.before, 0),
            Moment::After => (fail.after, 1),
        };
        if chance(fail.seed, number * 2 + side) >= share {
            return Ok(());
        }
        self.failures.fetch_add(1, SeqCst);
        Err(Error::Backend {
            action: "reach the store",
            transient: true,
            source: format!("injected {moment:?} {call:?} {number}").into(),
        })
    }
}

/// A number in 0..1 that depends on nothing but its arguments (`SplitMix64`).
fn chance(seed: u64, place: u64) -> f64 {
    let mut z = seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    f64::from((z >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
}

#[async_trait]
impl RunLookup for FaultStore {
    async fn get(&self, run: RunId) -> Result<Option<RunView>> {
        self.store.get(run).await
    }

    async fn settled(&self, run: RunId, wait: Duration) -> Result<RunView> {
        self.store.settled(run, wait).await
    }

    async fn list(&self, filter: RunFilter) -> Result<Vec<RunRecord>> {
        self.store.list(filter).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.store.stats().await
    }
}

#[async_trait]
impl RunQueue for FaultStore {
    async fn submit(&self, runs: Vec<NewRun>) -> Result<Vec<Submitted>> {
        self.store.submit(runs).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        self.around(FaultyCall::Claim, self.store.claim(request))
            .await
    }

    async fn heartbeat(&self, leases: &[Lease], ttl: Duration) -> Result<Vec<Beat>> {
        self.around(FaultyCall::Heartbeat, self.store.heartbeat(leases, ttl))
            .await
    }

    async fn settle(&self, lease: Lease, disposition: Disposition) -> Result<RunRecord> {
        self.around(FaultyCall::Settle, self.store.settle(lease, disposition))
            .await
    }

    async fn control(&self, run: RunId, command: Command) -> Result<RunRecord> {
        self.store.control(run, command).await
    }

    async fn sweep(&self, limit: usize, wait: Duration) -> Result<Swept> {
        self.store.sweep(limit, wait).await
    }

    async fn prune(&self, policy: PrunePolicy) -> Result<u64> {
        self.store.prune(policy).await
    }
}

#[async_trait]
impl StateStore for FaultStore {
    async fn write(&self, run: RunId, epoch: u64, writes: Vec<StateWrite>) -> Result<u64> {
        self.around(FaultyCall::Write, self.store.write(run, epoch, writes))
            .await
    }

    async fn history(&self, run: RunId) -> Result<History> {
        self.store.history(run).await
    }

    async fn checkpoints(&self, run: RunId, limit: usize) -> Result<Vec<Checkpoint>> {
        self.store.checkpoints(run, limit).await
    }

    async fn forget(&self, run: RunId) -> Result<()> {
        self.store.forget(run).await
    }
}

#[async_trait]
impl EventBus for FaultStore {
    async fn append(&self, run: RunId, events: Vec<NewEvent>) -> Result<u64> {
        self.store.append(run, events).await
    }

    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>> {
        self.store.read(run, after, limit).await
    }

    async fn changed(&self, run: RunId, after: u64, wait: Duration) -> Result<()> {
        self.store.changed(run, after, wait).await
    }

    async fn trim(&self, run: RunId, upto: u64) -> Result<()> {
        self.store.trim(run, upto).await
    }
}

#[async_trait]
impl Store for FaultStore {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        self.around(FaultyCall::Commit, self.store.commit(commit))
            .await
    }

    async fn fork(&self, fork: Fork) -> Result<Submitted> {
        self.store.fork(fork).await
    }

    fn info(&self) -> StoreInfo {
        self.store.info()
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }

    async fn check(&self) -> Result<CheckReport> {
        self.store.check().await
    }

    async fn backup(&self, to: &Path) -> Result<()> {
        self.store.backup(to).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
