//! A run's record in memory, and what the database knows of it.

use adjutant_core::{RunState, Timestamp};
use adjutant_queue::{Payload, RunRecord};

/// Where a run is in the indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its state.
    pub state: RunState,
    /// Whether it stands in the line of runs that a worker could take.
    pub ready: bool,
    /// Whether its concurrency key holds it back.
    pub blocked: bool,
    /// Its place in either line: lower goes first, equal ones by id.
    pub rank: i64,
    /// When a sweep has to look at it.
    pub due: Option<Timestamp>,
}

impl Place {
    /// Where the record says.
    #[must_use]
    pub fn of(record: &RunRecord) -> Self {
        let pending = record.state == RunState::Pending;
        Self {
            state: record.state,
            ready: pending && !record.blocked && record.not_before.is_none(),
            blocked: pending && record.blocked,
            rank: record.rank(),
            due: record.due_at(),
        }
    }

    /// Whether the run uses, or is about to use, a slot of its concurrency key.
    pub(crate) fn takes_slot(&self) -> bool {
        self.ready || self.state == RunState::Running
    }
}

/// How much of a record has to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dirty {
    Clean,
    /// Only the numbers of events, steps, checkpoints, signals and children.
    Counts,
    Whole,
}

/// What the database holds of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub place: Place,
    pub steps: u64,
    pub unread: u64,
    pub children: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub record: RunRecord,
    /// `None` for a run that the database does not have yet.
    pub stored: Option<Stored>,
    pub dirty: Dirty,
    /// What the run was given, where that is at hand.
    pub payload: Option<Payload>,
    /// The request that has changed it last.
    pub touched: u64,
}

impl Slot {
    /// A run as the database has it.
    pub(crate) fn stored(record: RunRecord, payload: Option<Payload>) -> Self {
        let mut slot = Self {
            record,
            stored: None,
            dirty: Dirty::Clean,
            payload,
            touched: 0,
        };
        slot.written();
        slot
    }

    /// A run that is new.
    pub(crate) fn new(record: RunRecord, payload: Payload) -> Self {
        Self {
            record,
            stored: None,
            dirty: Dirty::Whole,
            payload: Some(payload),
            touched: 0,
        }
    }

    /// Notes that the database has the record as it is now.
    pub(crate) fn written(&mut self) {
        self.stored = Some(Stored {
            place: Place::of(&self.record),
            steps: self.record.steps,
            unread: self.record.unread_signals,
            children: self.record.children,
        });
        self.dirty = Dirty::Clean;
        self.touched = 0;
    }

    pub(crate) fn spoil(&mut self, dirty: Dirty) {
        self.dirty = self.dirty.max(dirty);
    }
}
