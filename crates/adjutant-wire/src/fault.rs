//! Error codes, and the error object of a response.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $retryable:literal;)*) => {
        /// Every error code of the wire. JSON-RPC's own codes keep their numbers; the others lie outside its reserved
        /// block.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// All codes, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number in the error object.
            #[must_use]
            pub const fn code(self) -> i64 { match self { $(Self::$name => $code,)* } }

            /// The stable name, as `data.code` carries it.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$name => $text,)* } }

            /// Whether a later try of the same call may succeed, unless `data.retryable` says otherwise.
            #[must_use]
            pub const fn retryable(self) -> bool { match self { $(Self::$name => $retryable,)* } }

            /// The code with this number.
            #[must_use]
            pub const fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// Not JSON.
    ParseError = -32700, "parse_error", false;
    /// JSON, but not a message.
    InvalidRequest = -32600, "invalid_request", false;
    /// A method that this side does not have.
    MethodNotFound = -32601, "method_not_found", false;
    /// A method that exists, with parameters it cannot read.
    InvalidParams = -32602, "invalid_params", false;
    /// A fault of the side that answers.
    Internal = -32603, "internal", true;
    /// The request was given up with `$/cancel_request`.
    Cancelled = -32800, "cancelled", false;
    /// The agent's own code failed; only in the answer to `run/start`.
    AgentFailed = -31000, "agent_failed", true;
    /// The host has no such run on this connection.
    UnknownRun = -31001, "unknown_run", false;
    /// The attempt's lease is lost: the agent must stop the run and write nothing more.
    Fenced = -31002, "fenced", false;
    /// The budget does not allow the call.
    Budget = -31003, "budget", false;
    /// The run's deadline has passed.
    Deadline = -31004, "deadline", false;
    /// Too much at once; try again after `retryAfterMs`.
    Overloaded = -31005, "overloaded", true;
    /// No such tool or model, or it is down.
    ToolUnavailable = -31006, "tool_unavailable", true;
    /// The tool did not answer in time.
    ToolTimeout = -31007, "tool_timeout", true;
    /// Policy or a person refuses.
    Denied = -31008, "denied", false;
    /// The model's provider failed.
    Provider = -31009, "provider", true;
    /// The process at the other end is gone.
    ProcessGone = -31010, "process_gone", true;
    /// A line, a checkpoint or a result over its limit.
    TooLarge = -31011, "too_large", false;
    /// The same key or call id with other input than the journal holds: the agent's code changed under a run.
    CallConflict = -31012, "call_conflict", false;
    /// A checkpoint that this version of the agent cannot read.
    StateIncompatible = -31013, "state_incompatible", false;
    /// Not an error to show: the wait is journaled, end the attempt with `stopReason: "yield"`.
    Park = -31014, "park", true;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The `error` of a response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{message} ({code})")]
pub struct RpcError {
    /// The number; see [`ErrorCode`].
    pub code: i64,
    /// For a person. Programs decide on `code` and `data`, never on this text.
    pub message: String,
    /// Details; our own errors always carry an [`ErrorData`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// What `data` of an error holds on this wire.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ErrorData {
    /// [`ErrorCode::name`].
    pub code: String,
    /// Whether a later try may succeed.
    pub retryable: bool,
    /// How long to wait before that, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The run that the error is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// For [`ErrorCode::AgentFailed`]: the kind of the agent's failure, such as `ValueError`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Whatever else a program can use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

impl RpcError {
    /// An error with the code's own retry advice.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code: code.code(),
            message: message.into(),
            data: None,
        }
        .with_data(&ErrorData {
            code: code.name().to_owned(),
            retryable: code.retryable(),
            ..ErrorData::default()
        })
    }

    /// The same error with other details.
    #[must_use]
    pub fn with_data(self, data: &ErrorData) -> Self {
        // Plain strings, numbers and JSON: this cannot fail, and an error without details is still an error.
        Self {
            data: serde_json::to_value(data).ok(),
            ..self
        }
    }

    /// The refusal of a method that this side does not have.
    #[must_use]
    pub fn method_not_found(method: &str) -> Self {
        Self::new(
            ErrorCode::MethodNotFound,
            format!("no method {method:?} here"),
        )
    }

    /// The answer "the wait is journaled, end the attempt".
    #[must_use]
    pub fn park(why: impl Into<String>) -> Self {
        Self::new(ErrorCode::Park, why)
    }

    /// The code as an enum; `None` for a number that this version does not know.
    #[must_use]
    pub const fn kind(&self) -> Option<ErrorCode> {
        ErrorCode::from_code(self.code)
    }

    /// Whether this is the code in question.
    #[must_use]
    pub fn is(&self, code: ErrorCode) -> bool {
        self.code == code.code()
    }

    /// The details, if they have this wire's shape.
    #[must_use]
    pub fn detail(&self) -> Option<ErrorData> {
        self.data
            .as_ref()
            .and_then(|data| ErrorData::deserialize(data).ok())
    }

    /// Whether a later try may succeed: what `data` says, else the code's default, else no.
    #[must_use]
    pub fn retryable(&self) -> bool {
        let said = self
            .data
            .as_ref()
            .and_then(|data| data.get("retryable"))
            .and_then(Value::as_bool);
        said.unwrap_or_else(|| self.kind().is_some_and(ErrorCode::retryable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_code_is_found_by_its_number_and_no_two_share_one() {
        for (i, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(ErrorCode::from_code(code.code()), Some(*code));
            for other in &ErrorCode::ALL[i + 1..] {
                assert_ne!(code.code(), other.code());
                assert_ne!(code.name(), other.name());
            }
        }
    }

    #[test]
    fn the_wires_own_codes_lie_outside_the_reserved_block() {
        for code in ErrorCode::ALL
            .iter()
            .map(|c| c.code())
            .filter(|c| *c > -32000)
        {
            assert!((-31014..=-31000).contains(&code), "{code}");
        }
    }

    #[test]
    fn advice_comes_from_data_then_from_the_code() {
        let bare = |code, data| RpcError {
            code,
            message: String::new(),
            data,
        };
        assert!(bare(-31005, None).retryable());
        assert!(!bare(-31005, Some(json!({"retryable": false}))).retryable());
        assert!(bare(-31008, Some(json!({"retryable": true}))).retryable());
        assert!(bare(-31005, Some(json!("free text"))).retryable());
        assert!(!bare(12, None).retryable());
    }

    #[test]
    fn our_errors_always_carry_a_name_and_advice() {
        let error = RpcError::park("asleep until noon");
        assert_eq!(error.data, Some(json!({"code": "park", "retryable": true})));
    }
}
