//! What several methods carry: whose message it is, messages, outputs, failures.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::fault::{ErrorCode, ErrorData, RpcError};

/// An answer or parameters without content: `{}`. Null is read as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(from = "Option<Map<String, Value>>")]
pub struct Empty {}

impl From<Option<Map<String, Value>>> for Empty {
    fn from(_: Option<Map<String, Value>>) -> Self {
        Self {}
    }
}

/// Which attempt of which run a message belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RunScope {
    /// The run.
    pub run_id: String,
    /// Its attempt, counted from 1.
    pub attempt: u32,
    /// The lease's fencing number; a message with a stale one is answered with -31002.
    pub epoch: u64,
}

/// One message of a conversation. Fields that this version does not know are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What is said.
    pub content: Content,
    /// Everything else: `name`, `tool_calls`, `tool_call_id`, …
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a message says: plain text, or parts (`{"type": "text", "text": …}` and others).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Parts in order, as the sender gave them.
    Parts(Vec<Value>),
}

impl RunMessage {
    /// A message of plain text.
    #[must_use]
    pub fn new(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: Content::Text(text.into()),
            extra: Map::new(),
        }
    }

    /// The text, its text parts joined by newlines.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.content {
            Content::Text(text) => text.clone(),
            Content::Parts(parts) => {
                let text = |part: &Value| Some(part.get("text")?.as_str()?.to_owned());
                parts.iter().filter_map(text).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// What a run is started with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunInput {
    /// The conversation so far, oldest first.
    #[serde(default)]
    pub messages: Vec<RunMessage>,
    /// Structured input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// What a run answers. At least one field is usually there; none is allowed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunOutput {
    /// The answer as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The answer as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Messages to append to the conversation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<RunMessage>,
    /// Files and other things made on the way: `{name, uri?, mimeType?, …}` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Value>,
}

impl From<Value> for RunOutput {
    /// A string is `text`, null is no output, everything else is `data`.
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::default(),
            Value::String(text) => Self {
                text: Some(text),
                ..Self::default()
            },
            data => Self {
                data: Some(data),
                ..Self::default()
            },
        }
    }
}

impl From<String> for RunOutput {
    fn from(text: String) -> Self {
        Self {
            text: Some(text),
            ..Self::default()
        }
    }
}

impl From<&str> for RunOutput {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<()> for RunOutput {
    fn from((): ()) -> Self {
        Self::default()
    }
}

/// What models and tools were used, as far as the agent measured it; what went through the host it counts itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TokenUsage {
    /// Tokens sent to models.
    pub input_tokens: u64,
    /// Tokens received from models.
    pub output_tokens: u64,
    /// The part of `input_tokens` that a provider served from its cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// The part of `output_tokens` spent on reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// US dollars, where prices are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// A failure of the agent's code: of a step, of a child run, or of a whole attempt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{kind}: {message}")]
pub struct AgentFailure {
    /// A stable, short kind such as `tool_timeout` or `ValueError`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, for a person.
    pub message: String,
    /// Whether another try may succeed.
    #[serde(default)]
    pub retriable: bool,
    /// Whatever else a program can use. Boxed because it is rare and failures travel in every `Result`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Value>>,
}

impl From<AgentFailure> for RpcError {
    /// The error answer to `run/start`.
    fn from(failure: AgentFailure) -> Self {
        let data = ErrorData {
            code: ErrorCode::AgentFailed.name().to_owned(),
            retryable: failure.retriable,
            kind: Some(failure.kind),
            details: failure.details.map(|details| *details),
            ..ErrorData::default()
        };
        Self::new(ErrorCode::AgentFailed, failure.message).with_data(&data)
    }
}

impl From<RpcError> for AgentFailure {
    /// What an error answer says about the agent; never fails, because foreign agents write what they like.
    fn from(error: RpcError) -> Self {
        let retriable = error.retryable();
        let data = error.detail();
        let named = error.kind().map_or_else(
            || format!("rpc_{}", error.code),
            |code| code.name().to_owned(),
        );
        let (kind, details) = match data {
            Some(data) => (data.kind.unwrap_or(named), data.details),
            None => (named, error.data),
        };
        Self {
            kind,
            message: error.message,
            retriable,
            details: details.map(Box::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_failure_survives_the_way_through_an_error_answer() {
        let failure = AgentFailure {
            kind: "ValueError".into(),
            message: "no such file".into(),
            retriable: true,
            details: Some(Box::new(json!({"path": "a"}))),
        };
        assert_eq!(AgentFailure::from(RpcError::from(failure.clone())), failure);
    }

    #[test]
    fn a_foreign_error_becomes_a_failure_too() {
        let error = RpcError {
            code: 7,
            message: "boom".into(),
            data: Some(json!(["x"])),
        };
        let failure = AgentFailure::from(error);
        assert_eq!((failure.kind.as_str(), failure.retriable), ("rpc_7", false));
        assert_eq!(failure.details.as_deref(), Some(&json!(["x"])));
    }

    #[test]
    fn message_fields_of_later_versions_are_kept() {
        let value = json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}], "name": "n"});
        let message: RunMessage = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(message.text(), "a");
        assert_eq!(serde_json::to_value(&message).unwrap(), value);
    }

    #[test]
    fn an_empty_answer_may_be_null_or_hold_unknown_fields() {
        for value in [json!(null), json!({}), json!({"later": 1})] {
            assert_eq!(serde_json::from_value::<Empty>(value).unwrap(), Empty {});
        }
        assert_eq!(serde_json::to_value(Empty {}).unwrap(), json!({}));
    }
}
