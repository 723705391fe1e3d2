//! Event logs as plain values, and who waits for them to grow.

use std::{collections::VecDeque, task::Waker};

use adjutant_core::{
    Error, Event, EventType, IdMap, Json, Limits, NewEvent, Result, RunId, Timestamp, Visibility,
};

/// The events of one run.
#[derive(Debug, Default)]
pub struct Log {
    /// Events forgotten at the front.
    trimmed: u64,
    events: VecDeque<Stored>,
}

/// An event without what its place says: run and number.
#[derive(Debug)]
struct Stored {
    timestamp: Timestamp,
    event_type: EventType,
    visibility: Visibility,
    payload: Json,
}

impl Log {
    fn last(&self) -> u64 {
        self.trimmed + u64::try_from(self.events.len()).unwrap_or(0)
    }
}

impl Stored {
    fn event(&self, run_id: RunId, seq: u64) -> Event {
        Event {
            run_id,
            seq,
            timestamp: self.timestamp,
            event_type: self.event_type.clone(),
            visibility: self.visibility,
            payload: self.payload.clone(),
        }
    }
}

/// The event logs of all runs. No lock, no clock: the shells around it have those.
#[derive(Debug, Default)]
pub struct EventCore {
    runs: IdMap<RunId, Log>,
    watchers: IdMap<RunId, Vec<(u64, Waker)>>,
    tokens: u64,
    wakes: Vec<Waker>,
}

impl EventCore {
    /// Without events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends events and returns the number of the last one.
    pub fn append(&mut self, run: RunId, events: Vec<NewEvent>, now: Timestamp) -> u64 {
        let log = self.runs.entry(run).or_default();
        log.events.extend(events.into_iter().map(|event| Stored {
            timestamp: now,
            event_type: event.event_type,
            visibility: event.visibility,
            payload: event.payload,
        }));
        let last = log.last();
        self.wake(run);
        last
    }

    /// Puts in events that have their numbers and times already; the first one follows the last that is here, if
    /// any is. Without events, the numbering goes on after `last`.
    pub fn restore(&mut self, run: RunId, events: Vec<Event>, last: u64) {
        let log = self.runs.entry(run).or_default();
        if log.events.is_empty() {
            log.trimmed = log
                .trimmed
                .max(events.first().map_or(last, |event| event.seq - 1));
        }
        log.events.extend(events.into_iter().map(|event| Stored {
            timestamp: event.timestamp,
            event_type: event.event_type,
            visibility: event.visibility,
            payload: event.payload,
        }));
        self.wake(run);
    }

    /// The number of the run's latest event, 0 for none.
    #[must_use]
    pub fn last(&self, run: RunId) -> u64 {
        self.runs.get(&run).map_or(0, Log::last)
    }

    /// The number of the last event that is forgotten, 0 for none.
    #[must_use]
    pub fn trimmed(&self, run: RunId) -> u64 {
        self.runs.get(&run).map_or(0, |log| log.trimmed)
    }

    /// Events with numbers above `after`, at most `limit`.
    ///
    /// # Errors
    /// `Pruned`.
    pub fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>> {
        let Some(log) = self.runs.get(&run) else {
            return Ok(Vec::new());
        };
        let Some(skip) = after.checked_sub(log.trimmed) else {
            return Err(Error::Pruned {
                run,
                first: log.trimmed + 1,
            });
        };
        let skip = usize::try_from(skip)
            .unwrap_or(usize::MAX)
            .min(log.events.len());
        let numbers = after.max(log.trimmed) + 1..;
        let events = numbers.zip(log.events.range(skip..)).take(limit);
        Ok(events.map(|(seq, stored)| stored.event(run, seq)).collect())
    }

    /// Forgets events up to and including number `upto`.
    pub fn trim(&mut self, run: RunId, upto: u64) {
        if let Some(log) = self.runs.get_mut(&run) {
            let gone = upto.min(log.last()).saturating_sub(log.trimmed);
            log.events.drain(..usize::try_from(gone).unwrap_or(0));
            log.trimmed += gone;
        }
    }

    /// Forgets a run. What it had is handed out, to be dropped outside the lock.
    pub fn forget(&mut self, run: RunId) -> Option<Log> {
        self.wake(run);
        self.runs.remove(&run)
    }

    /// Calls `waker` when the run's log changes. The token, 0 at first, names the wait. False when the
    /// wait has been called already.
    pub fn watch(&mut self, run: RunId, token: &mut u64, waker: &Waker) -> bool {
        if *token == 0 {
            self.tokens += 1;
            *token = self.tokens;
            let watchers = self.watchers.entry(run).or_default();
            watchers.push((*token, waker.clone()));
            return true;
        }
        let watchers = self.watchers.get_mut(&run).into_iter().flatten();
        let mut watchers = watchers.filter(|(known, _)| known == token);
        let found = watchers.next();
        found.map(|(_, known)| known.clone_from(waker)).is_some()
    }

    /// Ends a wait.
    pub fn unwatch(&mut self, run: RunId, token: u64) {
        if let Some(watchers) = self.watchers.get_mut(&run) {
            watchers.retain(|(known, _)| *known != token);
            if watchers.is_empty() {
                self.watchers.remove(&run);
            }
        }
    }

    /// Wakes everybody who waits: the bus closes.
    pub fn wake_all(&mut self) {
        let watchers = std::mem::take(&mut self.watchers).into_values().flatten();
        self.wakes.extend(watchers.map(|(_, waker)| waker));
    }

    /// The calls to make once the lock is released.
    pub fn wakes(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakes)
    }

    fn wake(&mut self, run: RunId) {
        if self.watchers.is_empty() {
            return;
        }
        let watchers = self.watchers.remove(&run).into_iter().flatten();
        self.wakes.extend(watchers.map(|(_, waker)| waker));
    }

    /// How many runs are watched; for tests.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.watchers.len()
    }
}

/// Refuses an event over its limit.
///
/// # Errors
/// `TooLarge`.
pub fn check_event(event: &NewEvent, limits: &Limits) -> Result<()> {
    Limits::check("event", &event.payload, limits.event)
}
