//! The simplest queue: everything in memory, under one lock.

mod check;
mod core;
mod effects;
mod handover;
mod index;
mod reads;
mod retention;
mod wait;
mod waiters;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use adjutant_core::{Clock, Limits, Result, RunId, SystemClock};
use async_trait::async_trait;

use self::{
    core::{Prepared, QueueCore, RunLog},
    wait::Shared,
};
use crate::{
    Beat, ClaimRequest, Claimed, Command, Disposition, Lease, NewRun, PrunePolicy, QueueStats,
    RunFilter, RunLookup, RunQueue, RunRecord, RunView, Submitted, Swept,
};

/// The parts of [`MemoryQueue`] for engines that hold more than a queue under the same lock.
pub mod engine {
    pub use super::{
        check_command, check_disposition,
        core::{Afterwards, Prepared, QueueCore, RunLog},
        wait::{Shared, claim, settled, sweep},
    };
}

/// Finished runs that a memory engine keeps unless told otherwise.
const KEEP_FINISHED: usize = 10_000;

/// How a [`MemoryQueue`] is set up.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// Where the time comes from. Default: the wall clock.
    pub clock: Arc<dyn Clock>,
    /// What it takes at most.
    pub limits: Limits,
    /// Finished runs to keep, and at most a hundredth more; the oldest are forgotten first. Default
    /// 10 000.
    pub keep_finished: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            limits: Limits::default(),
            keep_finished: KEEP_FINISHED,
        }
    }
}

/// A queue in memory. It keeps no event log, so its records count no events.
pub struct MemoryQueue {
    clock: Arc<dyn Clock>,
    limits: Limits,
    core: Mutex<QueueCore>,
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueue").finish_non_exhaustive()
    }
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryQueue {
    /// An empty queue with defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::with(QueueConfig::default())
    }

    /// An empty queue.
    #[must_use]
    pub fn with(config: QueueConfig) -> Self {
        Self {
            clock: config.clock,
            limits: config.limits,
            core: Mutex::new(QueueCore::new(config.keep_finished)),
        }
    }
}

impl Shared for MemoryQueue {
    fn enter<R>(
        &self,
        f: impl FnOnce(&mut QueueCore, &mut dyn RunLog, &dyn Clock) -> R,
    ) -> Result<R> {
        // No call leaves the core half changed, so a panic elsewhere does not spoil it.
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = f(&mut core, &mut (), &*self.clock);
        let afterwards = core.afterwards();
        drop(core);
        afterwards.run();
        Ok(answer)
    }
}

/// Refuses a disposition with a payload over its limit.
///
/// # Errors
/// `TooLarge`.
pub fn check_disposition(disposition: &Disposition, limits: &Limits) -> Result<()> {
    match disposition {
        Disposition::Succeeded(result) => {
            Limits::check("output", &result.final_output, limits.output)
        }
        Disposition::Failed(error) => Limits::check("error", &error.details, limits.output),
        _ => Ok(()),
    }
}

/// Refuses a command with a payload over its limit.
///
/// # Errors
/// `TooLarge`.
pub fn check_command(command: &Command, limits: &Limits) -> Result<()> {
    match command {
        Command::Signal { payload, .. } => Limits::check("signal", payload, limits.signal),
        _ => Ok(()),
    }
}

#[async_trait]
impl RunQueue for MemoryQueue {
    async fn submit(&self, runs: Vec<NewRun>) -> Result<Vec<Submitted>> {
        let now = self.clock.now();
        let runs = runs
            .into_iter()
            .map(|run| Prepared::new(run, &self.limits, now));
        let runs = runs.collect::<Result<Vec<_>>>()?;
        self.enter(|core, log, _| core.submit(runs, now, log))?
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        wait::claim(self, request).await
    }

    async fn heartbeat(&self, leases: &[Lease], ttl: Duration) -> Result<Vec<Beat>> {
        self.enter(|core, _, clock| {
            let now = clock.now();
            let beats = leases.iter().map(|lease| core.heartbeat(lease, ttl, now));
            beats.collect()
        })
    }

    async fn settle(&self, lease: Lease, disposition: Disposition) -> Result<RunRecord> {
        check_disposition(&disposition, &self.limits)?;
        self.enter(|core, log, clock| {
            core.settle(&lease, disposition, clock.now(), log, Clone::clone)
        })?
    }

    async fn control(&self, run: RunId, command: Command) -> Result<RunRecord> {
        check_command(&command, &self.limits)?;
        self.enter(|core, log, clock| core.control(run, command, clock.now(), log))?
    }

    async fn sweep(&self, limit: usize, wait: Duration) -> Result<Swept> {
        wait::sweep(self, limit, wait).await
    }

    async fn prune(&self, policy: PrunePolicy) -> Result<u64> {
        self.enter(|core, log, _| core.prune(&policy, log))
    }
}

#[async_trait]
impl RunLookup for MemoryQueue {
    async fn get(&self, run: RunId) -> Result<Option<RunView>> {
        self.enter(|core, _, _| core.view(run))
    }

    async fn settled(&self, run: RunId, wait: Duration) -> Result<RunView> {
        wait::settled(self, run, wait).await
    }

    async fn list(&self, filter: RunFilter) -> Result<Vec<RunRecord>> {
        self.enter(|core, _, _| core.list(&filter))
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.enter(|core, _, _| core.stats())
    }
}

#[cfg(test)]
mod tests {
    use adjutant_core::{RunInput, WorkerId};

    use super::*;
    use crate::{
        AgentFilter,
        conformance::{Fixture, ManualClock},
    };

    fn fixture() -> Fixture {
        let clock = ManualClock::new();
        let config = QueueConfig {
            clock: Arc::new(clock.clone()),
            ..QueueConfig::default()
        };
        Fixture {
            engine: Arc::new(MemoryQueue::with(config)),
            clock,
            keep: Box::new(()),
        }
    }

    crate::suite!(async { fixture() });

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_ends_leaves_nothing_behind() {
        let queue = MemoryQueue::new();
        let run = NewRun::new("a", &RunInput::default()).unwrap();
        let id = run.id;
        queue.submit(vec![run]).await.unwrap();
        let wait = Duration::from_secs(5);
        queue.settled(id, wait).await.unwrap();
        queue.sweep(1, wait).await.unwrap();
        let request = ClaimRequest {
            worker: WorkerId::new(),
            capacity: 1,
            agents: AgentFilter::Only(vec!["b".into()]),
            lease_ttl: wait,
            wait,
        };
        assert!(queue.claim(request.clone()).await.unwrap().is_empty());
        let short = Duration::from_secs(1);
        assert!(
            tokio::time::timeout(short, queue.claim(request))
                .await
                .is_err()
        );
        assert!(
            tokio::time::timeout(short, queue.settled(id, wait))
                .await
                .is_err()
        );
        assert!(
            tokio::time::timeout(short, queue.sweep(1, wait))
                .await
                .is_err()
        );
        assert_eq!(queue.enter(|core, _, _| core.waiters.len()).unwrap(), 0);
    }
}
