//! Lines for a Fluentd: queued within bounds, sent until they are acknowledged.

mod wire;

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Map;

use self::wire::Connection;
use crate::{
    config::Fluentd,
    error::{Error, Result},
    record::{Level, Record, Stream},
};

/// What may wait to be sent.
const MAX_WAITING: usize = 8 * 1024 * 1024;

/// Lines that are sent and acknowledged together.
const BATCH: usize = 500;

/// The wait between two attempts grows up to this many times the first one.
const MAX_BACKOFF: u32 = 60;

/// The way to the thread that sends.
#[derive(Debug)]
pub(crate) struct Forwarder {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(usize, Record)>,
    bytes: usize,
    /// Lines that were not taken and not told of yet.
    dropped: u64,
    /// Leave when the queue is empty, and at this time in any case.
    close_by: Option<Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forwarder {
    pub(crate) fn start(config: Fluentd) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new()
            .name("adjutant-fluentd".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || Sender::new(config, shared).run()
            })
            .map_err(|source| Error::Thread { source })?;
        Ok(Self { shared, thread })
    }

    /// Leaves a record of this length to be sent, or drops and counts it when too much waits.
    pub(crate) fn send(&self, length: usize, record: Record) {
        let mut state = self.shared.lock();
        if state.bytes + length > MAX_WAITING {
            state.dropped += 1;
            return;
        }
        state.bytes += length;
        state.queue.push_back((length, record));
        self.shared.changed.notify_one();
    }

    /// Sends what waits, for no longer than this.
    pub(crate) fn close(self, patience: Duration) {
        self.shared.lock().close_by = Some(Instant::now() + patience);
        self.shared.changed.notify_one();
        // It has said what went wrong.
        let _ = self.thread.join();
    }
}

struct Sender {
    config: Fluentd,
    shared: Arc<Shared>,
    connection: Option<Connection>,
    /// Attempts that failed in a row.
    failures: u32,
}

impl Sender {
    const fn new(config: Fluentd, shared: Arc<Shared>) -> Self {
        Self {
            config,
            shared,
            connection: None,
            failures: 0,
        }
    }

    fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            while let Err(error) = self.send(&batch) {
                self.connection = None;
                if self.failures == 0 {
                    tracing::warn!(%error, "the Fluentd cannot be reached; lines wait for it");
                }
                if !self.back_off() {
                    let lost = batch.len() + self.shared.lock().queue.len();
                    tracing::warn!(lost, %error, "lines were not sent to the Fluentd");
                    return;
                }
            }
            self.failures = 0;
        }
    }

    /// The next lines to send; `None` when it is time to leave.
    fn next_batch(&self) -> Option<Vec<Record>> {
        let mut state = self.shared.lock();
        while state.queue.is_empty() {
            if state.close_by.is_some() {
                return None;
            }
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let mut batch = Vec::new();
        // One instance at a time, because the tag names it.
        while let Some((length, record)) = state.queue.pop_front_if(|(_, record)| {
            let first: Option<&Record> = batch.first();
            batch.len() < BATCH && first.is_none_or(|first| first.instance == record.instance)
        }) {
            state.bytes -= length;
            batch.push(record);
        }
        let dropped = std::mem::take(&mut state.dropped);
        if let Some(last) = batch.last().filter(|_| dropped > 0) {
            let note = dropped_note(last, dropped);
            batch.push(note);
        }
        Some(batch)
    }

    fn send(&mut self, batch: &[Record]) -> std::io::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(&self.config)?),
        };
        connection.send(&self.config.tag, batch)
    }

    /// Waits before the next attempt; false when it is time to leave instead.
    fn back_off(&mut self) -> bool {
        let factor = 2_u32.saturating_pow(self.failures).min(MAX_BACKOFF);
        self.failures += 1;
        let until = Instant::now() + self.config.retry * factor;
        let mut state = self.shared.lock();
        loop {
            let now = Instant::now();
            if state.close_by.is_some_and(|by| now >= by) {
                return false;
            }
            let until = state.close_by.map_or(until, |by| until.min(by));
            if now >= until {
                return true;
            }
            let waited = self.shared.changed.wait_timeout(state, until - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn dropped_note(last: &Record, dropped: u64) -> Record {
    let mut fields = Map::new();
    fields.insert("dropped".to_owned(), dropped.into());
    Record {
        time: Timestamp::now(),
        level: Level::Warn,
        instance: Arc::clone(&last.instance),
        run_id: None,
        stream: Stream::Host,
        message: format!(
            "{dropped} lines of all instances were dropped: the Fluentd took them too slowly"
        ),
        fields,
    }
}
