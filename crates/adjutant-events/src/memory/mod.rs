//! The simplest event bus: everything in memory, under one lock.

mod core;
mod wait;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use adjutant_core::{Clock, Event, Limits, NewEvent, Result, RunId, SystemClock};
use async_trait::async_trait;

use self::{
    core::{EventCore, check_event},
    wait::Shared,
};
use crate::EventBus;

/// The parts of [`MemoryEventBus`] for engines that hold more than events under the same lock.
pub mod engine {
    pub use super::{
        core::{EventCore, Log, check_event},
        wait::{Shared, changed},
    };
}

/// How a [`MemoryEventBus`] is set up.
#[derive(Debug, Clone)]
pub struct EventConfig {
    /// Where the time comes from. Default: the wall clock.
    pub clock: Arc<dyn Clock>,
    /// What it takes at most.
    pub limits: Limits,
}

impl Default for EventConfig {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            limits: Limits::default(),
        }
    }
}

/// Event logs in memory. It knows no runs: any id has a log, empty at first.
pub struct MemoryEventBus {
    clock: Arc<dyn Clock>,
    limits: Limits,
    core: Mutex<EventCore>,
}

impl fmt::Debug for MemoryEventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEventBus").finish_non_exhaustive()
    }
}

impl Default for MemoryEventBus {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryEventBus {
    /// An empty bus with defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::with(EventConfig::default())
    }

    /// An empty bus.
    #[must_use]
    pub fn with(config: EventConfig) -> Self {
        Self {
            clock: config.clock,
            limits: config.limits,
            core: Mutex::new(EventCore::new()),
        }
    }
}

impl Shared for MemoryEventBus {
    fn events<R>(&self, f: impl FnOnce(&mut EventCore) -> R) -> Result<R> {
        // No call leaves the core half changed, so a panic elsewhere does not spoil it.
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = f(&mut core);
        let wakes = core.wakes();
        drop(core);
        for waker in wakes {
            waker.wake();
        }
        Ok(answer)
    }
}

#[async_trait]
impl EventBus for MemoryEventBus {
    async fn append(&self, run: RunId, events: Vec<NewEvent>) -> Result<u64> {
        events
            .iter()
            .try_for_each(|event| check_event(event, &self.limits))?;
        self.events(|core| core.append(run, events, self.clock.now()))
    }

    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>> {
        self.events(|core| core.read(run, after, limit))?
    }

    async fn changed(&self, run: RunId, after: u64, wait: Duration) -> Result<()> {
        wait::changed(self, run, after, wait).await
    }

    async fn trim(&self, run: RunId, upto: u64) -> Result<()> {
        self.events(|core| core.trim(run, upto))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{AnyRun, Fixture};

    fn fixture() -> Fixture {
        Fixture {
            engine: Arc::new(MemoryEventBus::new()),
            runs: Box::new(AnyRun),
            keep: Box::new(()),
        }
    }

    crate::suite!(async { fixture() });

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_ends_leaves_nothing_behind() {
        let bus = MemoryEventBus::new();
        let run = RunId::new();
        bus.changed(run, 0, Duration::from_secs(5)).await.unwrap();
        let waiting = bus.changed(run, 0, Duration::from_secs(5));
        assert!(
            tokio::time::timeout(Duration::from_secs(1), waiting)
                .await
                .is_err()
        );
        assert_eq!(bus.events(|core| core.watched()).unwrap(), 0);
    }
}
