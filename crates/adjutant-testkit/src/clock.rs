//! A clock that follows tokio's, and with it tokio's paused time.

use adjutant_core::{Clock, Timestamp};
use tokio::time::Instant;

/// Wall time at its making plus what tokio's clock says has passed since: in a test that starts paused,
/// time passes only while every task waits, and then at once.
#[derive(Debug, Clone, Copy)]
pub struct VirtualClock {
    origin: Timestamp,
    started: Instant,
}

impl VirtualClock {
    /// A clock that begins at a fixed point in time, so that runs of a test look alike.
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: Timestamp::from_micros(1_700_000_000_000_000),
            started: Instant::now(),
        }
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.origin + self.started.elapsed()
    }
}
