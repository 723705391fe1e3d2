//! The contracts, call by call, over the one lock.

use std::{path::Path, sync::Arc, time::Duration};

use adjutant_budget::BudgetLedger;
use adjutant_core::{Clock, Error, Event, Limits, NewEvent, Result, RunId, RunState};
use adjutant_events::{
    EventBus,
    engine::{self as events, EventCore, check_event},
};
use adjutant_queue::{
    Beat, ClaimRequest, Claimed, Command, Disposition, Lease, NewRun, PrunePolicy, QueueStats,
    RunFilter, RunLookup, RunQueue, RunRecord, RunView, Submitted, Swept,
    engine::{self as queue, Prepared, QueueCore, RunLog, check_command, check_disposition},
};
use adjutant_state::{
    Checkpoint, History, StateStore, StateWrite,
    engine::{check_write, steps_of},
};
use async_trait::async_trait;

use super::{MemoryStore, commit::Ready};
use crate::{CheckReport, Commit, Committed, Fork, Package, Store, StoreInfo};

impl queue::Shared for MemoryStore {
    fn enter<R>(
        &self,
        f: impl FnOnce(&mut QueueCore, &mut dyn RunLog, &dyn Clock) -> R,
    ) -> Result<R> {
        self.with_inner(|inner| f(&mut inner.queue, &mut inner.logs, &*self.clock))
    }
}

impl events::Shared for MemoryStore {
    fn events<R>(&self, f: impl FnOnce(&mut EventCore) -> R) -> Result<R> {
        self.with_inner(|inner| f(&mut inner.logs.events))
    }
}

#[async_trait]
impl RunQueue for MemoryStore {
    async fn submit(&self, runs: Vec<NewRun>) -> Result<Vec<Submitted>> {
        let now = self.clock.now();
        let runs = runs
            .into_iter()
            .map(|run| Prepared::new(run, &self.limits, now));
        let runs = runs.collect::<Result<Vec<_>>>()?;
        queue::Shared::enter(self, |core, log, _| core.submit(runs, now, log))?
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        queue::claim(self, request).await
    }

    async fn heartbeat(&self, leases: &[Lease], ttl: Duration) -> Result<Vec<Beat>> {
        queue::Shared::enter(self, |core, _, clock| {
            let now = clock.now();
            let beats = leases.iter().map(|lease| core.heartbeat(lease, ttl, now));
            beats.collect()
        })
    }

    async fn settle(&self, lease: Lease, disposition: Disposition) -> Result<RunRecord> {
        check_disposition(&disposition, &self.limits)?;
        queue::Shared::enter(self, |core, log, clock| {
            core.settle(&lease, disposition, clock.now(), log, Clone::clone)
        })?
    }

    async fn control(&self, run: RunId, command: Command) -> Result<RunRecord> {
        check_command(&command, &self.limits)?;
        queue::Shared::enter(self, |core, log, clock| {
            core.control(run, command, clock.now(), log)
        })?
    }

    async fn sweep(&self, limit: usize, wait: Duration) -> Result<Swept> {
        queue::sweep(self, limit, wait).await
    }

    async fn prune(&self, policy: PrunePolicy) -> Result<u64> {
        queue::Shared::enter(self, |core, log, _| core.prune(&policy, log))
    }
}

#[async_trait]
impl RunLookup for MemoryStore {
    async fn get(&self, run: RunId) -> Result<Option<RunView>> {
        self.with_inner(|inner| inner.queue.view(run))
    }

    async fn settled(&self, run: RunId, wait: Duration) -> Result<RunView> {
        queue::settled(self, run, wait).await
    }

    async fn list(&self, filter: RunFilter) -> Result<Vec<RunRecord>> {
        self.with_inner(|inner| inner.queue.list(&filter))
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.with_inner(|inner| inner.queue.stats())
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn write(&self, run: RunId, epoch: u64, writes: Vec<StateWrite>) -> Result<u64> {
        writes
            .iter()
            .try_for_each(|write| check_write(write, &self.limits))?;
        self.with_inner(|inner| {
            let journals = &mut inner.logs.journals;
            let record = inner.queue.record_mut(run);
            let record = record
                .filter(|record| record.state == RunState::Running && record.epoch == epoch)
                .ok_or(Error::LeaseLost { run, epoch })?;
            journals.check(run, &steps_of(&writes))?;
            let now = self.clock.now();
            for write in writes {
                match write {
                    StateWrite::Step(step) => journals.record(run, step),
                    StateWrite::Checkpoint(state) => journals.save(run, state, now),
                }
            }
            let written = journals.written(run);
            record.steps = written.steps;
            record.checkpoint = written.checkpoint;
            Ok(written.checkpoint)
        })?
    }

    async fn history(&self, run: RunId) -> Result<History> {
        self.with_inner(|inner| inner.logs.journals.history(run))
    }

    async fn checkpoints(&self, run: RunId, limit: usize) -> Result<Vec<Checkpoint>> {
        self.with_inner(|inner| inner.logs.journals.checkpoints(run, limit))
    }

    async fn forget(&self, run: RunId) -> Result<()> {
        self.with_inner(|inner| {
            let _journal = inner.logs.journals.forget(run);
            if let Some(record) = inner.queue.record_mut(run) {
                record.steps = 0;
                record.checkpoint = 0;
            }
        })
    }
}

#[async_trait]
impl EventBus for MemoryStore {
    async fn append(&self, run: RunId, events: Vec<NewEvent>) -> Result<u64> {
        events
            .iter()
            .try_for_each(|event| check_event(event, &self.limits))?;
        self.with_inner(|inner| {
            let record = inner.queue.record_mut(run).ok_or(Error::RunNotFound(run))?;
            record.last_seq = inner.logs.events.append(run, events, self.clock.now());
            Ok(record.last_seq)
        })?
    }

    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>> {
        self.with_inner(|inner| match inner.queue.record(run) {
            Some(_) => inner.logs.events.read(run, after, limit),
            // Nothing will ever come: whoever follows the run must not wait for it.
            None => Err(Error::RunNotFound(run)),
        })?
    }

    async fn changed(&self, run: RunId, after: u64, wait: Duration) -> Result<()> {
        events::changed(self, run, after, wait).await
    }

    async fn trim(&self, run: RunId, upto: u64) -> Result<()> {
        self.with_inner(|inner| inner.logs.events.trim(run, upto))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        let ready = Ready::new(commit, &self.limits, &*self.clock)?;
        self.with_inner(|inner| inner.commit(ready, self.clock.now()))?
    }

    async fn fork(&self, fork: Fork) -> Result<Submitted> {
        let now = self.clock.now();
        let run = Prepared::new(fork.run.clone(), &self.limits, now)?;
        self.with_inner(|inner| inner.fork(&fork, run, now))?
    }

    async fn export(&self, run: RunId) -> Result<Option<Package>> {
        self.with_inner(|inner| inner.export(run))?
    }

    async fn import(&self, package: Package) -> Result<()> {
        package.check()?;
        self.with_inner(|inner| inner.import(package, self.clock.now()))?
    }

    fn ledger(&self) -> Arc<dyn BudgetLedger> {
        Arc::clone(&self.ledger) as _
    }

    fn info(&self) -> StoreInfo {
        StoreInfo {
            engine: "memory",
            location: "this process".to_owned(),
            durability: "nothing: everything is lost when the process ends".to_owned(),
            schema: None,
        }
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    async fn check(&self) -> Result<CheckReport> {
        self.with_inner(|inner| {
            let queue = inner.queue.problem();
            let events = inner.log_problem();
            CheckReport {
                checks: vec![("queue".to_owned(), queue), ("events".to_owned(), events)],
            }
        })
    }

    async fn backup(&self, _to: &Path) -> Result<()> {
        Err(Error::Invalid {
            field: "backup",
            problem: "the memory engine keeps nothing that could be copied to a file".to_owned(),
        })
    }

    async fn close(&self) {
        self.ledger.close();
        // Closing twice is closing once.
        let _closed = self.with_inner(|inner| {
            inner.closed = true;
            inner.queue.wake_all();
            inner.logs.events.wake_all();
        });
    }
}
