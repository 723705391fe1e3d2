//! Observable facts of a run.

use serde::{Deserialize, Serialize};

use crate::{EventType, Json, RunId, Timestamp};

/// Who an event is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// The runtime's own housekeeping.
    Internal,
    /// Developers and operators.
    Debug,
    /// Everyone who may see the run.
    User,
}

/// An event that has not been written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// What kind of fact.
    pub event_type: EventType,
    /// The fact's data; its shape depends on the kind.
    pub payload: Json,
    /// Who may see it.
    pub visibility: Visibility,
}

impl NewEvent {
    /// An event with its kind's usual visibility.
    #[must_use]
    pub fn new(event_type: impl Into<EventType>, payload: impl Into<Json>) -> Self {
        let event_type = event_type.into();
        let visibility = event_type.visibility();
        Self {
            event_type,
            payload: payload.into(),
            visibility,
        }
    }
}

/// A durable fact of a run. Per run, `seq` counts 1, 2, 3, … without gap or repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The run.
    pub run_id: RunId,
    /// The event's number within the run, from 1.
    pub seq: u64,
    /// When it was written.
    pub timestamp: Timestamp,
    /// What kind of fact.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Who may see it.
    pub visibility: Visibility,
    /// The fact's data.
    pub payload: Json,
}
