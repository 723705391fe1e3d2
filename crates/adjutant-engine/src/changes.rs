//! The end of a batch: what it writes, and what others are told of it.

use std::sync::Arc;

use adjutant_core::{IdMap, Result, RunId, Timestamp};
use adjutant_queue::RunView;

use crate::{
    batch::Batch,
    recent::Known,
    slot::{Dirty, Place, Slot},
    storage::{Added, ChangedRun, Changes, Storage},
};

/// Lengths of [`Added`] to cut back to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mark([usize; 7]);

impl Added {
    pub(crate) fn mark(&self) -> Mark {
        Mark([
            self.payloads.len(),
            self.outcomes.len(),
            self.checkpoints.len(),
            self.dropped.len(),
            self.events.len(),
            self.signals.len(),
            self.taken.len(),
        ])
    }

    pub(crate) fn cut(&mut self, mark: Mark) {
        let Mark(
            [
                payloads,
                outcomes,
                checkpoints,
                dropped,
                events,
                signals,
                taken,
            ],
        ) = mark;
        self.payloads.truncate(payloads);
        self.outcomes.truncate(outcomes);
        self.checkpoints.truncate(checkpoints);
        self.dropped.truncate(dropped);
        self.events.truncate(events);
        self.signals.truncate(signals);
        self.taken.truncate(taken);
    }
}

/// What a batch has done, for those who wait.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Runs that are settled now.
    pub settled: Vec<RunId>,
    /// Runs with new events, or that are gone.
    pub changed: Vec<RunId>,
    /// The earliest new time at which something is due.
    pub due: Option<Timestamp>,
    /// How runs were left.
    pub left: Vec<(RunId, Option<Known>)>,
}

impl<S: Storage> Batch<'_, S> {
    /// Writes all changes, and commits them if nothing else is to be done.
    pub(crate) async fn flush(&mut self, commit: bool) -> Result<()> {
        let mut changes = Changes {
            runs: Vec::with_capacity(self.slots.len()),
            steps: Vec::new(),
            fanouts: Vec::new(),
            added: &self.added,
        };
        for slot in self.slots.values() {
            if slot.stored.is_some() && slot.dirty == Dirty::Clean {
                continue;
            }
            changes.runs.push(ChangedRun {
                record: &slot.record,
                before: slot.stored.map(|stored| stored.place),
                counts_only: slot.stored.is_some() && slot.dirty == Dirty::Counts,
            });
        }
        // In the order of the keys, so that neighbours are written together.
        changes.runs.sort_unstable_by_key(|run| run.record.id);
        for (run, steps) in &self.steps {
            let written = steps
                .values()
                .filter_map(|step| Some((step.ordinal, step.record.as_ref()?)));
            changes
                .steps
                .extend(written.map(|(ordinal, step)| (*run, ordinal, step)));
        }
        for ((run, key), fanout) in &self.fanouts {
            if fanout.dirty {
                changes.fanouts.push((*run, key, fanout.group));
            }
        }
        self.db.write(&changes, commit).await
    }

    /// After the commit: keeps the records that are likely to be needed again.
    pub(crate) fn seal(self, pruned: Vec<RunId>) -> Outcome {
        let mut outcome = Outcome {
            settled: self.settled,
            changed: self.added.events.iter().map(|(run, ..)| *run).collect(),
            due: None,
            left: Vec::with_capacity(self.slots.len() + pruned.len()),
        };
        outcome.changed.dedup();
        outcome.left.extend(pruned.iter().map(|run| (*run, None)));
        outcome.changed.extend(pruned);
        let mut ended: IdMap<RunId, adjutant_core::Outcome> = self.ended.into_iter().collect();
        for (run, mut slot) in self.slots {
            let known = if slot.record.state.is_settled() {
                view(&slot, ended.remove(&run)).map(Known::Ended)
            } else {
                Some(Known::Going)
            };
            outcome.left.push((run, known));
            let place = Place::of(&slot.record);
            let is_new = slot
                .stored
                .is_none_or(|stored| stored.place.due != place.due);
            if let Some(due) = place.due.filter(|_| is_new) {
                outcome.due = Some(outcome.due.map_or(due, |earlier| earlier.min(due)));
            }
            if S::KEEPS_RECORDS {
                slot.written();
                self.cache.keep(slot);
            } else {
                self.cache.let_go(&slot);
            }
        }
        outcome
    }
}

/// A run that has just ended, if all that belongs to it is at hand.
fn view(slot: &Slot, outcome: Option<adjutant_core::Outcome>) -> Option<Arc<RunView>> {
    Some(Arc::new(RunView {
        outcome: Some(outcome?),
        payload: slot.payload.clone()?,
        run: slot.record.clone(),
    }))
}
