//! What a process writes to stderr: kept, bounded, passed on.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use adjutant_core::{EventType, Json, NewEvent, RunContext};
use adjutant_logs::{Level, LineCutter, Stream, level_of};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::usage::Observer;

/// Lines that are kept for the report of a failure.
const TAIL_LINES: usize = 20;

/// Lines that become events at once; after a burst, this many a second. The others are only counted.
const MAX_EVENTS_PER_SECOND: u32 = 50;

/// How much is read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Cuts a stream into lines of bounded length.
struct Lines {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    chunk: Box<[u8]>,
    cutter: LineCutter,
    ready: VecDeque<String>,
    ended: bool,
}

impl Lines {
    fn new(stream: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self {
            stream,
            chunk: vec![0; CHUNK_BYTES].into_boxed_slice(),
            cutter: LineCutter::default(),
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// The next line, or `None` at the end. What comes is shown to the observer at once. Dropping the future loses
    /// nothing.
    async fn next(&mut self, stream: Stream, observer: &Observer) -> Option<String> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            let read = self.stream.read(&mut self.chunk).await;
            let ready = &mut self.ready;
            let mut take = |line: &[u8]| {
                observer.line(stream, line);
                ready.push_back(text(line));
            };
            match read {
                Ok(0) | Err(_) => {
                    self.ended = true;
                    self.cutter.finish(take);
                }
                Ok(count) => {
                    let bytes = self.chunk.get(..count).unwrap_or_default();
                    self.cutter.push(bytes, &mut take);
                }
            }
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}

/// The log of one process.
pub(crate) struct Logs {
    lines: Lines,
    observer: Observer,
    stream: Stream,
    tail: VecDeque<String>,
    allowance: Allowance,
}

impl Logs {
    pub(crate) fn new(stderr: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self {
            lines: Lines::new(stderr),
            observer: Observer::default(),
            stream: Stream::Stderr,
            tail: VecDeque::with_capacity(TAIL_LINES),
            allowance: Allowance::new(Instant::now()),
        }
    }

    /// The same, heard by an observer too.
    pub(crate) fn observed(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// The same for what is not stderr.
    pub(crate) fn observed_as(self, stream: Stream, observer: Observer) -> Self {
        Self {
            observer,
            stream,
            ..self
        }
    }

    /// Takes in the next line; `None` at the end. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, ctx: &RunContext) -> Option<Option<NewEvent>> {
        let line = self.lines.next(self.stream, &self.observer).await?;
        tracing::debug!(run_id = %ctx.run_id(), attempt = ctx.attempt(), agent = %ctx.agent_key(), "{line}");
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        let stream = self.stream;
        Some(self.passed(|| {
            let level = level_of(&line).unwrap_or(Level::Info);
            json!({ "level": level, "message": line, "stream": stream })
        }))
    }

    /// Takes in the next line while the process has no run, so that it never blocks; `None` at the end. The line is
    /// kept for no report. Dropping the future loses nothing.
    pub(crate) async fn line(&mut self) -> Option<String> {
        self.lines.next(self.stream, &self.observer).await
    }

    /// Forgets the last lines, because what follows belongs to another run.
    pub(crate) fn forget(&mut self) {
        self.tail.clear();
    }

    /// Takes in what did not come on stderr, and returns its event, unless there have been too many lately.
    pub(crate) fn event(&mut self, level: &str, stream: &str, line: &str) -> Option<NewEvent> {
        self.said(level, stream, line, Map::new())
    }

    /// The same for what has fields.
    pub(crate) fn said(
        &mut self,
        level: &str,
        stream: &str,
        message: &str,
        fields: Map<String, Value>,
    ) -> Option<NewEvent> {
        let source = match stream {
            "stdout" => Stream::Stdout,
            "wire" => Stream::Wire,
            _ => Stream::Host,
        };
        self.observer.record(source, level, message, fields.clone());
        self.passed(|| {
            let mut payload = json!({ "level": level, "message": message, "stream": stream });
            if !fields.is_empty() {
                payload["fields"] = Value::Object(fields);
            }
            payload
        })
    }

    /// An event with this payload, unless there have been too many lately.
    fn passed(&mut self, payload: impl FnOnce() -> Value) -> Option<NewEvent> {
        let suppressed = self.allowance.take(Instant::now())?;
        let mut payload = payload();
        if suppressed > 0 {
            payload["suppressed"] = json!(suppressed);
        }
        Some(NewEvent::new(EventType::Log, Json::from(payload)))
    }

    pub(crate) fn ended(&self) -> bool {
        self.lines.ended && self.lines.ready.is_empty()
    }

    /// The last lines, oldest first.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}

/// A bucket that refills steadily.
struct Allowance {
    left: f64,
    since: Instant,
    suppressed: u64,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self {
            left: MAX_EVENTS_PER_SECOND.into(),
            since: now,
            suppressed: 0,
        }
    }

    /// Takes one; how many were refused since the last success, or `None` when this one is refused too.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let passed: Duration = now.saturating_duration_since(self.since);
        let full = f64::from(MAX_EVENTS_PER_SECOND);
        self.left = (self.left + passed.as_secs_f64() * full).min(full);
        self.since = now;
        if self.left < 1.0 {
            self.suppressed += 1;
            return None;
        }
        self.left -= 1.0;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_at_their_limit_and_the_last_needs_no_newline() {
        let flood = format!("a\n{}\n\nlast", "x".repeat(100_000));
        let mut lines = Lines::new(Box::new(std::io::Cursor::new(flood.into_bytes())));
        let mut lengths = Vec::new();
        while let Some(line) = lines.next(Stream::Stderr, &Observer::default()).await {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [1, adjutant_logs::MAX_LINE_BYTES, 0, 4]);
    }

    #[test]
    fn a_flood_is_counted_and_the_count_told_when_it_ebbs() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let passed = (0..1000)
            .filter(|_| allowance.take(start).is_some())
            .count();
        assert_eq!(passed, MAX_EVENTS_PER_SECOND as usize);
        let later = start + Duration::from_secs(1);
        assert_eq!(allowance.take(later), Some(950));
        assert_eq!(allowance.take(later), Some(0));
    }
}
