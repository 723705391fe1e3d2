//! The server's time between looks at the server.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use adjutant_core::{Clock, SystemClock, Timestamp};

/// The server's clock as it must be now, from when it was last heard. It goes on evenly in between, whatever
/// becomes of this machine's own clock.
#[derive(Debug)]
pub(crate) struct ServerClock {
    base: Instant,
    /// The server's time at `base`, in microseconds.
    at_base: AtomicI64,
    /// When it was last heard, in microseconds after `base`; negative for never.
    heard: AtomicI64,
}

impl Default for ServerClock {
    fn default() -> Self {
        Self {
            base: Instant::now(),
            at_base: AtomicI64::new(SystemClock.now().as_micros()),
            heard: AtomicI64::new(-1),
        }
    }
}

impl ServerClock {
    fn micros(&self, at: Instant) -> i64 {
        let since = at.saturating_duration_since(self.base);
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    /// Notes what the server's clock showed at some time between `asked` and now. As long as the time that we take
    /// it to be agrees with that, it stays: an answer that was long in coming says little.
    pub(crate) fn set(&self, server: Timestamp, asked: Instant) {
        let now = self.micros(Instant::now());
        let server = server.as_micros();
        let (least, most) = (server - now, server - self.micros(asked));
        let at_base = self.at_base.load(Relaxed).clamp(least, most);
        self.at_base.store(at_base, Relaxed);
        self.heard.store(now, Relaxed);
    }

    /// Whether the server's clock has been heard within this time.
    pub(crate) fn is_fresh(&self, within: Duration) -> bool {
        let heard = self.heard.load(Relaxed);
        let age = self.micros(Instant::now()).saturating_sub(heard);
        heard >= 0 && Duration::from_micros(age.unsigned_abs()) < within
    }
}

impl Clock for ServerClock {
    fn now(&self) -> Timestamp {
        let since = self.micros(Instant::now());
        Timestamp::from_micros(self.at_base.load(Relaxed).saturating_add(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_a_server_that_is_ahead() {
        let clock = ServerClock::default();
        assert!(!clock.is_fresh(Duration::from_secs(60)));
        let now = SystemClock.now();
        let hour = Duration::from_hours(1);
        clock.set(now + hour, Instant::now());
        assert!(clock.is_fresh(Duration::from_secs(60)));
        let shown = clock.now();
        assert!(shown >= now + hour && shown < now + hour + hour / 60);
    }

    #[test]
    fn an_answer_that_was_long_in_coming_does_not_move_it() {
        let clock = ServerClock::default();
        let asked = clock.base;
        let first = Timestamp::from_micros(1_000_000_000);
        clock.set(first, asked);
        let at_base = clock.at_base.load(Relaxed);
        while asked.elapsed() < Duration::from_millis(20) {
            std::thread::yield_now();
        }
        // Somewhere within the 20 ms.
        let within = Timestamp::from_micros(at_base) + Duration::from_millis(10);
        clock.set(within, asked);
        assert_eq!(clock.at_base.load(Relaxed), at_base);
        // Before it was even asked.
        clock.set(first + Duration::from_secs(60), asked);
        assert!(clock.now() >= first + Duration::from_secs(60));
    }
}
