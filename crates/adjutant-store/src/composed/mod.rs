//! A store of several: the queue in one, journals and checkpoints or events in another.
//!
//! The queue's store decides. It holds the leases, numbers the events, and its commit is the one that counts. What is
//! kept elsewhere is kept under a copy of the run's record, which says under which epoch the run is driven.
//!
//! - **State elsewhere** is written before the queue's commit, so a run that is recorded as ended has its journal. If
//!   the process dies in between, a step may be recorded whose events and children are not: the next attempt finds the
//!   step done and goes on from it. A worker whose lease has run out can still record a step until somebody claims the
//!   run again.
//! - **Events elsewhere** go through the queue's own log and are copied from there: when an attempt ends, and whenever
//!   somebody reads. Numbers stay what they were, so that copying twice is copying once.

mod events;
mod ports;
mod shadow;

use std::{fmt, sync::Arc};

use crate::Store;

/// A store whose parts are in different places. `docs/guide/stores.md` says which guarantees that costs.
#[derive(Clone)]
pub struct ComposedStore {
    queue: Arc<dyn Store>,
    /// Where journals and checkpoints are, if not with the queue.
    state: Option<Arc<dyn Store>>,
    /// Where events are, if not with the queue.
    events: Option<Arc<dyn Store>>,
}

impl ComposedStore {
    /// The queue alone, with everything in it.
    #[must_use]
    pub fn new(queue: Arc<dyn Store>) -> Self {
        Self {
            queue,
            state: None,
            events: None,
        }
    }

    /// Keeps journals and checkpoints there. That store must hold nothing else.
    #[must_use]
    pub fn with_state(mut self, state: Arc<dyn Store>) -> Self {
        self.state = Some(state);
        self
    }

    /// Keeps events there. That store must hold nothing else, but may be the one with the state.
    #[must_use]
    pub fn with_events(mut self, events: Arc<dyn Store>) -> Self {
        self.events = Some(events);
        self
    }

    /// The parts that are not the queue, each with its name.
    fn others(&self) -> impl Iterator<Item = (&'static str, &Arc<dyn Store>)> {
        let state = self.state.iter().map(|store| ("state", store));
        state.chain(self.events.iter().map(|store| ("events", store)))
    }
}

impl fmt::Debug for ComposedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.info();
        f.debug_struct("ComposedStore")
            .field("location", &info.location)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MemoryConfig, MemoryStore,
        conformance::{Fixture, ManualClock},
    };

    fn memory(clock: &ManualClock) -> Arc<dyn Store> {
        Arc::new(MemoryStore::with(MemoryConfig {
            clock: Arc::new(clock.clone()),
            ..MemoryConfig::default()
        }))
    }

    fn fixture() -> Fixture {
        let clock = ManualClock::new();
        let store = ComposedStore::new(memory(&clock))
            .with_state(memory(&clock))
            .with_events(memory(&clock));
        Fixture {
            engine: Arc::new(store),
            clock,
            keep: Box::new(()),
        }
    }

    crate::suite!(async { fixture() });
}
