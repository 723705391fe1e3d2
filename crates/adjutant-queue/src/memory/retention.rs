//! Forgetting finished runs, oldest first, so that memory does not grow with them.

use adjutant_core::{RunId, Timestamp};

use super::core::{QueueCore, RunLog};
use crate::PrunePolicy;

impl QueueCore {
    /// Notes that a run has ended. While its parent goes on it has to stay.
    pub(super) fn retire(&mut self, run: RunId, ended_at: Timestamp) {
        let Some(entry) = self.runs.get(&run) else {
            return;
        };
        let parent = entry.record.parent.as_ref();
        let parent = parent.and_then(|link| self.runs.get(&link.run));
        if parent.is_none_or(|parent| parent.record.state.is_terminal()) {
            self.ended.insert((ended_at, run));
        }
        if entry.fan_outs.is_empty() {
            return;
        }
        for child in self.children(run) {
            let record = self.runs.get(&child).map(|child| &child.record);
            if let Some(record) = record.filter(|record| record.state.is_terminal()) {
                self.ended.extend(record.finished_at.map(|at| (at, child)));
            }
        }
    }

    pub(super) fn forget_over_bound(&mut self, log: &mut dyn RunLog) {
        while self.ended.len() > self.keep_finished
            && let Some((_, run)) = self.ended.pop_first()
        {
            self.forget(run, log);
        }
    }

    /// Forgets finished runs and returns how many.
    pub fn prune(&mut self, policy: &PrunePolicy, log: &mut dyn RunLog) -> u64 {
        let mut forgotten = 0;
        for _ in 0..policy.limit {
            let oldest = self.ended.first().copied();
            let Some((at, run)) = oldest.filter(|(at, _)| *at < policy.finished_before) else {
                break;
            };
            self.ended.remove(&(at, run));
            self.forget(run, log);
            forgotten += 1;
        }
        forgotten
    }

    fn forget(&mut self, run: RunId, log: &mut dyn RunLog) {
        let Some(entry) = self.runs.remove(&run) else {
            return;
        };
        self.order.remove(&run);
        if let Some(key) = &entry.record.idempotency_key {
            self.keys.remove(key);
        }
        self.index.forget(&entry.record);
        log.forget(run);
        self.forgotten.push(entry);
    }
}
