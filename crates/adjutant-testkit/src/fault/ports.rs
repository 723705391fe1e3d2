//! The store's contract: calls of lease holders meet the plan, all others only death.

use std::{path::Path, sync::Arc, time::Duration};

use adjutant_budget::BudgetLedger;
use adjutant_core::{Error, Event, Limits, NewEvent, Result, RunId};
use adjutant_events::EventBus;
use adjutant_queue::{
    Beat, ClaimRequest, Claimed, Command, Disposition, Lease, NewRun, PrunePolicy, QueueStats,
    RunFilter, RunLookup, RunQueue, RunRecord, RunView, Submitted, Swept,
};
use adjutant_state::{Checkpoint, History, StateStore, StateWrite};
use adjutant_store::{CheckReport, Commit, Committed, Fork, Store, StoreInfo};
use async_trait::async_trait;

use super::{FaultStore, FaultyCall};

#[async_trait]
impl RunLookup for FaultStore {
    async fn get(&self, run: RunId) -> Result<Option<RunView>> {
        self.alive().await;
        self.store.get(run).await
    }

    async fn settled(&self, run: RunId, wait: Duration) -> Result<RunView> {
        self.alive().await;
        self.store.settled(run, wait).await
    }

    async fn list(&self, filter: RunFilter) -> Result<Vec<RunRecord>> {
        self.alive().await;
        self.store.list(filter).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.alive().await;
        self.store.stats().await
    }
}

#[async_trait]
impl RunQueue for FaultStore {
    async fn submit(&self, runs: Vec<NewRun>) -> Result<Vec<Submitted>> {
        self.alive().await;
        self.store.submit(runs).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        self.around(FaultyCall::Claim, None, self.store.claim(request))
            .await
    }

    async fn heartbeat(&self, leases: &[Lease], ttl: Duration) -> Result<Vec<Beat>> {
        let first = leases.first().copied();
        let beats = self.store.heartbeat(leases, ttl);
        match self.around(FaultyCall::Heartbeat, first, beats).await {
            // A lost lease is an answer to a heartbeat, not an error.
            Err(Error::LeaseLost { .. }) => Ok(vec![Beat::Lost; leases.len()]),
            answer => answer,
        }
    }

    async fn settle(&self, lease: Lease, disposition: Disposition) -> Result<RunRecord> {
        self.around(
            FaultyCall::Settle,
            Some(lease),
            self.store.settle(lease, disposition),
        )
        .await
    }

    async fn control(&self, run: RunId, command: Command) -> Result<RunRecord> {
        self.alive().await;
        self.store.control(run, command).await
    }

    async fn sweep(&self, limit: usize, wait: Duration) -> Result<Swept> {
        self.alive().await;
        self.store.sweep(limit, wait).await
    }

    async fn prune(&self, policy: PrunePolicy) -> Result<u64> {
        self.alive().await;
        self.store.prune(policy).await
    }
}

#[async_trait]
impl StateStore for FaultStore {
    async fn write(&self, run: RunId, epoch: u64, writes: Vec<StateWrite>) -> Result<u64> {
        self.around(
            FaultyCall::Write,
            None,
            self.store.write(run, epoch, writes),
        )
        .await
    }

    async fn history(&self, run: RunId) -> Result<History> {
        self.alive().await;
        self.store.history(run).await
    }

    async fn checkpoints(&self, run: RunId, limit: usize) -> Result<Vec<Checkpoint>> {
        self.alive().await;
        self.store.checkpoints(run, limit).await
    }

    async fn forget(&self, run: RunId) -> Result<()> {
        self.alive().await;
        self.store.forget(run).await
    }
}

#[async_trait]
impl EventBus for FaultStore {
    async fn append(&self, run: RunId, events: Vec<NewEvent>) -> Result<u64> {
        self.alive().await;
        self.store.append(run, events).await
    }

    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>> {
        self.alive().await;
        self.store.read(run, after, limit).await
    }

    async fn changed(&self, run: RunId, after: u64, wait: Duration) -> Result<()> {
        self.alive().await;
        self.store.changed(run, after, wait).await
    }

    async fn trim(&self, run: RunId, upto: u64) -> Result<()> {
        self.alive().await;
        self.store.trim(run, upto).await
    }
}

#[async_trait]
impl Store for FaultStore {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        self.around(
            FaultyCall::Commit,
            Some(commit.lease),
            self.store.commit(commit),
        )
        .await
    }

    async fn fork(&self, fork: Fork) -> Result<Submitted> {
        self.alive().await;
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
        self.alive().await;
        self.store.check().await
    }

    async fn backup(&self, to: &Path) -> Result<()> {
        self.alive().await;
        self.store.backup(to).await
    }

    async fn close(&self) {
        self.alive().await;
        self.store.close().await;
    }
}
