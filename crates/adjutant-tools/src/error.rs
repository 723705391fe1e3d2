//! Why a tool call has no answer.

use std::time::Duration;

use adjutant_core::{AgentError, EFFECT_INDETERMINATE, Effect, ErrorInfo, RetryAdvice};
use serde_json::{Value, json};

/// The result of a tool call.
pub type Result<T, E = ToolError> = std::result::Result<T, E>;

/// What was caught below an error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a tool call has no answer. Turn it into an agent's failure with [`ToolError::into_agent_error`], which names the
/// kind of failure; `?` would call every one of them `ToolError`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// There is no such tool, or none that the caller may see.
    #[error("there is no tool `{tool}`")]
    NotFound {
        /// The name that was asked for.
        tool: String,
    },
    /// The arguments are not what the tool's schema describes; nothing was sent.
    #[error("the arguments of tool `{tool}` are not valid: {}{problem}", at(field))]
    InvalidArguments {
        /// The tool.
        tool: String,
        /// JSON Pointer to what is wrong; empty for the whole.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Policy or a person said no; nothing was sent.
    #[error("tool `{tool}` may not be called: {reason}")]
    Denied {
        /// The tool.
        tool: String,
        /// Who says so and why.
        reason: String,
    },
    /// Too many calls at once or in a period; nothing was sent.
    #[error("tool `{tool}` is busy; try again after {retry_after:?}")]
    Busy {
        /// The tool.
        tool: String,
        /// When there may be room.
        retry_after: Duration,
    },
    /// No answer came in time.
    #[error("tool `{tool}` did not answer within {after:?}")]
    Timeout {
        /// The tool.
        tool: String,
        /// The time that was given.
        after: Duration,
        /// Whether the call had been sent.
        sent: bool,
    },
    /// The other side cannot be reached, or went away.
    #[error("tool `{tool}` is not available: {problem}")]
    Unavailable {
        /// The tool or its source.
        tool: String,
        /// What happened.
        problem: String,
        /// Whether the call had been sent.
        sent: bool,
        /// What was caught below.
        #[source]
        source: Option<Cause>,
    },
    /// A bound was passed, such as the size of an answer or the number of calls.
    #[error("tool `{tool}`: {problem}")]
    Limit {
        /// The tool.
        tool: String,
        /// Which limit, and by how much.
        problem: String,
        /// Whether the call had been sent.
        sent: bool,
    },
    /// The call was given up.
    #[error("the call of tool `{tool}` was cancelled")]
    Cancelled {
        /// The tool.
        tool: String,
        /// Whether the call had been sent.
        sent: bool,
    },
    /// The other side refused the call, or said something that is no answer.
    #[error("the call of tool `{tool}` failed: {problem}")]
    Failed {
        /// The tool or its source.
        tool: String,
        /// What happened.
        problem: String,
        /// What was caught below.
        #[source]
        source: Option<Cause>,
    },
}

fn at(field: &str) -> String {
    if field.is_empty() {
        return String::new();
    }
    format!("`{field}`: ")
}

impl ToolError {
    /// A call that policy does not allow.
    pub fn denied(tool: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Denied {
            tool: tool.into(),
            reason: reason.into(),
        }
    }

    /// A call that failed in a way that has no name of its own.
    pub fn failed(tool: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Failed {
            tool: tool.into(),
            problem: problem.into(),
            source: None,
        }
    }

    /// Arguments that are not valid at `field`, a JSON Pointer.
    pub fn invalid(
        tool: impl Into<String>,
        field: impl Into<String>,
        problem: impl Into<String>,
    ) -> Self {
        Self::InvalidArguments {
            tool: tool.into(),
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// Whether the call went out and no answer came: the tool may have acted.
    #[must_use]
    pub const fn sent_unanswered(&self) -> bool {
        match self {
            Self::Timeout { sent, .. }
            | Self::Unavailable { sent, .. }
            | Self::Limit { sent, .. }
            | Self::Cancelled { sent, .. } => *sent,
            _ => false,
        }
    }

    /// Whether the model can do better when it reads this: it called what is not there, or with wrong arguments.
    #[must_use]
    pub const fn is_models_mistake(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. } | Self::InvalidArguments { .. } | Self::Denied { .. }
        )
    }

    /// Whether to make the same call again, for a tool with this effect. A call whose outcome is unknown is not to be
    /// made again where twice is once too often.
    #[must_use]
    pub const fn retry(&self, effect: Effect) -> RetryAdvice {
        if self.sent_unanswered() && !effect.may_repeat() {
            return RetryAdvice::Never;
        }
        match self {
            Self::Busy { retry_after, .. } => RetryAdvice::After(*retry_after),
            Self::Timeout { .. } | Self::Unavailable { .. } => RetryAdvice::After(RETRY_AFTER),
            _ => RetryAdvice::Never,
        }
    }

    /// The stable name of this failure, for a tool with this effect.
    #[must_use]
    pub const fn kind(&self, effect: Effect) -> &'static str {
        if self.sent_unanswered() && !effect.may_repeat() {
            return EFFECT_INDETERMINATE;
        }
        match self {
            Self::NotFound { .. } | Self::Unavailable { .. } => "tool_unavailable",
            Self::InvalidArguments { .. } => "invalid_arguments",
            Self::Denied { .. } => "tool_denied",
            Self::Busy { .. } => "tool_busy",
            Self::Timeout { .. } => "tool_timeout",
            Self::Limit { .. } => "tool_limit",
            Self::Cancelled { .. } => "tool_cancelled",
            Self::Failed { .. } => "tool_failed",
        }
    }

    /// The failure as an agent sees it, of a tool with this effect.
    #[must_use]
    pub fn into_agent_error(self, effect: Effect) -> AgentError {
        let kind = self.kind(effect);
        let info = match self.retry(effect) {
            RetryAdvice::Never => ErrorInfo::permanent(kind, chain(&self)),
            RetryAdvice::After(_) => ErrorInfo::retriable(kind, chain(&self)),
        };
        AgentError::from(info.with_details(self.details(effect)))
    }

    fn details(&self, effect: Effect) -> Value {
        let mut details = json!({ "sent": self.sent_unanswered(), "effect": effect });
        if let Self::InvalidArguments { field, .. } = self {
            details["field"] = json!(field);
        }
        if let RetryAdvice::After(after) = self.retry(effect) {
            details["retry_after_ms"] = json!(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        }
        details
    }
}

/// When to try again what failed without saying when.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error with everything below it, for messages that leave the program.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(sent: bool) -> ToolError {
        ToolError::Timeout {
            tool: "pay".into(),
            after: Duration::from_secs(5),
            sent,
        }
    }

    #[test]
    fn a_sent_call_of_an_unsafe_tool_is_indeterminate_and_not_retried() {
        let error = timeout(true).into_agent_error(Effect::Unsafe).into_info();
        assert!(error.is_indeterminate());
        assert!(!error.retriable);
    }

    #[test]
    fn a_call_that_may_be_repeated_or_was_not_sent_is_retriable() {
        for (sent, effect) in [(true, Effect::Keyed), (false, Effect::Unsafe)] {
            let error = timeout(sent).into_agent_error(effect).into_info();
            assert_eq!(
                (error.kind.as_str(), error.retriable),
                ("tool_timeout", true)
            );
        }
    }

    #[test]
    fn invalid_arguments_name_the_field() {
        let error = ToolError::invalid("pay", "/to/iban", "is required");
        assert_eq!(
            error.to_string(),
            "the arguments of tool `pay` are not valid: `/to/iban`: is required"
        );
        let info = error.into_agent_error(Effect::Unsafe).into_info();
        assert!(info.details.as_str().contains("/to/iban"));
    }
}
