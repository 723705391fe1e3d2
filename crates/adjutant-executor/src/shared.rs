//! What all attempts of one runner share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use adjutant_core::{AgentRegistry, Clock, IdMap, Result, RetryAdvice, RunId, WorkerId};
use adjutant_queue::{Held, Lease};
use adjutant_store::{Commit, Store};
use tokio::{sync::Notify, time::Instant};

use crate::{RunnerConfig, control::Control};

/// Tries to write the end of an attempt before the lease is left to expire.
const SETTLE_TRIES: u32 = 5;

pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) agents: AgentRegistry,
    pub(crate) config: RunnerConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) worker: WorkerId,
    active: Mutex<IdMap<RunId, Active>>,
    /// Signalled to beat now rather than at the next interval.
    pub(crate) beat_now: Notify,
}

#[derive(Clone)]
pub(crate) struct Active {
    pub(crate) lease: Lease,
    pub(crate) control: Arc<Control>,
    /// When the lease may run out, for all that the store has confirmed; a little early, because an
    /// agent is not stopped in no time.
    pub(crate) good_until: Instant,
}

impl Shared {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        agents: AgentRegistry,
        config: RunnerConfig,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            agents,
            config,
            clock,
            worker: WorkerId::new(),
            active: Mutex::default(),
            beat_now: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, IdMap<RunId, Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a run under its lease; leaves when the guard is dropped.
    pub(crate) fn enter(&self, lease: Lease, held: Option<Held>) -> (Arc<Control>, Entered<'_>) {
        let control = Arc::new(Control::default());
        // The answer to a claim may have taken a good part of the lease.
        let ttl = self.config.lease_ttl;
        let left = held.map_or(ttl, |held| held.expires_at.since(self.clock.now()).min(ttl));
        if left < ttl * 9 / 10 {
            self.beat_now.notify_one();
        }
        self.lock().insert(
            lease.run,
            Active {
                lease,
                control: Arc::clone(&control),
                good_until: Instant::now() + left.saturating_sub(ttl / 10),
            },
        );
        let shared = self;
        (control, Entered { shared, lease })
    }

    pub(crate) fn active(&self) -> Vec<Active> {
        self.lock().values().cloned().collect()
    }

    /// Takes note that the store has confirmed these leases, asked at `asked`.
    pub(crate) fn confirm(&self, leases: &[Lease], asked: Instant) {
        let good_until = asked + self.config.lease_ttl * 9 / 10;
        let mut active = self.lock();
        for lease in leases {
            if let Some(entry) = active.get_mut(&lease.run)
                && entry.lease == *lease
            {
                entry.good_until = good_until;
            }
        }
    }

    /// Writes the end of an attempt, trying again where that helps.
    pub(crate) async fn settle(&self, commit: &Commit) -> Result<()> {
        let mut tries = 1;
        loop {
            let error = match self.store.commit(commit.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            match error.retry() {
                RetryAdvice::After(delay) if tries < SETTLE_TRIES => {
                    let (run_id, epoch) = (commit.lease.run, commit.lease.epoch);
                    tracing::warn!(%run_id, epoch, error = &error as &dyn std::error::Error, "failed to write the end of an attempt, trying again");
                    tokio::time::sleep(delay.min(Duration::from_secs(5))).await;
                    tries += 1;
                }
                _ => return Err(error),
            }
        }
    }
}

/// A run's place among the active ones.
pub(crate) struct Entered<'a> {
    shared: &'a Shared,
    lease: Lease,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut active = self.shared.lock();
        // The same run may have been claimed again under a newer epoch; that entry is not ours.
        if active
            .get(&self.lease.run)
            .is_some_and(|entry| entry.lease == self.lease)
        {
            active.remove(&self.lease.run);
        }
    }
}
