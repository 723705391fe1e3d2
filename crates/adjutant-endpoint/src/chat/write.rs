//! Answers of chat completions.

use adjutant_core::{ModelResponse, TokenUsage};
use serde_json::{Map, Value, json};

use crate::{
    failure::Failure,
    pieces::{Piece, arguments_text, reasoning_of},
    wire::{Frame, Stamp, Writer},
};

/// Writes an answer as chat completions have it.
pub struct ChatWriter {
    stamp: Stamp,
    include_usage: bool,
}

impl ChatWriter {
    pub fn new(stamp: Stamp, include_usage: bool) -> Self {
        Self {
            stamp,
            include_usage,
        }
    }

    fn object(&self, kind: &str, choices: &Value) -> Value {
        json!({
            "id": format!("chatcmpl-{}", self.stamp.id),
            "object": kind,
            "created": self.stamp.created,
            "model": self.stamp.model,
            "choices": choices,
        })
    }

    fn chunk(&self, delta: &Value, finish_reason: Option<&str>) -> Frame {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish_reason });
        let mut chunk = self.object("chat.completion.chunk", &json!([choice]));
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        Frame::plain(&chunk)
    }
}

impl Writer for ChatWriter {
    fn whole(&self, response: &ModelResponse) -> Value {
        let choice = json!({
            "index": 0,
            "message": message(response),
            "logprobs": null,
            "finish_reason": finish_reason(response),
        });
        let mut whole = self.object("chat.completion", &json!([choice]));
        whole["usage"] = usage(&response.usage);
        whole
    }

    fn begin(&mut self) -> Vec<Frame> {
        vec![self.chunk(&json!({ "role": "assistant", "content": "" }), None)]
    }

    fn piece(&mut self, piece: Piece) -> Vec<Frame> {
        let delta = match piece {
            Piece::Text(text) => json!({ "content": text }),
            // The word of the compatible servers that show reasoning.
            Piece::Reasoning(text) => json!({ "reasoning_content": text }),
            Piece::Call { index, id, name } => json!({ "tool_calls": [{
                "index": index, "id": id, "type": "function",
                "function": { "name": name, "arguments": "" },
            }] }),
            Piece::Arguments { index, text } => json!({ "tool_calls": [{
                "index": index, "function": { "arguments": text },
            }] }),
        };
        vec![self.chunk(&delta, None)]
    }

    fn end(&mut self, response: &ModelResponse) -> Vec<Frame> {
        let mut frames = vec![self.chunk(&json!({}), Some(finish_reason(response)))];
        if self.include_usage {
            let mut last = self.object("chat.completion.chunk", &json!([]));
            last["usage"] = usage(&response.usage);
            frames.push(Frame::plain(&last));
        }
        frames.push(Frame {
            event: None,
            data: "[DONE]".to_owned(),
        });
        frames
    }

    fn fail(&mut self, failure: &Failure) -> Vec<Frame> {
        vec![Frame::plain(&failure.openai())]
    }
}

fn message(response: &ModelResponse) -> Value {
    let text = response.message.text();
    let mut message = Map::new();
    message.insert("role".into(), json!("assistant"));
    let calls = &response.message.tool_calls;
    let silent = text.is_empty() && !calls.is_empty();
    message.insert(
        "content".into(),
        if silent { Value::Null } else { json!(text) },
    );
    message.insert("refusal".into(), Value::Null);
    if let Some(reasoning) = reasoning_of(&response.message) {
        message.insert("reasoning_content".into(), json!(reasoning));
    }
    if !calls.is_empty() {
        let call = |call: &adjutant_core::ToolCall| {
            json!({ "id": call.id, "type": "function", "function": {
                "name": call.name, "arguments": arguments_text(&call.arguments),
            } })
        };
        message.insert("tool_calls".into(), calls.iter().map(call).collect());
    }
    Value::Object(message)
}

/// Of an answer with calls this is `tool_calls`, whatever the provider called it: clients go by it.
fn finish_reason(response: &ModelResponse) -> &'static str {
    use adjutant_core::FinishReason::{ContentFilter, Length, Other, Stop, ToolCalls};
    match response.finish_reason {
        Length => "length",
        ContentFilter => "content_filter",
        ToolCalls => "tool_calls",
        Stop | Other if !response.message.tool_calls.is_empty() => "tool_calls",
        Stop | Other => "stop",
    }
}

fn usage(usage: &TokenUsage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": { "cached_tokens": usage.cache_read_tokens.unwrap_or(0) },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning_tokens.unwrap_or(0) },
    })
}
