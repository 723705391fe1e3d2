//! The worker: claims runs, drives them, gives them back.

use std::{sync::Arc, time::Duration};

use adjutant_core::{
    AgentRegistry, Clock, Error, Result, RetryAdvice, RetryPolicy, RunId, SystemClock, WorkerId,
};
use adjutant_queue::{AgentFilter, ClaimRequest, Claimed, Command};
use adjutant_store::Store;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{ConfigError, RunnerConfig, attempt, control::DRAIN, heartbeat, shared::Shared};

/// How long one claim waits for work before it is asked again.
const CLAIM_WAIT: Duration = Duration::from_secs(30);
/// How long one sweep waits for something to come due.
const SWEEP_WAIT: Duration = Duration::from_secs(30);
/// Runs that one sweep deals with.
const SWEEP_LIMIT: usize = 1000;
/// How long drained attempts may take to let go once they have been told to.
const LET_GO: Duration = Duration::from_secs(5);
/// Longest pause after an error of the store.
const MAX_ERROR_DELAY: Duration = Duration::from_secs(5);

/// A worker. Its id is unique per incarnation, so that a restarted worker never passes for its former self.
#[derive(Clone)]
pub struct AgentRunner {
    shared: Arc<Shared>,
}

/// How a runner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Attempts that ended within the grace period.
    pub finished: usize,
    /// Runs that were given back unfinished.
    pub released: usize,
}

impl AgentRunner {
    /// A worker for these agents.
    ///
    /// # Errors
    /// [`ConfigError`] when the settings cannot work.
    pub fn new(
        store: Arc<dyn Store>,
        agents: AgentRegistry,
        config: RunnerConfig,
    ) -> Result<Self, ConfigError> {
        Self::with_clock(store, agents, config, Arc::new(SystemClock))
    }

    /// A worker on another clock; it must be the store's.
    ///
    /// # Errors
    /// [`ConfigError`] when the settings cannot work.
    pub fn with_clock(
        store: Arc<dyn Store>,
        agents: AgentRegistry,
        config: RunnerConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            shared: Arc::new(Shared::new(store, agents, config, clock)),
        })
    }

    /// This incarnation's id.
    #[must_use]
    pub fn worker_id(&self) -> WorkerId {
        self.shared.worker
    }

    /// The retry policy that the settings describe, for runs submitted on this runner's behalf.
    #[must_use]
    pub fn retry_policy(&self) -> RetryPolicy {
        self.shared.config.retry_policy()
    }

    /// Claims one run, if there is one, and drives it until it ends or waits. Says whether there was one.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn run_once(&self) -> Result<bool> {
        self.shared.store.sweep(SWEEP_LIMIT, Duration::ZERO).await?;
        let claimed = self.claim(1, Duration::ZERO).await?;
        let Some(claimed) = claimed.into_iter().next() else {
            return Ok(false);
        };
        tokio::select! {
            () = attempt::drive(Arc::clone(&self.shared), Box::new(claimed)) => {}
            () = heartbeat::beat(Arc::clone(&self.shared)) => {}
        }
        Ok(true)
    }

    /// Claims and drives runs until `shutdown`, then drains: it waits for its runs up to the drain grace
    /// and gives back those that are left. Recovers other workers' runs all the while.
    ///
    /// # Errors
    /// [`Error::Closed`] when the store has closed. Other errors of the store are logged and tried again.
    pub async fn run_loop(&self, shutdown: CancellationToken) -> Result<Drained> {
        let mut services = JoinSet::new();
        services.spawn(heartbeat::beat(Arc::clone(&self.shared)));
        services.spawn(sweep(Arc::clone(&self.shared)));

        let mut attempts = JoinSet::new();
        let outcome = self.claim_until(&shutdown, &mut attempts).await;
        let drained = self.drain(&mut attempts).await;
        services.shutdown().await;
        outcome.map(|()| drained)
    }

    /// Cancels a run; when this runner drives it, its agent knows at once.
    ///
    /// # Errors
    /// What [`RunQueue::control`](adjutant_queue::RunQueue::control) answers.
    pub async fn cancel(&self, run: RunId, reason: &str) -> Result<()> {
        let command = Command::Cancel {
            reason: reason.to_owned(),
        };
        self.shared.store.control(run, command).await?;
        self.shared.beat_now.notify_one();
        Ok(())
    }

    async fn claim_until(
        &self,
        shutdown: &CancellationToken,
        attempts: &mut JoinSet<()>,
    ) -> Result<()> {
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            while attempts.try_join_next().is_some() {}
            let free = self
                .shared
                .config
                .concurrency
                .saturating_sub(attempts.len());
            if free == 0 {
                tokio::select! {
                    _ = attempts.join_next() => {}
                    () = shutdown.cancelled() => {}
                }
                continue;
            }
            let claimed = tokio::select! {
                // A claim that is dropped just as it succeeds costs time, not the run: its lease expires.
                () = shutdown.cancelled() => break,
                claimed = self.claim(free, CLAIM_WAIT) => claimed,
            };
            match claimed {
                Ok(claimed) => {
                    failures = 0;
                    for claimed in claimed {
                        attempts.spawn(attempt::drive(Arc::clone(&self.shared), Box::new(claimed)));
                    }
                    // What is ready to go goes first, and the next claim finds more to take at once.
                    tokio::task::yield_now().await;
                }
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => {
                    failures += 1;
                    back_off(&error, failures, "failed to claim runs").await;
                }
            }
        }
        Ok(())
    }

    async fn claim(&self, capacity: usize, wait: Duration) -> Result<Vec<Claimed>> {
        let config = &self.shared.config;
        let agents = match &config.only {
            Some(only) => AgentFilter::Only(only.clone()),
            None if config.fail_unknown_agents => AgentFilter::Any,
            None => AgentFilter::Only(self.shared.agents.keys().cloned().collect()),
        };
        let worker = self.shared.worker;
        let lease_ttl = config.lease_ttl;
        self.shared
            .store
            .claim(ClaimRequest {
                worker,
                capacity,
                agents,
                lease_ttl,
                wait,
            })
            .await
    }

    async fn drain(&self, attempts: &mut JoinSet<()>) -> Drained {
        while attempts.try_join_next().is_some() {}
        let running = attempts.len();
        let all = async { while attempts.join_next().await.is_some() {} };
        if tokio::time::timeout(self.shared.config.drain_grace, all)
            .await
            .is_ok()
        {
            return Drained {
                finished: running,
                released: 0,
            };
        }
        let left = attempts.len();
        self.shared
            .active()
            .iter()
            .for_each(|entry| entry.control.set(DRAIN));
        let all = async { while attempts.join_next().await.is_some() {} };
        if tokio::time::timeout(LET_GO, all).await.is_err() {
            tracing::warn!(worker = %self.shared.worker, "runs could not be given back; their leases will expire");
            attempts.shutdown().await;
        }
        Drained {
            finished: running - left,
            released: left,
        }
    }
}

/// Recovers runs of silent workers and wakes those whose time has come, until dropped.
async fn sweep(shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        match shared.store.sweep(SWEEP_LIMIT, SWEEP_WAIT).await {
            Ok(swept) => {
                failures = 0;
                if swept.recovered + swept.parked > 0 {
                    let (recovered, parked) = (swept.recovered, swept.parked);
                    tracing::info!(worker = %shared.worker, recovered, parked, "recovered runs of silent workers");
                }
            }
            Err(Error::Closed) => return,
            Err(error) => {
                failures += 1;
                back_off(&error, failures, "failed to sweep").await;
            }
        }
    }
}

async fn back_off(error: &Error, failures: u32, what: &str) {
    tracing::warn!(error = error as &dyn std::error::Error, failures, "{what}");
    let advised = match error.retry() {
        RetryAdvice::After(delay) => delay,
        RetryAdvice::Never => MAX_ERROR_DELAY,
    };
    let delay = advised
        .saturating_mul(1 << failures.min(6))
        .min(MAX_ERROR_DELAY);
    tokio::time::sleep(delay).await;
}
