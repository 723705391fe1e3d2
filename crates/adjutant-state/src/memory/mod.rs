//! The simplest state store: everything in memory, under one lock.

mod core;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use adjutant_core::{Clock, Error, IdMap, Limits, Result, RunId, SystemClock};
use async_trait::async_trait;

use self::core::{JournalCore, check_write, steps_of};
use crate::{Checkpoint, DEFAULT_CHECKPOINTS_KEPT, History, StateStore, StateWrite};

/// The parts of [`MemoryStateStore`] for engines that hold more than state under the same lock.
pub mod engine {
    pub use super::core::{
        Journal, JournalCore, Written, check_checkpoint, check_step, check_write, steps_of,
    };
}

/// How a [`MemoryStateStore`] is set up.
#[derive(Debug, Clone)]
pub struct StateConfig {
    /// Where the time comes from. Default: the wall clock.
    pub clock: Arc<dyn Clock>,
    /// What it takes at most.
    pub limits: Limits,
    /// Checkpoints kept per run. Default [`DEFAULT_CHECKPOINTS_KEPT`].
    pub checkpoints_kept: usize,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            limits: Limits::default(),
            checkpoints_kept: DEFAULT_CHECKPOINTS_KEPT,
        }
    }
}

/// Journals and checkpoints in memory.
pub struct MemoryStateStore {
    clock: Arc<dyn Clock>,
    limits: Limits,
    fenced: Mutex<Fenced>,
}

/// The journals, and the highest epoch that has written each.
struct Fenced {
    epochs: IdMap<RunId, u64>,
    journals: JournalCore,
}

impl fmt::Debug for MemoryStateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStateStore").finish_non_exhaustive()
    }
}

impl Default for MemoryStateStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStateStore {
    /// An empty store with defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::with(StateConfig::default())
    }

    /// An empty store.
    #[must_use]
    pub fn with(config: StateConfig) -> Self {
        Self {
            clock: config.clock,
            limits: config.limits,
            fenced: Mutex::new(Fenced {
                epochs: IdMap::default(),
                journals: JournalCore::new(config.checkpoints_kept),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Fenced> {
        // No call leaves it half changed, so a panic elsewhere does not spoil it.
        self.fenced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StateStore for MemoryStateStore {
    async fn write(&self, run: RunId, epoch: u64, writes: Vec<StateWrite>) -> Result<u64> {
        writes
            .iter()
            .try_for_each(|write| check_write(write, &self.limits))?;
        let mut fenced = self.lock();
        if fenced.epochs.get(&run).is_some_and(|seen| epoch < *seen) {
            return Err(Error::LeaseLost { run, epoch });
        }
        fenced.journals.check(run, &steps_of(&writes))?;
        fenced.epochs.insert(run, epoch);
        let now = self.clock.now();
        for write in writes {
            match write {
                StateWrite::Step(step) => fenced.journals.record(run, step),
                StateWrite::Checkpoint(state) => fenced.journals.save(run, state, now),
            }
        }
        Ok(fenced.journals.written(run).checkpoint)
    }

    async fn history(&self, run: RunId) -> Result<History> {
        Ok(self.lock().journals.history(run))
    }

    async fn checkpoints(&self, run: RunId, limit: usize) -> Result<Vec<Checkpoint>> {
        Ok(self.lock().journals.checkpoints(run, limit))
    }

    async fn forget(&self, run: RunId) -> Result<()> {
        let mut fenced = self.lock();
        fenced.epochs.remove(&run);
        fenced.journals.forget(run);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Fixture, FreeEpochs};

    fn fixture() -> Fixture {
        let engine = Arc::new(MemoryStateStore::new());
        Fixture {
            epochs: Box::new(FreeEpochs(engine.clone())),
            engine,
            keep: Box::new(()),
        }
    }

    crate::suite!(async { fixture() });
}
