//! How often something happens.

use std::time::{Duration, Instant};

/// The length of the window, in seconds.
const SECONDS: usize = 60;

/// Counts what happened in the last minute, to the second.
#[derive(Debug)]
pub(super) struct Rate {
    began: Instant,
    /// What happened in each second, by the second's number modulo the length.
    buckets: [u64; SECONDS],
    /// The latest second that was counted in.
    latest: u64,
    total: u64,
}

impl Rate {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            began: now,
            buckets: [0; SECONDS],
            latest: 0,
            total: 0,
        }
    }

    pub(super) fn add(&mut self, count: u64, now: Instant) {
        self.advance(now);
        self.total += count;
        if let Some(bucket) = self.bucket(self.latest) {
            *bucket += count;
        }
    }

    pub(super) fn per_minute(&mut self, now: Instant) -> u64 {
        self.advance(now);
        self.buckets.iter().sum()
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Empties the seconds that have gone by since the latest.
    fn advance(&mut self, now: Instant) {
        let age: Duration = now.saturating_duration_since(self.began);
        let second = age.as_secs().max(self.latest);
        if second - self.latest >= SECONDS as u64 {
            self.buckets = [0; SECONDS];
        } else {
            for passed in self.latest + 1..=second {
                if let Some(bucket) = self.bucket(passed) {
                    *bucket = 0;
                }
            }
        }
        self.latest = second;
    }

    fn bucket(&mut self, second: u64) -> Option<&mut u64> {
        self.buckets.get_mut((second % SECONDS as u64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_minute_does_not_count() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rate = Rate::new(start);
        rate.add(5, at(0));
        rate.add(7, at(30));
        assert_eq!(rate.per_minute(at(59)), 12);
        assert_eq!(rate.per_minute(at(60)), 7);
        assert_eq!(rate.per_minute(at(89)), 7);
        assert_eq!(rate.per_minute(at(90)), 0);
        rate.add(1, at(1000));
        assert_eq!((rate.per_minute(at(1000)), rate.total()), (1, 13));
    }
}
