//! The server's time, as every answer tells it, carried on by this machine's clock in between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use adjutant_core::{Clock, SystemClock, Timestamp};

/// Clocks run apart by less than a millisecond in this time.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// The time that all nodes agree on: never ahead of the server's, and behind it by an answer's way back. It stands
/// still and does not step back.
#[derive(Debug)]
pub(crate) struct ServerClock {
    started: Instant,
    /// The server's time when `started`, in microseconds.
    zero: AtomicI64,
    /// When the server was heard last, in microseconds since `started`; negative for never.
    heard: AtomicI64,
    /// The latest time that was told.
    told: AtomicI64,
    /// Instead of the server's.
    own: Option<Arc<dyn Clock>>,
}

impl ServerClock {
    pub(crate) fn new(own: Option<Arc<dyn Clock>>) -> Self {
        Self {
            started: Instant::now(),
            zero: AtomicI64::new(SystemClock.now().as_micros()),
            heard: AtomicI64::new(-1),
            told: AtomicI64::new(0),
            own,
        }
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    /// Takes over what the server has just told.
    pub(crate) fn heard(&self, micros: i64) {
        let elapsed = self.elapsed();
        self.zero.store(micros - elapsed, Relaxed);
        self.heard.store(elapsed, Relaxed);
    }

    /// The server's time, in microseconds, whatever others are told.
    pub(crate) fn server_now(&self) -> i64 {
        self.zero.load(Relaxed) + self.elapsed()
    }

    /// Whether the server was heard lately, or need not be.
    pub(crate) fn is_good(&self) -> bool {
        let heard = self.heard.load(Relaxed);
        let age = self.elapsed().saturating_sub(heard);
        self.own.is_some() || (heard >= 0 && i128::from(age) < GOOD_FOR.as_micros().cast_signed())
    }
}

impl Clock for ServerClock {
    fn now(&self) -> Timestamp {
        if let Some(own) = &self.own {
            return own.now();
        }
        let now = self.zero.load(Relaxed) + self.elapsed();
        Timestamp::from_micros(self.told.fetch_max(now, Relaxed).max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_server_and_never_steps_back() {
        let clock = ServerClock::new(None);
        assert!(!clock.is_good());
        clock.heard(4_000_000_000_000_000);
        assert!(clock.is_good());
        let now = clock.now();
        assert!(now >= Timestamp::from_micros(4_000_000_000_000_000));
        clock.heard(3_000_000_000_000_000);
        assert!(clock.now() >= now);
    }
}
