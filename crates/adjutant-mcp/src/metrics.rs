//! Figures of one server.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

/// What is counted while it happens.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) starts: AtomicU64,
    pub(crate) start_failures: AtomicU64,
    pub(crate) deaths: AtomicU64,
    pub(crate) survivors: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) repeats: AtomicU64,
    queue_waits: AtomicU64,
    queue_micros: AtomicU64,
    calls: Mutex<BTreeMap<String, BTreeMap<&'static str, CallFigures>>>,
}

/// Calls of one tool with one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct CallFigures {
    /// How many.
    pub count: u64,
    /// Their time together, in seconds, queueing included.
    pub seconds: f64,
}

/// Figures of one server since the pool first used it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ServerMetrics {
    /// How often it was started.
    pub starts: u64,
    /// How often that failed.
    pub start_failures: u64,
    /// How often it died by itself.
    pub deaths: u64,
    /// How often something may have been left of it after its end.
    pub survivors: u64,
    /// Calls that were turned away because too many waited.
    pub busy: u64,
    /// Calls that were made again after the server died.
    pub repeats: u64,
    /// Calls that had to wait for their turn.
    pub queue_waits: u64,
    /// The time they waited together, in seconds.
    pub queue_seconds: f64,
    /// Calls by tool and outcome.
    pub calls: BTreeMap<String, BTreeMap<&'static str, CallFigures>>,
    /// Bytes on stderr.
    pub stderr_bytes: u64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn waited(&self, time: Duration) {
        count(&self.queue_waits);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.queue_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn called(&self, tool: &str, outcome: &'static str, time: Duration) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if !calls.contains_key(tool) {
            calls.insert(tool.to_owned(), BTreeMap::new());
        }
        if let Some(outcomes) = calls.get_mut(tool) {
            let figures = outcomes.entry(outcome).or_default();
            figures.count += 1;
            figures.seconds += time.as_secs_f64();
        }
    }

    pub(crate) fn snapshot(&self, stderr_bytes: u64) -> ServerMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        ServerMetrics {
            starts: read(&self.starts),
            start_failures: read(&self.start_failures),
            deaths: read(&self.deaths),
            survivors: read(&self.survivors),
            busy: read(&self.busy),
            repeats: read(&self.repeats),
            queue_waits: read(&self.queue_waits),
            queue_seconds: Duration::from_micros(read(&self.queue_micros)).as_secs_f64(),
            calls: calls.clone(),
            stderr_bytes,
        }
    }
}
