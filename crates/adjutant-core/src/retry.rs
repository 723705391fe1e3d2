//! When to try again.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

/// How often and how patiently a failed attempt is repeated.
///
/// Attempt n + 1 starts `base^n` seconds after attempt n failed, at most `max_delay` and shortened at
/// random by up to `jitter`, so that runs which failed together do not come back together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, the first included. Default 3.
    #[serde(alias = "max_retries")]
    pub max_attempts: NonZeroU32,
    /// Base of the exponential back-off, in seconds. Default 2; 0 retries at once.
    pub backoff_base: f64,
    /// Longest delay between two attempts. Default 300 s.
    #[serde(with = "seconds")]
    pub max_delay: Duration,
    /// Share of the delay that is random, 0 to 1. Default 0.1.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: NonZeroU32::MIN.saturating_add(2),
            backoff_base: 2.0,
            max_delay: Duration::from_secs(300),
            jitter: 0.1,
        }
    }
}

impl RetryPolicy {
    /// One attempt, no retry.
    #[must_use]
    pub fn never() -> Self {
        Self {
            max_attempts: NonZeroU32::MIN,
            ..Self::default()
        }
    }

    /// Whether another attempt is allowed after `attempt` (1 for the first) has failed.
    #[must_use]
    pub fn allows_after(&self, attempt: u32) -> bool {
        attempt < self.max_attempts.get()
    }

    /// The delay after `attempt` has failed; `random` lies in 0..1.
    #[must_use]
    pub fn delay_after(&self, attempt: u32, random: f64) -> Duration {
        let exponent = i32::try_from(attempt).unwrap_or(i32::MAX);
        let seconds = self
            .backoff_base
            .max(0.0)
            .powi(exponent)
            .min(self.max_delay.as_secs_f64());
        let share = 1.0 - self.jitter.clamp(0.0, 1.0) * random.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(seconds * share).unwrap_or(self.max_delay)
    }
}

/// Durations as seconds, whole or not.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(value.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let policy = RetryPolicy {
            jitter: 0.0,
            ..RetryPolicy::default()
        };
        let delays: Vec<u64> = (1..11)
            .map(|n| policy.delay_after(n, 0.7).as_secs())
            .collect();
        assert_eq!(delays, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(policy.delay_after(u32::MAX, 0.0).as_secs(), 300);
    }

    #[test]
    fn jitter_only_shortens() {
        let policy = RetryPolicy {
            jitter: 0.5,
            ..RetryPolicy::default()
        };
        assert_eq!(policy.delay_after(1, 0.0), Duration::from_secs(2));
        assert_eq!(policy.delay_after(1, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn three_attempts_by_default() {
        let policy = RetryPolicy::default();
        assert!(policy.allows_after(2));
        assert!(!policy.allows_after(3));
        assert!(!RetryPolicy::never().allows_after(1));
    }
}
