//! Who spends: accounts, and periods after which they start anew.

use std::{fmt, str::FromStr};

use adjutant_core::{AgentKey, Error, Result, RunId, Timestamp};
use jiff::{ToSpan, Zoned, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// Who spends: a run, a tree of runs, an agent, a tenant. A name such as `tenant:acme`; of an account that starts
/// anew with each period, the period is part of the name: `tenant:acme@2026-11-21`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Account(String);

impl Account {
    /// The longest name, in bytes.
    pub const LONGEST: usize = 300;

    /// What a period adds to a name, at most.
    pub(crate) const SUFFIX: usize = 16;

    /// An account of any name: 1 to [`Account::LONGEST`] bytes without control characters.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if name.is_empty() || name.len() > Self::LONGEST || name.chars().any(char::is_control) {
            return Err(Error::Invalid {
                field: "account",
                problem: format!(
                    "must be 1 to {} bytes without control characters",
                    Self::LONGEST
                ),
            });
        }
        Ok(Self(name))
    }

    /// What one run spends.
    #[must_use]
    pub fn run(run: RunId) -> Self {
        Self(format!("run:{run}"))
    }

    /// What the run `root` and everything below it spend.
    #[must_use]
    pub fn tree(root: RunId) -> Self {
        Self(format!("tree:{root}"))
    }

    /// What all runs of an agent spend.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a key that does not fit.
    pub fn agent(agent: &AgentKey) -> Result<Self> {
        Self::new(format!("agent:{agent}"))
    }

    /// What a tenant spends.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that does not fit.
    pub fn tenant(name: &str) -> Result<Self> {
        Self::new(format!("tenant:{name}"))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it belongs to a run or a tree, so that it is of no use after their end.
    pub(crate) fn is_of_runs(&self) -> bool {
        self.0.starts_with("run:") || self.0.starts_with("tree:")
    }

    /// The account of the period that `now` lies in.
    pub(crate) fn during(&self, period: Period, now: Timestamp) -> Self {
        Self(format!("{}@{}", self.0, period.label(now)))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Account {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<String> for Account {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<Account> for String {
    fn from(account: Account) -> Self {
        account.0
    }
}

/// A stretch of time, in UTC, after which an account starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next.
    Month,
}

impl Period {
    /// How a period is named: `2026-11-21T17`, `2026-11-21`, `2026-11`.
    fn label(self, now: Timestamp) -> String {
        let format = match self {
            Self::Hour => "%Y-%m-%dT%H",
            Self::Day => "%Y-%m-%d",
            Self::Month => "%Y-%m",
        };
        utc(now).strftime(format).to_string()
    }

    /// When the period ends that `now` lies in.
    #[must_use]
    pub fn end(self, now: Timestamp) -> Timestamp {
        let now = utc(now);
        let date = now.date();
        let (first, span) = match self {
            Self::Hour => (date.at(now.hour(), 0, 0, 0), 1.hour()),
            Self::Day => (date.at(0, 0, 0, 0), 1.day()),
            Self::Month => (date.first_of_month().at(0, 0, 0, 0), 1.month()),
        };
        let end = first.checked_add(span);
        let end = end.and_then(|end| end.to_zoned(TimeZone::UTC));
        // After the last month that the calendar knows there is no other.
        end.map_or(Timestamp::MAX, |end| {
            Timestamp::from_micros(end.timestamp().as_microsecond())
        })
    }
}

/// A time beyond the calendar is its last moment.
fn utc(now: Timestamp) -> Zoned {
    let time = jiff::Timestamp::from_microsecond(now.as_micros());
    let time = time.unwrap_or(jiff::Timestamp::MAX);
    time.to_zoned(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn periods_begin_and_end_with_the_calendar() {
        let now = at("2028-02-29T23:59:59.999999Z");
        let cases = [
            (Period::Hour, "t@2028-02-29T23", "2028-03-01T00:00:00Z"),
            (Period::Day, "t@2028-02-29", "2028-03-01T00:00:00Z"),
            (Period::Month, "t@2028-02", "2028-03-01T00:00:00Z"),
        ];
        for (period, name, end) in cases {
            let account = Account::new("t").unwrap().during(period, now);
            assert_eq!(account.as_str(), name);
            assert_eq!(period.end(now), at(end));
        }
        assert_eq!(
            Period::Month.end(at("2026-12-05T01:00:00Z")),
            at("2027-01-01T00:00:00Z")
        );
        assert_eq!(
            Period::Hour.end(at("2026-12-05T01:00:00Z")),
            at("2026-12-05T02:00:00Z")
        );
        assert!(Period::Month.end(Timestamp::MAX) > now);
    }

    #[test]
    fn names_are_bounded_and_readable() {
        assert!(Account::new("").is_err());
        assert!(Account::new("a\nb").is_err());
        assert!(Account::new("x".repeat(Account::LONGEST)).is_ok());
        assert!(Account::new("x".repeat(Account::LONGEST + 1)).is_err());
        assert!(serde_json::from_str::<Account>("\"\"").is_err());
    }
}
