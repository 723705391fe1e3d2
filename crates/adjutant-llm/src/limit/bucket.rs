//! An amount that fills up again with time.

use std::time::Duration;

use tokio::time::Instant;

/// What may be used within a minute. Takers go below zero and wait until the level is back at zero, which keeps their
/// order; what was taken too much is given back.
#[derive(Debug)]
pub(super) struct Bucket {
    per_minute: f64,
    /// At `at`; never above `per_minute`.
    level: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(per_minute: f64, now: Instant) -> Self {
        Self {
            per_minute,
            level: per_minute,
            at: now,
        }
    }

    /// Takes `amount` and returns how long to wait before using it. More than a minute's worth counts as one.
    pub(super) fn take(&mut self, amount: f64, now: Instant) -> Duration {
        self.refill(now);
        self.level -= amount.min(self.per_minute);
        let minutes = (-self.level).max(0.0) / self.per_minute;
        Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::MAX)
    }

    /// Gives back what was taken and not used; negative takes more, and later takers wait for it.
    pub(super) fn give_back(&mut self, amount: f64, now: Instant) {
        self.refill(now);
        self.level = (self.level + amount).min(self.per_minute);
    }

    fn refill(&mut self, now: Instant) {
        let minutes = now.saturating_duration_since(self.at).as_secs_f64() / 60.0;
        self.level = (self.level + minutes * self.per_minute).min(self.per_minute);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_is_free_and_the_rest_waits_its_turn() {
        let now = Instant::now();
        let mut bucket = Bucket::new(60.0, now);
        assert_eq!(bucket.take(60.0, now), Duration::ZERO);
        assert_eq!(bucket.take(1.0, now), Duration::from_secs(1));
        assert_eq!(bucket.take(2.0, now), Duration::from_secs(3));
        let later = now + Duration::from_secs(3);
        assert_eq!(bucket.take(1.0, later), Duration::from_secs(1));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let now = Instant::now();
        let mut bucket = Bucket::new(60.0, now);
        bucket.take(60.0, now);
        bucket.give_back(50.0, now);
        assert_eq!(bucket.take(50.0, now), Duration::ZERO);
        bucket.give_back(1000.0, now);
        assert_eq!(bucket.take(60.0, now), Duration::ZERO);
        assert_eq!(bucket.take(6.0, now), Duration::from_secs(6));
    }

    #[test]
    fn more_than_a_minutes_worth_does_not_block_for_ever() {
        let now = Instant::now();
        let mut bucket = Bucket::new(60.0, now);
        assert_eq!(bucket.take(1e9, now), Duration::ZERO);
        assert_eq!(bucket.take(60.0, now), Duration::from_secs(60));
    }
}
