//! What one batch leaves for the next, so that it need not be read again.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    mem,
};

use adjutant_core::{AgentKey, IdMap, RunId, RunState};
use adjutant_queue::{AgentFilter, Payload};

use crate::slot::{Place, Slot};

/// Records kept, in each of two generations.
const GENERATION: usize = 4096;

/// Larger payloads are read again when somebody needs them.
const PAYLOAD_KEPT: usize = 1024;

/// Filters that are known to have no ready run besides those kept. More are not remembered.
const FILTERS: usize = 1024;

/// Records that were used lately, as the database has them. Good as long as nobody else writes to it.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    young: IdMap<RunId, Box<Slot>>,
    old: IdMap<RunId, Box<Slot>>,
    /// The ready ones among them, by rank.
    ready: HashMap<AgentKey, BTreeSet<(i64, RunId)>>,
    /// All ready runs of these agents are here.
    drained: HashSet<Vec<AgentKey>>,
}

impl Cache {
    pub(crate) fn contains(&self, run: RunId) -> bool {
        self.young.contains_key(&run) || self.old.contains_key(&run)
    }

    pub(crate) fn take(&mut self, run: RunId) -> Option<Box<Slot>> {
        let slot = self.young.remove(&run).or_else(|| self.old.remove(&run))?;
        self.out_of_line(&slot);
        Some(slot)
    }

    /// Keeps a record that is likely to be asked for again: one that is ready or held by a worker.
    pub(crate) fn keep(&mut self, mut slot: Box<Slot>) {
        if !matches!(slot.record.state, RunState::Running | RunState::Pending) {
            return;
        }
        let small =
            |payload: &Payload| payload.input.len() + payload.metadata.len() <= PAYLOAD_KEPT;
        slot.payload = slot.payload.take().filter(small);
        if self.young.len() >= GENERATION {
            for slot in mem::replace(&mut self.old, mem::take(&mut self.young)).values() {
                self.let_go(slot);
            }
        }
        let place = Place::of(&slot.record);
        if place.ready {
            let line = self.ready.entry(slot.record.agent.clone()).or_default();
            line.insert((place.rank, slot.record.id));
        }
        self.young.insert(slot.record.id, slot);
    }

    /// Notes that a record goes on without being kept.
    pub(crate) fn let_go(&mut self, slot: &Slot) {
        self.out_of_line(slot);
        if Place::of(&slot.record).ready {
            self.drained.clear();
        }
    }

    fn out_of_line(&mut self, slot: &Slot) {
        let place = Place::of(&slot.record);
        if place.ready
            && let Some(line) = self.ready.get_mut(&slot.record.agent)
        {
            line.remove(&(place.rank, slot.record.id));
            if line.is_empty() {
                self.ready.remove(&slot.record.agent);
            }
        }
    }

    /// The best-ranked ready runs of these agents among those kept.
    pub(crate) fn ready(&self, agents: &AgentFilter, limit: usize) -> Vec<RunId> {
        let mut found: Vec<(i64, RunId)> = Vec::new();
        let mut add = |line: &BTreeSet<(i64, RunId)>| found.extend(line.iter().take(limit));
        match agents {
            AgentFilter::Any => self.ready.values().for_each(&mut add),
            AgentFilter::Only(agents) => agents
                .iter()
                .filter_map(|agent| self.ready.get(agent))
                .for_each(&mut add),
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(limit);
        found.into_iter().map(|(_, run)| run).collect()
    }

    /// Whether no other runs of these agents are ready than those kept and those in the batch.
    pub(crate) fn is_drained(&self, names: &[AgentKey]) -> bool {
        self.drained.contains(names)
    }

    pub(crate) fn set_drained(&mut self, names: Vec<AgentKey>) {
        if self.drained.len() < FILTERS {
            self.drained.insert(names);
        }
    }

    /// Others may have made runs ready.
    pub(crate) fn refill(&mut self) {
        self.drained.clear();
    }

    /// Others have written.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
