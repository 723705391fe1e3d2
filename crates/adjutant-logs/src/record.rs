//! One line of a log with all that is known of it.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::text;

/// One line of a log. Its JSON form is what files hold and `agent logs -o json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it was written as the line itself tells, else when it came in.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub time: Timestamp,
    /// How bad it is.
    pub level: Level,
    /// Who wrote it.
    pub instance: Arc<str>,
    /// The run that the instance worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Arc<str>>,
    /// How it came.
    pub stream: Stream,
    /// What it says.
    pub message: String,
    /// What else a structured line says.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

impl Record {
    /// What it says, with its fields, on one line and without what would move a terminal's cursor.
    #[must_use]
    pub fn shown(&self) -> String {
        text::shown(self)
    }
}

fn write_time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.9}"))
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// How bad it is, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Every detail.
    Trace,
    /// For who looks for a mistake.
    Debug,
    /// News; also what says nothing of its level.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// All, mildest first.
    pub const ALL: [Self; 5] = [
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// The level that a word of any logging library means.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        const WORDS: [(&str, Level); 16] = [
            ("trace", Level::Trace),
            ("verbose", Level::Trace),
            ("debug", Level::Debug),
            ("info", Level::Info),
            ("information", Level::Info),
            ("notice", Level::Info),
            ("success", Level::Info),
            ("warn", Level::Warn),
            ("warning", Level::Warn),
            ("error", Level::Error),
            ("err", Level::Error),
            ("critical", Level::Error),
            ("fatal", Level::Error),
            ("alert", Level::Error),
            ("emergency", Level::Error),
            ("panic", Level::Error),
        ];
        let found = WORDS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word));
        found.map(|(_, level)| *level)
    }

    /// The level of a number as pino and bunyan count: 30 is `info`.
    #[must_use]
    pub const fn of_number(number: u64) -> Self {
        match number {
            0..20 => Self::Trace,
            20..30 => Self::Debug,
            30..40 => Self::Info,
            40..50 => Self::Warn,
            _ => Self::Error,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::of_word(text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("`{text}` is none of {names}")
        })
    }
}

/// How a line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// On stderr.
    Stderr,
    /// On stdout, where it was no message.
    Stdout,
    /// As a message of the agent wire.
    Wire,
    /// From the runtime.
    Host,
}

impl Stream {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stderr => "stderr",
            Self::Stdout => "stdout",
            Self::Wire => "wire",
            Self::Host => "host",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let all = [Self::Stderr, Self::Stdout, Self::Wire, Self::Host];
        all.into_iter().find(|stream| stream.as_str() == name)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_keeps_everything() {
        let text = r#"{"time":"2026-11-21T14:38:23.123456789Z","level":"warn","instance":"a-01","run_id":"run_1","stream":"stderr","message":"hé \"x\"","fields":{"n":1}}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }

    #[test]
    fn levels_have_many_names() {
        for (word, level) in [
            ("WARNING", Level::Warn),
            ("Fatal", Level::Error),
            ("notice", Level::Info),
        ] {
            assert_eq!(Level::of_word(word), Some(level));
        }
        assert_eq!(Level::of_word("loud"), None);
        assert!(Level::Error > Level::Warn);
    }
}
