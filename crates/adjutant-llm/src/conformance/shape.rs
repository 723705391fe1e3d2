//! An answer in the form of each provider, as server-sent events.

mod anthropic;
mod gemini;
mod openai;
mod responses;

use adjutant_core::{FinishReason, TokenUsage};
use serde_json::{Value, json};

use crate::Wire;

/// What a provider answers, before it has any form.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Thoughts with their signature, in the forms that have them.
    pub thoughts: Option<(String, String)>,
    /// The text in its pieces.
    pub text: Vec<String>,
    /// The tools that are asked for.
    pub calls: Vec<Call>,
    /// What it took.
    pub usage: TokenUsage,
    /// Why it stopped.
    pub stop: FinishReason,
}

/// A tool that is asked for.
#[derive(Debug, Clone)]
pub struct Call {
    /// Pairs the call with its answer.
    pub id: String,
    /// The tool.
    pub name: String,
    /// What it gets.
    pub arguments: Value,
}

impl Answer {
    /// A text in these pieces.
    #[must_use]
    pub fn text(pieces: &[&str]) -> Self {
        Self {
            thoughts: None,
            text: pieces.iter().map(ToString::to_string).collect(),
            calls: Vec::new(),
            usage: TokenUsage {
                input_tokens: 20,
                output_tokens: 7,
                ..TokenUsage::default()
            },
            stop: FinishReason::Stop,
        }
    }

    /// These tools.
    #[must_use]
    pub fn calls(calls: &[(&str, &str, Value)]) -> Self {
        let calls = calls.iter().map(|(id, name, arguments)| Call {
            id: (*id).to_owned(),
            name: (*name).to_owned(),
            arguments: arguments.clone(),
        });
        Self {
            calls: calls.collect(),
            stop: FinishReason::ToolCalls,
            ..Self::text(&[])
        }
    }
}

/// An answer as events: `body` and then `end`, without which it is not whole.
pub(super) struct Events {
    pub body: Vec<String>,
    pub end: Vec<String>,
}

pub(super) fn events(wire: Wire, answer: &Answer) -> Events {
    match wire {
        Wire::Openai => openai::events(answer),
        Wire::OpenaiResponses => responses::events(answer),
        Wire::Anthropic => anthropic::events(answer),
        Wire::Gemini => gemini::events(answer),
    }
}

/// An error within a stream.
pub(super) fn error_event(wire: Wire) -> String {
    match wire {
        Wire::Openai => data(&json!({"error": {"message": "went wrong", "type": "server_error"}})),
        Wire::OpenaiResponses => data(&json!({
            "type": "response.failed", "sequence_number": 9,
            "response": {"id": "resp_1", "object": "response", "created_at": 1, "status": "failed", "model": "m-1",
                "output": [], "error": {"code": "server_error", "message": "went wrong"}}
        })),
        Wire::Anthropic => named(
            "error",
            &json!({"type": "error", "error": {"type": "overloaded_error", "message": "went wrong"}}),
        ),
        Wire::Gemini => {
            data(&json!({"error": {"code": 503, "message": "went wrong", "status": "UNAVAILABLE"}}))
        }
    }
}

/// An error instead of an answer, as each provider words it.
pub(super) fn error_body(wire: Wire, status: u16) -> Value {
    let message = match status {
        400 => "This model's maximum context length is 10 tokens; your prompt is too long",
        _ => "no",
    };
    match wire {
        Wire::Openai | Wire::OpenaiResponses => {
            let (kind, code) = match status {
                400 => ("invalid_request_error", "context_length_exceeded"),
                401 => ("invalid_request_error", "invalid_api_key"),
                429 => ("requests", "rate_limit_exceeded"),
                _ => ("server_error", "internal_error"),
            };
            json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
        }
        Wire::Anthropic => {
            let kind = match status {
                400 => "invalid_request_error",
                401 => "authentication_error",
                429 => "rate_limit_error",
                _ => "api_error",
            };
            json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
        }
        Wire::Gemini => {
            let name = match status {
                400 => "INVALID_ARGUMENT",
                401 => "UNAUTHENTICATED",
                429 => "RESOURCE_EXHAUSTED",
                _ => "INTERNAL",
            };
            let message = if status == 400 {
                "The input token count (20) exceeds the maximum number of tokens allowed (10)."
            } else {
                message
            };
            json!({"error": {"code": status, "message": message, "status": name}})
        }
    }
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn named(event: &str, value: &Value) -> String {
    format!("event: {event}\ndata: {value}\n\n")
}

/// JSON text in two pieces.
fn halves(value: &Value) -> [String; 2] {
    let text = value.to_string();
    let (a, b) = text.split_at(text.len() / 2);
    [a.to_owned(), b.to_owned()]
}
