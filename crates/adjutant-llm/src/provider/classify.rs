//! From the library's errors to kinds that are the same for all providers.

use std::time::SystemTime;

use genai::{Error as Foreign, webc};
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::{retry_after, watch::Watch};
use crate::{ModelError, ModelErrorKind as Kind};

/// Longest text of a provider that is repeated in an error.
const MAX_MESSAGE: usize = 500;

/// What an error of the library means.
pub(super) fn error(error: &Foreign, watch: &Watch) -> ModelError {
    // A failure that a frame told is better known than what the library made of it.
    if let Some(failure) = failure(watch) {
        return failure;
    }
    let begun = watch.has_begun();
    match error {
        Foreign::HttpError {
            status,
            body,
            headers,
            ..
        } => from_status(status.as_u16(), body, headers),
        Foreign::WebStream { error, .. } => match error.downcast_ref::<Foreign>() {
            Some(inner) => self::error(inner, watch),
            None => transport(error.downcast_ref::<reqwest::Error>(), &error, begun),
        },
        Foreign::WebModelCall { webc_error, .. } | Foreign::WebAdapterCall { webc_error, .. } => {
            web(webc_error, begun)
        }
        Foreign::ChatResponse { body, .. } => from_provider(None, body, None).charged(),
        Foreign::StreamParse { serde_error, .. } => {
            let message = format!("the answer cannot be understood: {serde_error}");
            ModelError::new(Kind::Malformed, message).charged()
        }
        Foreign::ChatResponseGeneration { .. }
        | Foreign::NoChatResponse { .. }
        | Foreign::InvalidJsonResponseElement { .. } => {
            ModelError::new(Kind::Malformed, cut(&error.to_string())).charged()
        }
        // The rest is found before anything is sent.
        other if begun => ModelError::new(Kind::Malformed, cut(&other.to_string())).charged(),
        other => ModelError::new(Kind::InvalidRequest, cut(&other.to_string())),
    }
}

/// A failure that the provider told within its answer and the library passed over.
pub(super) fn failure(watch: &Watch) -> Option<ModelError> {
    let failure = watch.failure()?;
    Some(from_provider(None, &failure, None).charged())
}

fn web(error: &webc::Error, begun: bool) -> ModelError {
    match error {
        webc::Error::ResponseFailedStatus {
            status,
            body,
            headers,
        } => from_status(status.as_u16(), body, headers),
        webc::Error::Reqwest(error) => transport(Some(error), error, begun),
        other => ModelError::new(Kind::Malformed, cut(&other.to_string())).charged(),
    }
}

/// A connection that was not made, or broke.
fn transport(
    error: Option<&reqwest::Error>,
    shown: &dyn std::fmt::Display,
    begun: bool,
) -> ModelError {
    let Some(error) = error else {
        return ModelError::new(Kind::Malformed, cut(&shown.to_string())).charged();
    };
    if error.is_builder() || error.is_request() && error.url().is_none() {
        return ModelError::new(Kind::InvalidRequest, chain(error));
    }
    let connecting = error.is_connect();
    let kind = if error.is_timeout() {
        Kind::Timeout
    } else {
        Kind::Network
    };
    let what = match (connecting, begun) {
        (true, _) => "no connection to the provider",
        (false, false) => "the connection broke before the answer began",
        (false, true) => "the connection broke within the answer",
    };
    let mut told = ModelError::new(kind, format!("{what}: {}", chain(error)));
    told.may_be_charged = !connecting;
    told
}

/// The innermost cause is the one that helps; addresses are left out, since they may hold keys.
fn chain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if std::ptr::addr_eq(cause, error) {
        return "the request failed".to_owned();
    }
    cut(&cause.to_string())
}

fn from_status(status: u16, body: &str, headers: &HeaderMap) -> ModelError {
    let value = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
    let after = retry_after::from_headers(headers, SystemTime::now());
    from_provider(Some(status), &value, after)
}

/// What a provider said itself, by status or within its answer.
fn from_provider(
    status: Option<u16>,
    body: &Value,
    after: Option<std::time::Duration>,
) -> ModelError {
    // Google wraps errors of streams into a list.
    let body = body.get(0).unwrap_or(body);
    let error = match body.get("error") {
        Some(error) if !error.is_null() => error,
        _ => body,
    };
    let message = error["message"]
        .as_str()
        .or_else(|| error.as_str())
        .map_or_else(|| cut(&error.to_string()), cut);
    let tags = tags(error);
    let kind = by_tag(&tags, &message.to_lowercase())
        .or_else(|| status.and_then(by_status))
        .unwrap_or(Kind::Server);
    let message = match status {
        Some(status) if message.is_empty() => format!("HTTP status {status}"),
        Some(status) => format!("{message} (HTTP status {status})"),
        None if message.is_empty() => "the provider failed".to_owned(),
        None => message,
    };
    let after = after.or_else(|| retry_after::from_body(error));
    let mut told = ModelError::new(kind, message).retry_after(after);
    told.status = status;
    told
}

/// The short names with which providers say what it was, in lower case.
fn tags(error: &Value) -> Vec<String> {
    let names = ["type", "code", "status"].map(|key| error[key].as_str());
    let details = error["details"].as_array().into_iter().flatten();
    let reasons = details.map(|detail| detail["reason"].as_str());
    let tags = names.into_iter().chain(reasons).flatten();
    tags.map(str::to_lowercase).collect()
}

fn by_tag(tags: &[String], message: &str) -> Option<Kind> {
    let tagged = |names: &[&str]| tags.iter().any(|tag| names.contains(&tag.as_str()));
    let said = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    let rules: [(Kind, bool); 11] = [
        (
            Kind::QuotaExhausted,
            tagged(&[
                "insufficient_quota",
                "billing_error",
                "billing_hard_limit_reached",
            ]) || said(&["credit balance is too low"]),
        ),
        (
            Kind::ContextTooLong,
            tagged(&["context_length_exceeded", "exceed_context_size_error"])
                || said(&[
                    "maximum context length",
                    "prompt is too long",
                    "exceeds the maximum number of tokens",
                    "exceeds the available context size",
                ]),
        ),
        (
            Kind::Auth,
            tagged(&[
                "authentication_error",
                "permission_error",
                "invalid_api_key",
                "api_key_invalid",
                "unauthenticated",
                "permission_denied",
            ]) || said(&["api key not valid"]),
        ),
        (
            Kind::ContentFiltered,
            tagged(&[
                "content_filter",
                "content_policy_violation",
                "prompt_blocked",
            ]),
        ),
        (
            Kind::RateLimited,
            tagged(&[
                "rate_limit_error",
                "rate_limit_exceeded",
                "resource_exhausted",
                "too_many_requests",
                "tokens",
                "requests",
            ]),
        ),
        (
            Kind::Overloaded,
            tagged(&[
                "overloaded_error",
                "overloaded",
                "unavailable",
                "server_overloaded",
            ]),
        ),
        (
            Kind::UnknownModel,
            tagged(&["model_not_found", "not_found_error", "not_found"]),
        ),
        (
            Kind::Timeout,
            tagged(&["timeout_error", "deadline_exceeded"]),
        ),
        (Kind::Cancelled, tagged(&["cancelled"])),
        (
            Kind::Server,
            tagged(&["api_error", "server_error", "internal", "internal_error"]),
        ),
        (
            Kind::InvalidRequest,
            tagged(&[
                "invalid_request_error",
                "invalid_argument",
                "failed_precondition",
                "request_too_large",
            ]),
        ),
    ];
    rules
        .into_iter()
        .find(|(_, applies)| *applies)
        .map(|(kind, _)| kind)
}

const fn by_status(status: u16) -> Option<Kind> {
    Some(match status {
        401 | 403 => Kind::Auth,
        402 => Kind::QuotaExhausted,
        404 => Kind::UnknownModel,
        408 => Kind::Timeout,
        429 => Kind::RateLimited,
        503 | 529 => Kind::Overloaded,
        500..=599 => Kind::Server,
        300..=499 => Kind::InvalidRequest,
        _ => return None,
    })
}

fn cut(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_providers_say_has_the_same_kinds() {
        let cases = [
            (
                429,
                json!({"error": {"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}}),
                Kind::QuotaExhausted,
            ),
            (
                429,
                json!({"error": {"message": "m", "type": "tokens", "code": "rate_limit_exceeded"}}),
                Kind::RateLimited,
            ),
            (
                401,
                json!({"error": {"message": "m", "type": "invalid_request_error", "code": "invalid_api_key"}}),
                Kind::Auth,
            ),
            (
                400,
                json!({"error": {"message": "m", "type": "invalid_request_error", "code": "context_length_exceeded"}}),
                Kind::ContextTooLong,
            ),
            (
                404,
                json!({"error": {"message": "m", "type": "invalid_request_error", "code": "model_not_found"}}),
                Kind::UnknownModel,
            ),
            (
                400,
                json!({"error": {"message": "m", "type": "invalid_request_error"}}),
                Kind::InvalidRequest,
            ),
            (
                400,
                json!({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 250000 tokens > 200000 maximum"}}),
                Kind::ContextTooLong,
            ),
            (
                529,
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
                Kind::Overloaded,
            ),
            (
                403,
                json!({"type": "error", "error": {"type": "permission_error", "message": "no"}}),
                Kind::Auth,
            ),
            (
                400,
                json!({"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access the Anthropic API."}}),
                Kind::QuotaExhausted,
            ),
            (
                400,
                json!({"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}}),
                Kind::Auth,
            ),
            (
                429,
                json!([{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}]),
                Kind::RateLimited,
            ),
            (
                503,
                json!({"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}),
                Kind::Overloaded,
            ),
            (
                500,
                json!({"error": {"code": 500, "message": "m", "status": "INTERNAL"}}),
                Kind::Server,
            ),
            (502, json!("<html>bad gateway</html>"), Kind::Server),
            (307, json!(""), Kind::InvalidRequest),
            (404, json!("404 page not found"), Kind::UnknownModel),
        ];
        for (status, body, kind) in cases {
            let error = from_provider(Some(status), &body, None);
            assert_eq!(error.kind, kind, "{status} {body}");
            assert!(!error.may_be_charged);
        }
    }

    #[test]
    fn a_long_page_is_not_repeated_in_full() {
        let body = Value::String("x".repeat(100_000));
        let error = from_provider(Some(500), &body, None);
        assert!(error.message.len() < 600);
    }
}
