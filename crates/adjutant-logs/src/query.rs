//! Which lines somebody wants to see.

use jiff::Timestamp;
use regex::Regex;

use crate::record::{Level, Record};

/// Which lines somebody wants to see; by default all.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only those of this run.
    pub run_id: Option<String>,
    /// Only those of this instance.
    pub instance: Option<String>,
    /// None older than this.
    pub since: Option<Timestamp>,
    /// Only these and worse.
    pub level: Option<Level>,
    /// Only those whose message matches.
    pub grep: Option<Regex>,
}

impl Query {
    /// Whether a line is wanted.
    #[must_use]
    pub fn takes(&self, record: &Record) -> bool {
        let run = self.run_id.as_deref();
        let instance = self.instance.as_deref();
        run.is_none_or(|run| record.run_id.as_deref() == Some(run))
            && instance.is_none_or(|name| &*record.instance == name)
            && self.since.is_none_or(|since| record.time >= since)
            && self.level.is_none_or(|level| record.level >= level)
            && self
                .grep
                .as_ref()
                .is_none_or(|grep| grep.is_match(&record.message))
    }

    /// Whether a line as it stands in a file may be wanted; cheaper than to read it.
    pub(crate) fn may_take(&self, line: &str) -> bool {
        self.run_id.as_deref().is_none_or(|run| line.contains(run))
    }
}
