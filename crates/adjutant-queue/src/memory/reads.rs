//! Reading runs.

use adjutant_core::RunId;

use super::core::{Entry, QueueCore};
use crate::{QueueStats, RunFilter, RunRecord, RunView};

impl QueueCore {
    /// One run, whole.
    #[must_use]
    pub fn view(&self, run: RunId) -> Option<RunView> {
        self.runs.get(&run).map(|entry| entry.view())
    }

    /// One run's record.
    #[must_use]
    pub fn record(&self, run: RunId) -> Option<&RunRecord> {
        self.runs.get(&run).map(|entry| &entry.record)
    }

    /// One run's record, to count what other parts of a store keep for it.
    pub fn record_mut(&mut self, run: RunId) -> Option<&mut RunRecord> {
        self.runs.get_mut(&run).map(|entry| &mut entry.record)
    }

    /// Runs by filter, newest first.
    #[must_use]
    pub fn list(&self, filter: &RunFilter) -> Vec<RunRecord> {
        let older = |id: &RunId| filter.before.is_none_or(|before| *id < before);
        let fits = |entry: &&Entry| {
            let record = &entry.record;
            (filter.states.is_empty() || filter.states.contains(&record.state))
                && filter
                    .agent
                    .as_ref()
                    .is_none_or(|agent| record.agent == *agent)
                && filter.parent.is_none_or(|parent| {
                    record
                        .parent
                        .as_ref()
                        .is_some_and(|link| link.run == parent)
                })
        };
        let look_up = |id: &RunId| self.runs.get(id).map(AsRef::as_ref);
        let known_parent = filter
            .parent
            .filter(|parent| self.runs.contains_key(parent));
        let found: Vec<&Entry> = if let Some(parent) = known_parent {
            let mut children = self.children(parent);
            children.sort_unstable_by(|a, b| b.cmp(a));
            let children = children.iter().filter(|id| older(id)).filter_map(look_up);
            children.filter(fits).take(filter.limit).collect()
        } else {
            let end = filter
                .before
                .map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let ids = self.order.range((std::ops::Bound::Unbounded, end)).rev();
            ids.filter_map(look_up)
                .filter(fits)
                .take(filter.limit)
                .collect()
        };
        found
            .into_iter()
            .map(|entry| entry.record.clone())
            .collect()
    }

    /// The queue in numbers.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        self.index.stats()
    }
}
