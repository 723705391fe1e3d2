//! What a server writes to stderr: always read, the end kept, some of it logged.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use adjutant_logs::{LineCutter, Stream};
use adjutant_process::usage::Observer;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::secrets::Hidden;

/// How much of the end is kept.
const KEPT_BYTES: usize = 64 * 1024;

/// Lines that are logged a second; the others are only kept and counted.
const MAX_LOGGED_PER_SECOND: u32 = 50;

const CHUNK_BYTES: usize = 16 * 1024;

/// The end of a server's stderr, and how much there was.
#[derive(Default)]
pub(crate) struct Stderr {
    ring: Mutex<VecDeque<u8>>,
    bytes: AtomicU64,
}

impl Stderr {
    /// How much there was in all.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What is kept of it.
    pub(crate) fn text(&self) -> String {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, second) = ring.as_slices();
        String::from_utf8_lossy(&[first, second].concat()).into_owned()
    }

    /// The last line that is not empty.
    pub(crate) fn last_line(&self) -> Option<String> {
        let text = self.text();
        let line = text.lines().rev().find(|line| !line.trim().is_empty());
        line.map(|line| line.trim().chars().take(500).collect())
    }

    fn keep(&self, line: &str) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.extend(line.as_bytes());
        ring.push_back(b'\n');
        let over = ring.len().saturating_sub(KEPT_BYTES);
        ring.drain(..over);
    }
}

/// Reads a server's stderr to its end, however much it writes.
pub(super) async fn drain(
    server: String,
    mut stream: Box<dyn AsyncRead + Send + Unpin>,
    hidden: Hidden,
    observer: Observer,
    kept: Arc<Stderr>,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut cutter = LineCutter::default();
    let mut allowance = (Instant::now(), MAX_LOGGED_PER_SECOND);
    let mut take = |line: &[u8]| {
        let text = hidden.mask(String::from_utf8_lossy(line).trim_end());
        observer.line(Stream::Stderr, text.as_bytes());
        kept.keep(&text);
        let (since, left) = &mut allowance;
        if since.elapsed() >= Duration::from_secs(1) {
            *since = Instant::now();
            *left = MAX_LOGGED_PER_SECOND;
        }
        if *left > 0 {
            *left -= 1;
            tracing::debug!(server, "{text}");
        }
    };
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        kept.bytes.fetch_add(count as u64, Ordering::Relaxed);
        cutter.push(chunk.get(..count).unwrap_or_default(), &mut take);
    }
    cutter.finish(&mut take);
}
