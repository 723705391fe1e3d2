//! Several handles that act as one store: each call goes through any of them, and is counted.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use adjutant_budget::BudgetLedger;
use adjutant_core::{Event, Limits, NewEvent, Result, RunId};
use adjutant_events::EventBus;
use adjutant_queue::{
    Beat, ClaimRequest, Claimed, Command, Disposition, Lease, NewRun, PrunePolicy, QueueStats,
    RunFilter, RunLookup, RunQueue, RunRecord, RunView, Submitted, Swept,
};
use adjutant_state::{Checkpoint, History, StateStore, StateWrite};
use adjutant_store::{CheckReport, Commit, Committed, Fork, Package, Store, StoreInfo};
use async_trait::async_trait;

use crate::{counts::Counts, dice::Dice, ledgers::Ledgers};

pub struct Several {
    handles: Vec<Arc<dyn Store>>,
    turn: Mutex<(Dice, usize)>,
    pub counts: Arc<Counts>,
}

impl Several {
    pub fn new(handles: Vec<Arc<dyn Store>>, seed: u64, counts: Arc<Counts>) -> Self {
        Self {
            handles,
            turn: Mutex::new((Dice(seed), 0)),
            counts,
        }
    }

    /// Mostly another handle than last time; sometimes the same, so that it uses what it remembers.
    fn any(&self) -> &dyn Store {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (dice, last) = &mut *turn;
        if dice.below(3) > 0 {
            *last = dice.index(self.handles.len());
        }
        &*self.handles[*last]
    }

    /// Counts refusals.
    fn told<T>(&self, answer: Result<T>) -> Result<T> {
        if let Err(error) = &answer {
            self.counts.refused(error);
        }
        answer
    }

    /// Any handle knows at once how a run stands, also one that remembers how it stood.
    async fn look_at(&self, run: RunId) {
        let handle = self.any();
        let told = handle.settled(run, Duration::ZERO).await;
        let is = self.any().get(run).await.unwrap();
        if let (Ok(mut told), Some(mut is)) = (told, is) {
            told.run.blocked = false;
            is.run.blocked = false;
            if is.run.state.is_terminal() {
                // Somebody may have told something of it after its end; nothing else changes then.
                told.run.last_seq = is.run.last_seq.min(told.run.last_seq);
                is.run.last_seq = told.run.last_seq;
            }
            assert_eq!(told, is, "a handle has told of a run as it stood before");
        }
    }
}

#[async_trait]
impl RunLookup for Several {
    async fn get(&self, run: RunId) -> Result<Option<RunView>> {
        self.any().get(run).await
    }

    async fn settled(&self, run: RunId, wait: Duration) -> Result<RunView> {
        self.any().settled(run, wait).await
    }

    async fn list(&self, filter: RunFilter) -> Result<Vec<RunRecord>> {
        let answer = self.any().list(filter).await;
        self.counts
            .add("list", answer.as_ref().map_or(0, |runs| runs.len() as u64));
        answer
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.any().stats().await
    }
}

#[async_trait]
impl RunQueue for Several {
    async fn submit(&self, runs: Vec<NewRun>) -> Result<Vec<Submitted>> {
        let answer = self.told(self.any().submit(runs).await);
        for submitted in answer.iter().flatten() {
            let kind = if submitted.created {
                "submit"
            } else {
                "submit again"
            };
            self.counts.add(kind, 1);
        }
        answer
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        let answer = self.told(self.any().claim(request).await);
        let claimed = answer.as_ref().map_or(0, Vec::len);
        self.counts.add("claim", claimed as u64);
        answer
    }

    async fn heartbeat(&self, leases: &[Lease], ttl: Duration) -> Result<Vec<Beat>> {
        let answer = self.told(self.any().heartbeat(leases, ttl).await);
        for beat in answer.iter().flatten() {
            let kind = match beat {
                Beat::Alive { .. } => "heartbeat",
                Beat::Lost => "heartbeat lost",
            };
            self.counts.add(kind, 1);
        }
        answer
    }

    async fn settle(&self, lease: Lease, disposition: Disposition) -> Result<RunRecord> {
        let answer = self.told(self.any().settle(lease, disposition.clone()).await);
        if answer.is_ok() {
            self.counts.add("settle", 1);
            self.counts.end(&disposition);
            self.look_at(lease.run).await;
        }
        answer
    }

    async fn control(&self, run: RunId, command: Command) -> Result<RunRecord> {
        let answer = self.told(self.any().control(run, command.clone()).await);
        if answer.is_ok() {
            self.counts.command(&command);
            self.look_at(run).await;
        }
        answer
    }

    async fn sweep(&self, limit: usize, wait: Duration) -> Result<Swept> {
        let answer = self.told(self.any().sweep(limit, wait).await);
        if let Ok(swept) = &answer {
            self.counts.add("sweep recovered", swept.recovered);
            self.counts.add("sweep parked", swept.parked);
            self.counts.add("sweep woken", swept.woken);
        }
        answer
    }

    async fn prune(&self, policy: PrunePolicy) -> Result<u64> {
        let answer = self.told(self.any().prune(policy).await);
        self.counts
            .add("prune", answer.as_ref().copied().unwrap_or(0));
        answer
    }
}

#[async_trait]
impl StateStore for Several {
    async fn write(&self, run: RunId, epoch: u64, writes: Vec<StateWrite>) -> Result<u64> {
        self.any().write(run, epoch, writes).await
    }

    async fn history(&self, run: RunId) -> Result<History> {
        self.any().history(run).await
    }

    async fn checkpoints(&self, run: RunId, limit: usize) -> Result<Vec<Checkpoint>> {
        self.any().checkpoints(run, limit).await
    }

    async fn forget(&self, run: RunId) -> Result<()> {
        self.any().forget(run).await
    }
}

#[async_trait]
impl EventBus for Several {
    async fn append(&self, run: RunId, events: Vec<NewEvent>) -> Result<u64> {
        let answer = self.told(self.any().append(run, events).await);
        self.counts.add("append", u64::from(answer.is_ok()));
        answer
    }

    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>> {
        self.any().read(run, after, limit).await
    }

    async fn changed(&self, run: RunId, after: u64, wait: Duration) -> Result<()> {
        self.any().changed(run, after, wait).await
    }

    async fn trim(&self, run: RunId, upto: u64) -> Result<()> {
        self.any().trim(run, upto).await
    }
}

#[async_trait]
impl Store for Several {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        let answer = self.told(self.any().commit(commit.clone()).await);
        if answer.is_ok() {
            self.counts.add("commit", 1);
            commit.ops.iter().for_each(|op| self.counts.op(op));
            commit.end.iter().for_each(|end| self.counts.end(end));
            self.look_at(commit.lease.run).await;
        }
        answer
    }

    async fn fork(&self, fork: Fork) -> Result<Submitted> {
        let answer = self.told(self.any().fork(fork).await);
        self.counts.add("fork", u64::from(answer.is_ok()));
        answer
    }

    async fn export(&self, run: RunId) -> Result<Option<Package>> {
        self.any().export(run).await
    }

    async fn import(&self, package: Package) -> Result<()> {
        self.any().import(package).await
    }

    fn ledger(&self) -> Arc<dyn BudgetLedger> {
        let ledgers = self.handles.iter().map(|handle| handle.ledger());
        Arc::new(Ledgers::new(ledgers.collect()))
    }

    fn info(&self) -> StoreInfo {
        self.handles[0].info()
    }

    fn limits(&self) -> Limits {
        self.handles[0].limits()
    }

    async fn check(&self) -> Result<CheckReport> {
        self.any().check().await
    }

    async fn backup(&self, to: &Path) -> Result<()> {
        self.any().backup(to).await
    }

    async fn close(&self) {
        for handle in &self.handles {
            handle.close().await;
        }
    }
}
