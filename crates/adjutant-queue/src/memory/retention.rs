//! Forgetting finished runs, oldest first, so that memory does not grow with them.

use adjutant_core::{RunId, Timestamp};

use super::core::{QueueCore, RunLog};
use crate::PrunePolicy;

/// Finished runs that are forgotten at a time; few, since the lock is held meanwhile.
const FEW: usize = 32;
/// A bound is exceeded by one in so many at most.
const SHARE: usize = 100;

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

    /// Forgets a few runs at a time: what is forgotten has left the cache long ago, and fetching several
    /// at once takes hardly longer than fetching one.
    pub(super) fn forget_over_bound(&mut self, log: &mut dyn RunLog) {
        let beyond = (self.keep_finished / SHARE).min(FEW);
        if self.ended.len() <= self.keep_finished + beyond {
            return;
        }
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
