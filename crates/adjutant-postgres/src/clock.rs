//! The server's time between looks at the server.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use adjutant_core::{Clock, SystemClock, Timestamp};

/// This machine's clock, set by the server's whenever that is heard.
#[derive(Debug, Default)]
pub(crate) struct ServerClock {
    /// How much the server's clock is ahead, in microseconds.
    ahead: AtomicI64,
}

impl ServerClock {
    /// Notes what the server's clock showed between these two moments of this machine's.
    pub(crate) fn set(&self, server: Timestamp, asked: Timestamp, answered: Timestamp) {
        let middle = i64::midpoint(asked.as_micros(), answered.as_micros());
        self.ahead
            .store(server.as_micros().saturating_sub(middle), Relaxed);
    }
}

impl Clock for ServerClock {
    fn now(&self) -> Timestamp {
        let here = SystemClock.now().as_micros();
        Timestamp::from_micros(here.saturating_add(self.ahead.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_a_server_that_is_ahead() {
        let clock = ServerClock::default();
        let now = SystemClock.now();
        let hour = std::time::Duration::from_hours(1);
        clock.set(now + hour, now, now);
        let shown = clock.now();
        assert!(shown >= now + hour && shown < now + hour + hour / 60);
    }
}
