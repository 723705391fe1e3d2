//! The simplest store: queue, state and events in memory, under one lock, which is what makes a commit
//! atomic.

mod check;
mod commit;
mod handover;
mod ports;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use adjutant_budget::MemoryLedger;
use adjutant_core::{Clock, Error, Limits, NewEvent, Result, RunId, SystemClock, Timestamp};
use adjutant_events::engine::{EventCore, Log};
use adjutant_queue::{
    QueueConfig,
    engine::{QueueCore, RunLog},
};
use adjutant_state::{
    DEFAULT_CHECKPOINTS_KEPT,
    engine::{Journal, JournalCore},
};

/// How a [`MemoryStore`] is set up.
#[derive(Debug, Clone)]
pub struct MemoryConfig {
    /// Where the time comes from. Default: the wall clock.
    pub clock: Arc<dyn Clock>,
    /// What it takes at most.
    pub limits: Limits,
    /// Finished runs to keep, and at most a hundredth more; the oldest are forgotten first. Default
    /// 10 000.
    pub keep_finished: usize,
    /// Checkpoints kept per run. Default [`DEFAULT_CHECKPOINTS_KEPT`].
    pub checkpoints_kept: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            limits: Limits::default(),
            keep_finished: QueueConfig::default().keep_finished,
            checkpoints_kept: DEFAULT_CHECKPOINTS_KEPT,
        }
    }
}

/// A store in memory. It forgets everything when it is dropped, and finished runs before that.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    limits: Limits,
    ledger: Arc<MemoryLedger>,
    inner: Mutex<Inner>,
}

struct Inner {
    queue: QueueCore,
    logs: Logs,
    closed: bool,
}

/// What is kept per run beside the queue.
struct Logs {
    events: EventCore,
    journals: JournalCore,
    /// What was forgotten under the lock; dropped outside it.
    forgotten: Vec<(Option<Log>, Option<Journal>)>,
}

impl RunLog for Logs {
    fn append(&mut self, run: RunId, events: Vec<NewEvent>, now: Timestamp) -> u64 {
        self.events.append(run, events, now)
    }

    fn forget(&mut self, run: RunId) {
        let forgotten = (self.events.forget(run), self.journals.forget(run));
        self.forgotten.push(forgotten);
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store with defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::with(MemoryConfig::default())
    }

    /// An empty store.
    #[must_use]
    pub fn with(config: MemoryConfig) -> Self {
        Self {
            ledger: Arc::new(MemoryLedger::new(Arc::clone(&config.clock))),
            clock: config.clock,
            limits: config.limits,
            inner: Mutex::new(Inner {
                queue: QueueCore::new(config.keep_finished),
                logs: Logs {
                    events: EventCore::new(),
                    journals: JournalCore::new(config.checkpoints_kept),
                    forgotten: Vec::new(),
                },
                closed: false,
            }),
        }
    }

    /// Runs `f` under the lock; whom it woke is woken after the lock is released.
    fn with_inner<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> Result<R> {
        // No call leaves the parts half changed, so a panic elsewhere does not spoil them.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.closed {
            return Err(Error::Closed);
        }
        let answer = f(&mut inner);
        let afterwards = inner.queue.afterwards();
        let watchers = inner.logs.events.wakes();
        let forgotten = std::mem::take(&mut inner.logs.forgotten);
        drop(inner);
        drop(forgotten);
        afterwards.run();
        for watcher in watchers {
            watcher.wake();
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Fixture, ManualClock, model};

    fn fixture() -> Fixture {
        let clock = ManualClock::new();
        let config = MemoryConfig {
            clock: Arc::new(clock.clone()),
            ..MemoryConfig::default()
        };
        Fixture {
            engine: Arc::new(MemoryStore::with(config)),
            clock,
            keep: Box::new(()),
        }
    }

    crate::suite!(async { fixture() });

    #[tokio::test]
    async fn two_stores_give_the_same_answers() {
        model::compare(&fixture(), &fixture(), 1, 3000).await;
    }
}
