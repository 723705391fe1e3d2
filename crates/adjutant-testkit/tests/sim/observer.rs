//! A store that watches what goes through it and notes every broken promise.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_budget::BudgetLedger;
use adjutant_core::{
    Event, Limits, NewEvent, Result, RunContext, RunId, RunState, StepKind, StepOutcome, StepRecord,
};
use adjutant_events::EventBus;
use adjutant_queue::{
    Beat, ClaimRequest, Claimed, Command, Disposition, Lease, NewRun, PrunePolicy, QueueStats,
    RunFilter, RunLookup, RunQueue, RunRecord, RunView, Submitted, Swept,
};
use adjutant_state::{Checkpoint, History, StateStore, StateWrite};
use adjutant_store::{CheckReport, Commit, Committed, Fork, MemoryStore, Op, Store, StoreInfo};
use async_trait::async_trait;

pub struct Observer {
    pub store: MemoryStore,
    seen: Mutex<Seen>,
    pub effects: AtomicU64,
}

#[derive(Default)]
struct Seen {
    /// All leases ever given, newest last.
    leases: HashMap<RunId, Vec<Lease>>,
    /// Steps with a final record.
    done: HashSet<(RunId, String)>,
    broken: Vec<String>,
}

impl Observer {
    pub fn new(store: MemoryStore) -> Arc<Self> {
        Arc::new(Self {
            store,
            seen: Mutex::default(),
            effects: AtomicU64::new(0),
        })
    }

    pub fn broken(&self, what: String) {
        self.seen.lock().unwrap().broken.push(what);
    }

    pub fn all_broken(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap().broken)
    }

    /// Leases that a later claim has made stale, and those of runs that have ended.
    pub fn old_leases(&self) -> Vec<Lease> {
        let seen = self.seen.lock().unwrap();
        seen.leases.values().flatten().copied().collect()
    }

    /// A step's body begins: its run must be held under this epoch, and the step not be recorded.
    pub async fn effect(&self, ctx: &RunContext, step: &str) {
        self.effects.fetch_add(1, SeqCst);
        let (run, epoch) = (ctx.run_id(), ctx.epoch());
        if self
            .seen
            .lock()
            .unwrap()
            .done
            .contains(&(run, step.to_owned()))
        {
            self.broken(format!(
                "{run}: step `{step}` is done again in epoch {epoch}"
            ));
        }
        let now = self.store.get(run).await.unwrap().unwrap().run;
        if now.state != RunState::Running || now.epoch != epoch {
            let (state, current) = (now.state, now.epoch);
            self.broken(format!(
                "{run}: epoch {epoch} does `{step}` although the run is {state} in epoch {current}"
            ));
        }
    }

    async fn committed(&self, lease: Lease, records: Vec<StepRecord>) {
        let newest = {
            let seen = self.seen.lock().unwrap();
            seen.leases
                .get(&lease.run)
                .and_then(|all| all.last().copied())
        };
        if newest != Some(lease) {
            self.broken(format!("{lease:?} wrote although {newest:?} is newer"));
        }
        for record in records {
            let key = (lease.run, record.key.clone());
            if !matches!(record.outcome, StepOutcome::Started { .. })
                && !self.seen.lock().unwrap().done.insert(key)
            {
                self.broken(format!("{}: `{}` recorded twice", lease.run, record.key));
            }
            if let (StepKind::Delegate, StepOutcome::Completed { result }) =
                (record.kind, &record.outcome)
            {
                self.joined(lease.run, result).await;
            }
        }
    }

    /// A fan-out that completes has only children that have ended.
    async fn joined(&self, parent: RunId, outcomes: &adjutant_core::Json) {
        let outcomes: Vec<adjutant_core::ChildOutcome> = outcomes.to().unwrap();
        for child in outcomes {
            let state = self
                .store
                .get(child.run_id)
                .await
                .unwrap()
                .unwrap()
                .run
                .state;
            if !state.is_terminal() || state != child.status {
                let (id, status) = (child.run_id, child.status);
                self.broken(format!("{parent} joined {id} as {status}; it is {state}"));
            }
        }
    }

    async fn claimed(&self, claimed: &[Claimed]) {
        for one in claimed {
            let mut seen = self.seen.lock().unwrap();
            let leases = seen.leases.entry(one.lease.run).or_default();
            let older = leases.last().map_or(0, |lease| lease.epoch);
            leases.push(one.lease);
            if one.lease.epoch <= older {
                seen.broken
                    .push(format!("{:?} follows epoch {older}", one.lease));
            }
        }
        let running = RunFilter {
            states: vec![RunState::Running],
            limit: 10_000,
            ..RunFilter::default()
        };
        let mut counts: HashMap<_, u32> = HashMap::new();
        for run in self.store.list(running).await.unwrap() {
            if let Some(limit) = run.concurrency {
                *counts.entry((limit.key, limit.limit)).or_default() += 1;
            }
        }
        for ((key, limit), count) in counts {
            if count > limit.get() {
                self.broken(format!("{count} runs with key {key} at a time"));
            }
        }
    }
}

#[async_trait]
impl Store for Observer {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        let lease = commit.lease;
        let steps = commit.ops.iter().filter_map(|op| match op {
            Op::Step(record) => Some(record.clone()),
            _ => None,
        });
        let steps = steps.collect();
        let committed = self.store.commit(commit).await?;
        self.committed(lease, steps).await;
        Ok(committed)
    }

    async fn fork(&self, fork: Fork) -> Result<Submitted> {
        self.store.fork(fork).await
    }

    fn ledger(&self) -> Arc<dyn BudgetLedger> {
        self.store.ledger()
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

#[async_trait]
impl RunQueue for Observer {
    async fn submit(&self, runs: Vec<NewRun>) -> Result<Vec<Submitted>> {
        self.store.submit(runs).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        let claimed = self.store.claim(request).await?;
        self.claimed(&claimed).await;
        Ok(claimed)
    }

    async fn heartbeat(&self, leases: &[Lease], ttl: Duration) -> Result<Vec<Beat>> {
        self.store.heartbeat(leases, ttl).await
    }

    async fn settle(&self, lease: Lease, disposition: Disposition) -> Result<RunRecord> {
        let record = self.store.settle(lease, disposition).await?;
        self.committed(lease, Vec::new()).await;
        Ok(record)
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
impl RunLookup for Observer {
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
impl StateStore for Observer {
    async fn write(&self, run: RunId, epoch: u64, writes: Vec<StateWrite>) -> Result<u64> {
        self.store.write(run, epoch, writes).await
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
impl EventBus for Observer {
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
