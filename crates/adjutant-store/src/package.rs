//! A run on its way from one store to another.

use std::sync::Arc;

use adjutant_core::{Error, Event, Outcome, Result, RunState, StepRecord};
use adjutant_queue::{Group, Payload, RunRecord, Signal};
use adjutant_state::Checkpoint;

/// A run with everything that belongs to it, as [`Store::export`](crate::Store::export) gives it out and
/// [`Store::import`](crate::Store::import) takes it in.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// Where it stands.
    pub run: RunRecord,
    /// What it was given.
    pub payload: Payload,
    /// How it ended, if it has.
    pub outcome: Option<Outcome>,
    /// Signals that no wait has taken, in order of arrival.
    pub signals: Vec<Signal>,
    /// How far its fan-outs are.
    pub groups: Vec<(Arc<str>, Group)>,
    /// Its steps, in the order in which they were first recorded.
    pub journal: Vec<StepRecord>,
    /// The checkpoints that are kept, oldest first.
    pub checkpoints: Vec<Checkpoint>,
    /// The events that are kept, in order.
    pub events: Vec<Event>,
}

impl Package {
    /// Whether a store may take this in: nobody may claim or wake the run before it is resumed there, and its
    /// events must follow each other.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<()> {
        let state = self.run.state;
        let at_rest = state.is_settled() || matches!(state, RunState::Paused | RunState::Running);
        if !at_rest || self.run.held.is_some() {
            return Err(Error::Invalid {
                field: "state",
                problem: format!("a run is taken in when it is paused or settled, not {state}"),
            });
        }
        let numbers = self.events.iter().map(|event| event.seq);
        let gap = numbers
            .clone()
            .zip(numbers.skip(1))
            .any(|(a, b)| b != a + 1);
        let beyond = self.events.last().map(|event| event.seq) > Some(self.run.last_seq);
        if gap || beyond {
            return Err(Error::Invalid {
                field: "events",
                problem: "must follow each other and end with the run's last one".to_owned(),
            });
        }
        Ok(())
    }

    /// What the record of a run that is here already becomes; `None` if it stays as it is. The numbers of what
    /// is kept here are this store's own.
    ///
    /// # Errors
    /// `LeaseLost` for an older epoch, `Conflict` when a worker of this store holds the run, it has ended here only, or
    /// an event is missing between those that are here and those of the package.
    pub fn replaces(&self, known: &RunRecord) -> Result<Option<RunRecord>> {
        let run = self.run.id;
        if known.held.is_some() {
            return Err(Error::Conflict {
                what: format!("{run}, which a worker of this store holds"),
            });
        }
        if self.run.epoch < known.epoch {
            let epoch = self.run.epoch;
            return Err(Error::LeaseLost { run, epoch });
        }
        let mut beyond = self
            .events
            .iter()
            .filter(|event| event.seq > known.last_seq);
        if let Some(first) = beyond
            .next()
            .filter(|event| event.seq != known.last_seq + 1)
        {
            return Err(Error::Conflict {
                what: format!(
                    "event {} of {run}, since {} is the last one here",
                    first.seq, known.last_seq
                ),
            });
        }
        if known.state.is_terminal() {
            if self.run.state.is_terminal() {
                return Ok(None);
            }
            return Err(Error::Conflict {
                what: format!("{run}, which has ended here ({})", known.state),
            });
        }
        Ok(Some(RunRecord {
            last_seq: known.last_seq,
            steps: known.steps,
            checkpoint: known.checkpoint,
            signals: known.signals,
            unread_signals: known.unread_signals,
            children: known.children,
            ..self.run.clone()
        }))
    }
}
