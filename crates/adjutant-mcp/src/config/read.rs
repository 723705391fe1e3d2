//! From text to a configuration, with errors that name the field.

use std::time::Duration;

use adjutant_confine::Isolation;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Value, json};

use super::{Problem, ServersConfig};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is not what a configuration looks like.
    #[error("`{field}`: {problem}")]
    Read {
        /// The field, such as `mcpServers.files.restart.max`.
        field: String,
        /// What is wrong there.
        problem: String,
    },
    /// It cannot be meant.
    #[error("{}", listed(.0))]
    Invalid(Vec<Problem>),
}

fn listed(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

impl ServersConfig {
    /// Reads and checks a configuration: `{"mcpServers": {…}}`.
    ///
    /// # Errors
    /// When a key is not known, a value is not of its type, or a combination cannot be meant; the error names the field.
    pub fn from_value(value: Value) -> Result<Self, ConfigError> {
        let read: Result<Self, _> = serde_path_to_error::deserialize(value);
        let config = read.map_err(|error| ConfigError::Read {
            field: error.path().to_string(),
            problem: error.inner().to_string(),
        })?;
        let problems = config.problems();
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Invalid(problems))
        }
    }

    /// Reads and checks a configuration in JSON.
    ///
    /// # Errors
    /// As [`ServersConfig::from_value`], and when it is no JSON.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let value = serde_json::from_str(text).map_err(|error| ConfigError::Read {
            field: ".".into(),
            problem: error.to_string(),
        })?;
        Self::from_value(value)
    }
}

/// A number of seconds, or text such as `5m` or `500ms`.
fn read_time<E: de::Error>(value: &Value) -> Result<Duration, E> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => return Err(E::custom(format!("`{other}` is no duration; write `30s`"))),
    };
    adjutant_process::parse_duration(&text).map_err(E::custom)
}

/// Durations as people write them.
pub(super) mod time {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};
    use serde_json::Value;

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        super::read_time(&Value::deserialize(deserializer)?)
    }
}

/// The same for what may be absent.
pub(super) mod maybe_time {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};
    use serde_json::Value;

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_f64(time.as_secs_f64()),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        super::read_time(&Value::deserialize(deserializer)?).map(Some)
    }
}

/// A profile's name, or a profile with more.
pub(super) fn isolation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Isolation, D::Error> {
    let value = match Value::deserialize(deserializer)? {
        Value::String(profile) => json!({ "profile": profile }),
        other => other,
    };
    serde_json::from_value(value).map_err(de::Error::custom)
}
