//! Taking a request back: each change notes how things were before.

use std::sync::Arc;

use adjutant_core::{RunId, RunState};

use crate::{
    batch::{Batch, Fanout, StepSlot},
    changes::Mark,
    slot::{Place, Slot},
    storage::Storage,
};

/// How to take one change back.
pub(crate) enum Undo {
    Slot(RunId, Option<Box<Slot>>),
    Step(RunId, String, Option<StepSlot>),
    Fanout(RunId, Arc<str>, Option<Fanout>),
    Child(RunId),
    Key(String),
}

/// Where a request began.
pub(crate) struct Savepoint {
    undo: usize,
    added: Mark,
    settled: usize,
    ended: usize,
}

impl<S: Storage> Batch<'_, S> {
    /// Begins a request.
    pub(crate) fn savepoint(&mut self) -> Savepoint {
        self.request += 1;
        self.undo_log.clear();
        Savepoint {
            undo: 0,
            added: self.added.mark(),
            settled: self.settled.len(),
            ended: self.ended.len(),
        }
    }

    /// Takes back everything since the request began.
    pub(crate) fn undo(&mut self, to: &Savepoint) {
        self.todo.clear();
        self.added.cut(to.added);
        self.settled.truncate(to.settled);
        self.ended.truncate(to.ended);
        while self.undo_log.len() > to.undo {
            match self.undo_log.pop() {
                Some(Undo::Slot(run, before)) => self.restore(run, before),
                Some(Undo::Step(run, key, before)) => {
                    let steps = self.steps.entry(run).or_default();
                    match before {
                        Some(step) => steps.insert(key, step),
                        None => steps.remove(&key),
                    };
                }
                Some(Undo::Fanout(run, key, before)) => {
                    match before {
                        Some(fanout) => self.fanouts.insert((run, key), fanout),
                        None => self.fanouts.remove(&(run, key)),
                    };
                }
                Some(Undo::Child(parent)) => {
                    if let Some(children) = self.spawned.get_mut(&parent) {
                        children.pop();
                    }
                }
                Some(Undo::Key(key)) => {
                    self.keys.remove(&key);
                }
                None => break,
            }
        }
    }

    fn restore(&mut self, run: RunId, before: Option<Box<Slot>>) {
        let Some(now) = self.slots.remove(&run) else {
            return;
        };
        let was = Place::of(&now.record);
        match before {
            Some(slot) => {
                let place = Place::of(&slot.record);
                self.moved(&now.record, Some(was), Some(place));
                self.slots.insert(run, slot);
            }
            None => {
                // First out of every line, then out of the slots.
                let nowhere = Place {
                    state: RunState::Pending,
                    ready: false,
                    blocked: false,
                    ..was
                };
                self.moved(&now.record, Some(was), Some(nowhere));
                self.absent.insert(run);
            }
        }
    }
}
