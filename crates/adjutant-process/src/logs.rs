//! What a process writes to stderr: kept, bounded, passed on.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use adjutant_core::{EventType, Json, NewEvent, RunContext};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longer lines are cut.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// Lines that are kept for the report of a failure.
const TAIL_LINES: usize = 20;

/// Lines that become events at once; after a burst, this many a second. The others are only counted.
const MAX_EVENTS_PER_SECOND: u32 = 50;

/// Cuts a stream into lines of bounded length.
struct Lines {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    chunk: Box<[u8]>,
    line: Vec<u8>,
    ready: VecDeque<String>,
    ended: bool,
}

impl Lines {
    fn new(stream: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self {
            stream,
            chunk: vec![0; MAX_LINE_BYTES].into_boxed_slice(),
            line: Vec::new(),
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// The next line, or `None` at the end. Dropping the future loses nothing.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            match self.stream.read(&mut self.chunk).await {
                Ok(0) | Err(_) => self.end(),
                Ok(count) => self.take(count),
            }
        }
    }

    fn take(&mut self, count: usize) {
        for &byte in self.chunk.iter().take(count) {
            if byte == b'\n' {
                self.ready.push_back(text(&self.line));
                self.line.clear();
            } else if self.line.len() < MAX_LINE_BYTES {
                self.line.push(byte);
            }
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if !self.line.is_empty() {
            self.ready.push_back(text(&self.line));
            self.line.clear();
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}

/// The log of one process.
pub(crate) struct Logs {
    lines: Lines,
    tail: VecDeque<String>,
    allowance: Allowance,
}

impl Logs {
    pub(crate) fn new(stderr: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self {
            lines: Lines::new(stderr),
            tail: VecDeque::with_capacity(TAIL_LINES),
            allowance: Allowance::new(Instant::now()),
        }
    }

    /// Takes in the next line; `None` at the end. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, ctx: &RunContext) -> Option<Option<NewEvent>> {
        let line = self.lines.next().await?;
        tracing::debug!(run_id = %ctx.run_id(), attempt = ctx.attempt(), agent = %ctx.agent_key(), "{line}");
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        Some(self.event("info", "stderr", &line))
    }

    /// Forgets the last lines, because what follows belongs to another run.
    pub(crate) fn forget(&mut self) {
        self.tail.clear();
    }

    /// The event for a line, unless there have been too many lately.
    pub(crate) fn event(&mut self, level: &str, stream: &str, line: &str) -> Option<NewEvent> {
        let suppressed = self.allowance.take(Instant::now())?;
        let mut payload = json!({ "level": level, "message": line, "stream": stream });
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
        while let Some(line) = lines.next().await {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [1, MAX_LINE_BYTES, 0, 4]);
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
