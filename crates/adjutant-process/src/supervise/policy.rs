//! What is to become of a process that ends, and of those beside it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::duration;

/// When a process is started again after it has ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Restart {
    /// Never; OTP's `temporary`.
    #[serde(alias = "never", alias = "temporary")]
    No,
    /// When it failed: another status than 0, a signal, a limit, a hang; OTP's `transient`.
    #[default]
    #[serde(alias = "transient")]
    OnFailure,
    /// However it ended; OTP's `permanent`. Also when all are started, if it had been stopped by hand before.
    #[serde(alias = "permanent")]
    Always,
    /// However it ended, unless it was stopped by hand.
    UnlessStopped,
}

/// Who else goes down and comes up again with a process that has to be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Strategy {
    /// Nobody.
    #[default]
    OneForOne,
    /// Everybody. Nobody starts before all are down.
    OneForAll,
    /// Those that come later in the start order; each of them waits for all before it.
    RestForOne,
}

/// The pause before a restart: `first`, then twice as long each time, up to `longest`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// The first pause. Default 1 s.
    #[serde(with = "duration")]
    pub first: Duration,
    /// The longest pause. Default 60 s.
    #[serde(with = "duration")]
    pub longest: Duration,
    /// Share of a pause that is random and only shortens it, 0 to 1. Default 0.1.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            jitter: 0.1,
        }
    }
}

impl Backoff {
    /// The pause before restart number `restart`, counted from 1; `random` lies in 0..1.
    #[must_use]
    pub fn pause(&self, restart: u32, random: f64) -> Duration {
        let doublings = restart.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        whole.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * random.clamp(0.0, 1.0))
    }
}

/// Everything about restarts of one process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestartPolicy {
    /// When. Default `on-failure`.
    pub when: Restart,
    /// Restarts in a row before it has failed for good. Default 3.
    #[serde(alias = "max_restart_attempts")]
    pub max_attempts: u32,
    /// The pauses in between.
    pub backoff: Backoff,
    /// A process that was ready for this long is healthy again: its restarts are counted from 0. Default 60 s.
    #[serde(with = "duration")]
    pub stable_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            when: Restart::default(),
            max_attempts: 3,
            backoff: Backoff::default(),
            stable_after: Duration::from_secs(60),
        }
    }
}

/// How many restarts of all processes together are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Intensity {
    /// As many are fine. Default 10.
    pub restarts: u32,
    /// Within this time. Default 60 s.
    #[serde(with = "duration")]
    pub period: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self {
            restarts: 10,
            period: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_jitter_only_shortens_them() {
        let backoff = Backoff {
            longest: Duration::from_secs(10),
            jitter: 0.5,
            ..Backoff::default()
        };
        let seconds: Vec<u64> = (1..7).map(|n| backoff.pause(n, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.pause(u32::MAX, 0.0), Duration::from_secs(10));
        assert_eq!(backoff.pause(2, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn the_words_of_compose_and_of_otp_mean_the_same() {
        let read = |word: &str| serde_json::from_value::<Restart>(word.into()).unwrap();
        let pairs = [
            ("no", "temporary"),
            ("on-failure", "transient"),
            ("always", "permanent"),
        ];
        for (one, other) in pairs {
            assert_eq!(read(one), read(other));
        }
        assert_eq!(read("unless-stopped"), Restart::UnlessStopped);
    }
}
