//! How often a tool may be called.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// So many calls in so much time; that many at once after a quiet while. Written `10/s`, `100/min` or `5/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RateLimit {
    /// Calls within [`per`](Self::per).
    pub calls: NonZeroU32,
    /// The period.
    pub per: Duration,
}

const PERIODS: [(&str, u64); 4] = [("s", 1), ("min", 60), ("h", 3600), ("d", 86400)];

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("`{text}` is not a rate such as `10/s`, `100/min` or `5/h`");
        let (calls, unit) = text.split_once('/').ok_or_else(problem)?;
        let (_, seconds) = PERIODS
            .into_iter()
            .find(|(name, _)| *name == unit.trim())
            .ok_or_else(problem)?;
        Ok(Self {
            calls: calls.trim().parse().map_err(|_| problem())?,
            per: Duration::from_secs(seconds),
        })
    }
}

impl TryFrom<String> for RateLimit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<RateLimit> for String {
    fn from(rate: RateLimit) -> Self {
        rate.to_string()
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.per.as_secs();
        match PERIODS.into_iter().find(|(_, period)| *period == seconds) {
            Some((name, _)) => write!(f, "{}/{name}", self.calls),
            None => write!(f, "{}/{:?}", self.calls, self.per),
        }
    }
}

/// What is left of a rate: the time at which the store of calls would be full again. Knows no clock: `now` is the time
/// since any fixed moment.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// Takes one call.
    ///
    /// # Errors
    /// The time after which there is one.
    pub fn take(&mut self, rate: RateLimit, now: Duration) -> Result<(), Duration> {
        let one = rate.per / rate.calls.get();
        let full_at = self.full_at.max(now) + one;
        let earliest = full_at.saturating_sub(rate.per);
        if earliest > now {
            return Err(earliest - now);
        }
        self.full_at = full_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_holds_no_more_calls_than_allowed_and_says_when_the_next_may_come() {
        let rate: RateLimit = "4/s".parse().unwrap();
        let mut bucket = Bucket::default();
        let at = Duration::from_millis;
        let now = at(10_000);
        for _ in 0..4 {
            assert_eq!(bucket.take(rate, now), Ok(()));
        }
        assert_eq!(bucket.take(rate, now), Err(at(250)));
        assert_eq!(bucket.take(rate, now + at(249)), Err(at(1)));
        assert_eq!(bucket.take(rate, now + at(250)), Ok(()));
        assert_eq!(bucket.take(rate, now + at(250)), Err(at(250)));
    }

    #[test]
    fn a_refused_call_takes_nothing() {
        let rate: RateLimit = "1/min".parse().unwrap();
        let mut bucket = Bucket::default();
        bucket.take(rate, Duration::ZERO).unwrap();
        for second in 0..60 {
            assert!(bucket.take(rate, Duration::from_secs(second)).is_err());
        }
        assert!(bucket.take(rate, Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn rates_are_written_as_they_are_read() {
        for text in ["10/s", "100/min", "5/h", "1/d"] {
            assert_eq!(text.parse::<RateLimit>().unwrap().to_string(), text);
        }
        for text in ["", "10", "0/s", "10/week", "-1/s"] {
            assert!(text.parse::<RateLimit>().is_err(), "{text}");
        }
    }
}
