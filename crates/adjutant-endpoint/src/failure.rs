//! Why a call has no answer, in the words of each provider.

use std::time::Duration;

use adjutant_core::{AgentError, ErrorInfo};
use serde_json::{Value, json};

/// What became of a call that has no answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The HTTP status.
    pub status: u16,
    /// Our own stable word for it.
    pub code: String,
    pub message: String,
    /// Whether the client's own retries can help. They never do where the runtime has recorded the failure for good.
    pub retry: bool,
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            retry: false,
            retry_after: None,
        }
    }

    /// A request that asks for what cannot be had.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request", message)
    }

    /// A token that is not or no longer good.
    pub fn unauthorized() -> Self {
        let message = "this token is unknown, or the attempt that it was made for has ended";
        Self::new(401, "invalid_api_key", message)
    }

    /// The error as OpenAI tells it.
    pub fn openai(&self) -> Value {
        let kind = match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            409 => "conflict_error",
            429 if self.is_budget() => "insufficient_quota",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({ "error": {
            "message": self.message, "type": kind, "param": null, "code": self.openai_code(),
        } })
    }

    /// OpenAI's own code where programs look for it, else ours.
    fn openai_code(&self) -> &str {
        match self.code.as_str() {
            "budget_exceeded" => "insufficient_quota",
            "model_context_too_long" => "context_length_exceeded",
            "model_content_filtered" => "content_filter",
            "model_unknown" | "model_unavailable" => "model_not_found",
            "model_rate_limited" => "rate_limit_exceeded",
            code => code,
        }
    }

    /// The error as Anthropic tells it.
    pub fn anthropic(&self) -> Value {
        let kind = match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 | 529 => "overloaded_error",
            504 => "timeout_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        let message = format!("{}: {}", self.code, self.message);
        json!({ "type": "error", "error": { "type": kind, "message": message } })
    }

    fn is_budget(&self) -> bool {
        self.code == "budget_exceeded"
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        let info = error.into_info();
        let retry_after = retry_after(&info);
        Self {
            status: status(&info),
            retry: info.retriable,
            retry_after: retry_after.filter(|_| info.retriable),
            code: info.kind,
            message: info.message,
        }
    }
}

fn retry_after(info: &ErrorInfo) -> Option<Duration> {
    let details: Value = info.details.to().ok()?;
    details["retry_after_ms"]
        .as_u64()
        .map(Duration::from_millis)
}

/// The status by which a client's library knows what kind of failure it is.
fn status(info: &ErrorInfo) -> u16 {
    match info.kind.as_str() {
        "budget_exceeded" | "model_rate_limited" | "model_quota_exhausted" => 429,
        "cancelled" | "lease_lost" | "model_cancelled" => 409,
        // It is the runtime's key that is wrong, not the client's token.
        "model_auth" | "model_missing_key" | "tool_denied" => 403,
        "model_unknown" | "model_unavailable" => 404,
        "model_invalid_request" | "model_context_too_long" | "model_content_filtered" => 400,
        "model_too_large" => 413,
        "model_overloaded" => 503,
        "model_timeout" => 504,
        "model_network" | "model_server" | "model_malformed" => 502,
        _ if info.retriable => 500,
        _ => 400,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_is_a_quota_that_no_retry_helps() {
        let failure = Failure::from(AgentError::permanent("budget_exceeded", "5 of 5 dollars"));
        assert_eq!((failure.status, failure.retry), (429, false));
        assert_eq!(failure.openai()["error"]["type"], "insufficient_quota");
        let told = failure.anthropic()["error"]["message"].to_string();
        assert!(
            told.contains("budget_exceeded") && told.contains("5 of 5"),
            "{told}"
        );
    }

    #[test]
    fn a_busy_provider_says_when_to_come_back() {
        let info = ErrorInfo::retriable("model_rate_limited", "slow down")
            .with_details(json!({ "retry_after_ms": 1500 }));
        let failure = Failure::from(AgentError::from(info));
        assert_eq!((failure.status, failure.retry), (429, true));
        assert_eq!(failure.retry_after, Some(Duration::from_millis(1500)));
        assert_eq!(failure.openai()["error"]["code"], "rate_limit_exceeded");
    }

    #[test]
    fn what_is_cancelled_is_not_tried_again_by_a_library() {
        let failure = Failure::from(AgentError::permanent("cancelled", "by a person"));
        assert_eq!((failure.status, failure.retry), (409, false));
    }
}
