//! The contracts, call by call.

use std::{path::Path, sync::Arc, time::Duration};

use adjutant_budget::BudgetLedger;
use adjutant_core::{Error, Limits, Result, RunId, RunState, StepOutcome};
use adjutant_queue::{
    Beat, ClaimRequest, Claimed, Command, Disposition, Lease, NewRun, PrunePolicy, QueueStats,
    RunFilter, RunLookup, RunQueue, RunRecord, RunView, Submitted, Swept,
};
use adjutant_state::{Checkpoint, History, StateStore, StateWrite};
use async_trait::async_trait;
use futures::future::{join_all, try_join_all};

use super::{ComposedStore, shadow::shadow};
use crate::{CheckReport, Commit, Committed, Fork, Op, Package, Store, StoreInfo};

#[async_trait]
impl RunLookup for ComposedStore {
    async fn get(&self, run: RunId) -> Result<Option<RunView>> {
        let mut view = self.queue.get(run).await?;
        if let Some(view) = &mut view {
            self.fill_in(&mut view.run).await?;
        }
        Ok(view)
    }

    async fn settled(&self, run: RunId, wait: Duration) -> Result<RunView> {
        let mut view = self.queue.settled(run, wait).await?;
        self.fill_in(&mut view.run).await?;
        Ok(view)
    }

    async fn list(&self, filter: RunFilter) -> Result<Vec<RunRecord>> {
        let mut runs = self.queue.list(filter).await?;
        try_join_all(runs.iter_mut().map(|run| self.fill_in(run))).await?;
        Ok(runs)
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.queue.stats().await
    }
}

impl ComposedStore {
    /// Looks whether the queue's part of a commit is going to be refused, since the journal's part cannot be taken
    /// back. The state store knows claims and not leases, so a lease that has run out is noticed here, too.
    async fn queue_will_take(&self, commit: &Commit) -> Result<()> {
        let (lease, ops, end) = (commit.lease, Vec::new(), None);
        self.queue.commit(Commit { lease, ops, end }).await?;
        let taken = commit.ops.iter().filter_map(|op| match op {
            Op::TakeSignal(signal) => Some(*signal),
            _ => None,
        });
        let taken: Vec<u64> = taken.collect();
        if taken.is_empty() {
            return Ok(());
        }
        let package = self.queue.export(lease.run).await?;
        let there = package.into_iter().flat_map(|package| package.signals);
        let mut there: Vec<u64> = there.map(|signal| signal.id).collect();
        for signal in taken {
            let place = there.iter().position(|known| *known == signal);
            let Some(place) = place else {
                return Err(Error::Conflict {
                    what: format!("signal {signal} of {}", lease.run),
                });
            };
            there.swap_remove(place);
        }
        Ok(())
    }

    /// What follows for the parts when a run is given back.
    async fn given_back(&self, run: RunId, state: RunState) -> Result<()> {
        if state.is_terminal()
            && self.state.is_some()
            && let Some(view) = self.queue.get(run).await?
        {
            self.end(&view).await;
        }
        if let Some(events) = &self.events
            && let Err(error) = self.copy_events(&**events, run).await
        {
            // They are safe where they are, and whoever reads copies them.
            tracing::warn!(run_id = %run, %error, "failed to copy events to their store");
        }
        Ok(())
    }
}

#[async_trait]
impl RunQueue for ComposedStore {
    async fn submit(&self, runs: Vec<NewRun>) -> Result<Vec<Submitted>> {
        self.queue.submit(runs).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        let mut claimed = self.queue.claim(request).await?;
        let runs = claimed.iter_mut().map(|claimed| {
            let view = RunView {
                run: claimed.run.clone(),
                payload: claimed.payload.clone(),
                outcome: None,
            };
            (&mut claimed.run, shadow(&view))
        });
        if let Err(error) = self.begin(runs.collect()).await {
            // Nobody can drive them now, so they go back rather than wait for their leases to expire.
            let reason = "state store".to_owned();
            let back = claimed.iter().map(|claimed| {
                let reason = reason.clone();
                self.queue
                    .settle(claimed.lease, Disposition::Released { reason })
            });
            join_all(back).await;
            return Err(error);
        }
        Ok(claimed)
    }

    async fn heartbeat(&self, leases: &[Lease], ttl: Duration) -> Result<Vec<Beat>> {
        self.queue.heartbeat(leases, ttl).await
    }

    async fn settle(&self, lease: Lease, disposition: Disposition) -> Result<RunRecord> {
        let mut record = self.queue.settle(lease, disposition).await?;
        self.given_back(lease.run, record.state).await?;
        self.fill_in(&mut record).await?;
        Ok(record)
    }

    async fn control(&self, run: RunId, command: Command) -> Result<RunRecord> {
        let mut record = self.queue.control(run, command).await?;
        self.given_back(run, record.state).await?;
        self.fill_in(&mut record).await?;
        Ok(record)
    }

    async fn sweep(&self, limit: usize, wait: Duration) -> Result<Swept> {
        self.queue.sweep(limit, wait).await
    }

    async fn prune(&self, policy: PrunePolicy) -> Result<u64> {
        let forgotten = self.queue.prune(policy).await?;
        self.prune_others(&policy).await?;
        Ok(forgotten)
    }
}

#[async_trait]
impl StateStore for ComposedStore {
    async fn write(&self, run: RunId, epoch: u64, writes: Vec<StateWrite>) -> Result<u64> {
        let state = self.state.as_ref().unwrap_or(&self.queue);
        state.write(run, epoch, writes).await
    }

    async fn history(&self, run: RunId) -> Result<History> {
        let state = self.state.as_ref().unwrap_or(&self.queue);
        state.history(run).await
    }

    async fn checkpoints(&self, run: RunId, limit: usize) -> Result<Vec<Checkpoint>> {
        let state = self.state.as_ref().unwrap_or(&self.queue);
        state.checkpoints(run, limit).await
    }

    async fn forget(&self, run: RunId) -> Result<()> {
        let state = self.state.as_ref().unwrap_or(&self.queue);
        state.forget(run).await
    }
}

/// Takes the writes to the journal out of a commit.
fn take_writes(ops: &mut Vec<Op>) -> Vec<StateWrite> {
    let (mut writes, mut rest) = (Vec::new(), Vec::new());
    for op in ops.drain(..) {
        match op {
            Op::Step(step) => writes.push(StateWrite::Step(step)),
            Op::Checkpoint(state) => writes.push(StateWrite::Checkpoint(state)),
            other => rest.push(other),
        }
    }
    *ops = rest;
    writes
}

#[async_trait]
impl Store for ComposedStore {
    async fn commit(&self, mut commit: Commit) -> Result<Committed> {
        commit.check(&self.limits())?;
        let run = commit.lease.run;
        let is_end = commit.end.is_some();
        let mut checkpoint = None;
        if let Some(state) = &self.state {
            let writes = take_writes(&mut commit.ops);
            if !writes.is_empty() {
                self.queue_will_take(&commit).await?;
                checkpoint = Some(state.write(run, commit.lease.epoch, writes).await?);
            }
        }
        let mut committed = self.queue.commit(commit).await?;
        if is_end {
            self.given_back(run, committed.state).await?;
        }
        if let Some(checkpoint) = checkpoint {
            committed.checkpoint = checkpoint;
        } else if let Some(state) = &self.state {
            let there = state.get(run).await?;
            committed.checkpoint = there.map_or(0, |there| there.run.checkpoint);
        }
        Ok(committed)
    }

    async fn fork(&self, mut fork: Fork) -> Result<Submitted> {
        if let Some(state) = &self.state {
            let Some(source) = self.queue.get(fork.source).await? else {
                return Err(Error::RunNotFound(fork.source));
            };
            // The history goes first: the run can be claimed as soon as it is queued.
            let history = state.history(fork.source).await?;
            let (record, _) = RunRecord::submitted(&fork.run, source.run.created_at);
            let mut package = shadow(&RunView {
                run: record,
                payload: source.payload,
                outcome: None,
            });
            let taken = fork.steps.unwrap_or(usize::MAX);
            package.journal = history.journal;
            package.journal.truncate(taken);
            if fork.steps.is_none() {
                package
                    .journal
                    .retain(|step| matches!(step.outcome, StepOutcome::Completed { .. }));
                let latest = history.checkpoint.into_iter();
                package.checkpoints = latest.map(|saved| Checkpoint { seq: 1, ..saved }).collect();
            }
            package.run.checkpoint = u64::try_from(package.checkpoints.len()).unwrap_or(0);
            state.import(package).await?;
            fork.steps = Some(0);
        }
        self.queue.fork(fork).await
    }

    async fn export(&self, run: RunId) -> Result<Option<Package>> {
        let Some(mut package) = self.queue.export(run).await? else {
            return Ok(None);
        };
        if let Some(state) = &self.state
            && let Some(there) = state.export(run).await?
        {
            package.run.steps = there.run.steps;
            package.run.checkpoint = there.run.checkpoint;
            package.journal = there.journal;
            package.checkpoints = there.checkpoints;
        }
        if let Some(events) = &self.events {
            self.copy_events(&**events, run).await?;
            if let Some(there) = events.export(run).await? {
                package.events = there.events;
            }
        }
        Ok(Some(package))
    }

    async fn import(&self, mut package: Package) -> Result<()> {
        if let Some(state) = &self.state {
            package.check()?;
            let mut there = shadow(&RunView {
                run: package.run.clone(),
                payload: package.payload.clone(),
                outcome: package.outcome.clone(),
            });
            there.journal = std::mem::take(&mut package.journal);
            there.checkpoints = std::mem::take(&mut package.checkpoints);
            package.run.steps = 0;
            package.run.checkpoint = 0;
            state.import(there).await?;
        }
        self.queue.import(package).await
    }

    /// With the queue, which decides.
    fn ledger(&self) -> Arc<dyn BudgetLedger> {
        self.queue.ledger()
    }

    fn info(&self) -> StoreInfo {
        let mut info = self.queue.info();
        info.location = format!("queue in {}", info.location);
        for (name, store) in self.others() {
            let other = store.info();
            info.location = format!("{}, {name} in {}", info.location, other.location);
            info.durability = format!("{}; {name}: {}", info.durability, other.durability);
        }
        StoreInfo {
            engine: "composed",
            ..info
        }
    }

    fn limits(&self) -> Limits {
        self.queue.limits()
    }

    async fn check(&self) -> Result<CheckReport> {
        let mut report = self.queue.check().await?;
        for (name, store) in self.others() {
            let checks = store.check().await?.checks.into_iter();
            let checks = checks.map(|(check, problem)| (format!("{name}: {check}"), problem));
            report.checks.extend(checks);
        }
        Ok(report)
    }

    async fn backup(&self, _to: &Path) -> Result<()> {
        Err(Error::Invalid {
            field: "backup",
            problem: "a store of several parts has no moment in common; back up each part, the queue last".to_owned(),
        })
    }

    async fn close(&self) {
        self.queue.close().await;
        for (_, store) in self.others() {
            store.close().await;
        }
    }
}
