//! What came out.

use std::time::Duration;

use serde::Serialize;

/// All cases of one program.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What the program calls itself.
    pub agent: String,
    /// One per case, in the order they ran.
    pub cases: Vec<Outcome>,
}

/// One case.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The case, such as `framing/garbage`.
    pub name: &'static str,
    /// The wire's level that it belongs to.
    pub level: u8,
    /// The rule that it proves.
    pub rule: &'static str,
    /// What came out.
    pub verdict: Verdict,
    /// Why, unless it passed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// How long it took.
    #[serde(serialize_with = "milliseconds", rename = "ms")]
    pub took: Duration,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The rule is kept.
    Passed,
    /// The rule is broken.
    Failed,
    /// The program cannot show it.
    Skipped,
}

impl Verdict {
    /// The word for tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

fn milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Report {
    fn count(&self, verdict: Verdict) -> usize {
        let same = self.cases.iter().filter(|case| case.verdict == verdict);
        same.count()
    }

    /// Cases whose rule is kept.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.count(Verdict::Passed)
    }

    /// Cases whose rule is broken.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.count(Verdict::Failed)
    }

    /// Cases that the program cannot show.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.count(Verdict::Skipped)
    }
}
