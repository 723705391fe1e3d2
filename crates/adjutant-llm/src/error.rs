//! Why a model gave no answer, and what to do about it.

use std::{fmt, time::Duration};

use adjutant_core::{AgentError, ErrorInfo, RetryAdvice};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

/// The result of a model call.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;

/// How long to wait before another try when the provider does not say.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

/// What went wrong, in words that are the same for all providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ModelErrorKind {
    /// The key is wrong or may not use this model.
    Auth,
    /// No key is configured.
    MissingKey,
    /// Too many requests or tokens in too little time.
    RateLimited,
    /// The account has no credit or has reached its spending limit.
    QuotaExhausted,
    /// The provider, or our own queue for it, has no room at present.
    Overloaded,
    /// No answer in time.
    Timeout,
    /// The request is not acceptable.
    InvalidRequest,
    /// The conversation does not fit into the model.
    ContextTooLong,
    /// The provider would not answer this.
    ContentFiltered,
    /// The connection failed or broke.
    Network,
    /// The provider failed.
    Server,
    /// The call was cancelled.
    Cancelled,
    /// There is no such provider or model.
    UnknownModel,
    /// The answer cannot be understood, or ended before its end.
    Malformed,
    /// The answer is over [`crate::MAX_RESPONSE_BYTES`].
    TooLarge,
}

impl ModelErrorKind {
    /// The stable text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::MissingKey => "missing_key",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::InvalidRequest => "invalid_request",
            Self::ContextTooLong => "context_too_long",
            Self::ContentFiltered => "content_filtered",
            Self::Network => "network",
            Self::Server => "server",
            Self::Cancelled => "cancelled",
            Self::UnknownModel => "unknown_model",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
        }
    }

    /// The kind of an agent's failure that came from this: `model_rate_limited` and so on.
    #[must_use]
    pub const fn failure_kind(self) -> &'static str {
        match self {
            Self::Auth => "model_auth",
            Self::MissingKey => "model_missing_key",
            Self::RateLimited => "model_rate_limited",
            Self::QuotaExhausted => "model_quota_exhausted",
            Self::Overloaded => "model_overloaded",
            Self::Timeout => "model_timeout",
            Self::InvalidRequest => "model_invalid_request",
            Self::ContextTooLong => "model_context_too_long",
            Self::ContentFiltered => "model_content_filtered",
            Self::Network => "model_network",
            Self::Server => "model_server",
            Self::Cancelled => "model_cancelled",
            Self::UnknownModel => "model_unknown",
            Self::Malformed => "model_malformed",
            Self::TooLarge => "model_too_large",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Overloaded
                | Self::Timeout
                | Self::Network
                | Self::Server
                | Self::Malformed
        )
    }
}

impl fmt::Display for ModelErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a model gave no answer.
///
/// Like [`AgentError`] this is no [`std::error::Error`], so that `?` in an agent keeps kind and advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelError {
    /// What went wrong.
    pub kind: ModelErrorKind,
    /// What happened and what would help, for a person. Never holds a key.
    pub message: String,
    /// Whom it was asked of: `provider/model`, as far as known.
    pub model: String,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// When to try again, where the provider said so.
    pub retry_after: Option<Duration>,
    /// Whether the provider may have counted the call, though nothing came of it.
    pub may_be_charged: bool,
    /// Whether a piece of the failed answer was shown already; then nobody below the caller tries again.
    pub shown: bool,
}

impl ModelError {
    /// An error of this kind.
    #[must_use]
    pub fn new(kind: ModelErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            model: String::new(),
            status: None,
            retry_after: None,
            may_be_charged: false,
            shown: false,
        }
    }

    /// The same error, told of this model; a name that is there already stays.
    #[must_use]
    pub fn of(mut self, model: impl Into<String>) -> Self {
        if self.model.is_empty() {
            self.model = model.into();
        }
        self
    }

    /// The same error of a call that the provider may have counted.
    #[must_use]
    pub fn charged(self) -> Self {
        Self {
            may_be_charged: true,
            ..self
        }
    }

    /// The same error with the time at which the provider wants to be asked again.
    #[must_use]
    pub fn retry_after(self, after: Option<Duration>) -> Self {
        Self {
            retry_after: after,
            ..self
        }
    }

    /// Whether to ask the same model again, and when at the earliest.
    #[must_use]
    pub fn retry(&self) -> RetryAdvice {
        if self.kind.is_transient() {
            RetryAdvice::After(self.retry_after.unwrap_or(DEFAULT_RETRY))
        } else {
            RetryAdvice::Never
        }
    }

    /// Whether another model may answer what this one could not: the trouble lies with the provider and not with the
    /// request, and nothing was shown.
    #[must_use]
    pub const fn allows_fallback(&self) -> bool {
        !self.shown
            && (self.kind.is_transient() || matches!(self.kind, ModelErrorKind::QuotaExhausted))
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.model.is_empty() {
            write!(f, "{}: ", self.model)?;
        }
        write!(f, "{}", self.message)
    }
}

impl From<ModelError> for ErrorInfo {
    fn from(error: ModelError) -> Self {
        let mut details = Map::new();
        details.insert("kind".into(), json!(error.kind));
        details.insert("may_be_charged".into(), json!(error.may_be_charged));
        if let Some(status) = error.status {
            details.insert("status".into(), json!(status));
        }
        if let Some(after) = error.retry_after {
            let milliseconds = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            details.insert("retry_after_ms".into(), json!(milliseconds));
        }
        if !error.model.is_empty() {
            details.insert("model".into(), json!(error.model));
        }
        let kind = error.kind.failure_kind();
        let info = match error.retry() {
            RetryAdvice::Never => Self::permanent(kind, error.to_string()),
            RetryAdvice::After(_) => Self::retriable(kind, error.to_string()),
        };
        info.with_details(serde_json::Value::Object(details))
    }
}

impl From<ModelError> for AgentError {
    fn from(error: ModelError) -> Self {
        // `ErrorInfo` is an error that this conversion takes over as it is.
        Self::from(ErrorInfo::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_failure_keeps_kind_advice_and_time() {
        let error = ModelError::new(ModelErrorKind::RateLimited, "slow down")
            .of("openai/gpt-4.1")
            .retry_after(Some(Duration::from_secs(7)));
        let info = AgentError::from(error).into_info();
        assert_eq!(info.kind, "model_rate_limited");
        assert!(info.retriable);
        assert_eq!(info.message, "openai/gpt-4.1: slow down");
        let details: serde_json::Value = info.details.to().unwrap();
        assert_eq!(details["retry_after_ms"], 7000);
        assert_eq!(details["kind"], "rate_limited");
    }

    #[test]
    fn what_the_request_is_to_blame_for_is_not_tried_again_anywhere() {
        for kind in [
            ModelErrorKind::Auth,
            ModelErrorKind::MissingKey,
            ModelErrorKind::InvalidRequest,
            ModelErrorKind::ContextTooLong,
            ModelErrorKind::ContentFiltered,
            ModelErrorKind::UnknownModel,
            ModelErrorKind::TooLarge,
            ModelErrorKind::Cancelled,
        ] {
            let error = ModelError::new(kind, "no");
            assert_eq!(error.retry(), RetryAdvice::Never, "{kind}");
            assert!(!error.allows_fallback(), "{kind}");
        }
    }

    #[test]
    fn after_a_piece_was_shown_no_other_model_answers() {
        let mut error = ModelError::new(ModelErrorKind::Network, "broken");
        assert!(error.allows_fallback());
        error.shown = true;
        assert!(!error.allows_fallback());
    }
}
