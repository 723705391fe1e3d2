//! Answers of messages.

use adjutant_core::{FinishReason, ModelResponse, TokenUsage};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    pieces::{Piece, reasoning_of},
    thinking::to_opaque,
    wire::{Frame, Stamp, Writer},
};

/// Writes an answer as messages have it.
pub struct MessagesWriter {
    stamp: Stamp,
    /// The block that is being written.
    open: Option<Open>,
    /// Blocks begun so far.
    blocks: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Tool,
}

impl MessagesWriter {
    pub fn new(stamp: Stamp) -> Self {
        Self {
            stamp,
            open: None,
            blocks: 0,
        }
    }

    fn message(&self, content: &Value, stop_reason: Option<&str>, usage: &Value) -> Value {
        json!({
            "id": format!("msg_{}", self.stamp.id),
            "type": "message",
            "role": "assistant",
            "model": self.stamp.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": null,
            "usage": usage,
        })
    }

    /// Begins a block, unless one of this kind is open that can take more.
    fn block(&mut self, kind: Open, block: &Value) -> Vec<Frame> {
        if self.open == Some(kind) && kind != Open::Tool {
            return Vec::new();
        }
        let mut frames = self.close();
        let start = json!({
            "type": "content_block_start", "index": self.blocks, "content_block": block,
        });
        frames.push(Frame::typed(&start));
        self.open = Some(kind);
        self.blocks += 1;
        frames
    }

    fn close(&mut self) -> Vec<Frame> {
        if self.open.take().is_none() {
            return Vec::new();
        }
        let stop = json!({ "type": "content_block_stop", "index": self.blocks - 1 });
        vec![Frame::typed(&stop)]
    }

    fn delta(&self, delta: &Value) -> Frame {
        let index = self.blocks.saturating_sub(1);
        let delta = json!({ "type": "content_block_delta", "index": index, "delta": delta });
        Frame::typed(&delta)
    }
}

impl Writer for MessagesWriter {
    fn whole(&self, response: &ModelResponse) -> Value {
        let content = content(response);
        self.message(
            &content,
            Some(stop_reason(response)),
            &usage(&response.usage),
        )
    }

    fn begin(&mut self) -> Vec<Frame> {
        // Figures are known at the end only; there they count.
        let message = self.message(&json!([]), None, &usage(&TokenUsage::default()));
        vec![Frame::typed(
            &json!({ "type": "message_start", "message": message }),
        )]
    }

    fn piece(&mut self, piece: Piece) -> Vec<Frame> {
        let (mut frames, delta) = match piece {
            Piece::Text(text) => (
                self.block(Open::Text, &json!({ "type": "text", "text": "" })),
                json!({ "type": "text_delta", "text": text }),
            ),
            Piece::Reasoning(text) => {
                let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
                (
                    self.block(Open::Thinking, &block),
                    json!({ "type": "thinking_delta", "thinking": text }),
                )
            }
            Piece::Call { id, name, .. } => {
                let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                return self.block(Open::Tool, &block);
            }
            Piece::Arguments { text, .. } => (
                Vec::new(),
                json!({ "type": "input_json_delta", "partial_json": text }),
            ),
        };
        frames.push(self.delta(&delta));
        frames
    }

    fn end(&mut self, response: &ModelResponse) -> Vec<Frame> {
        let mut frames = self.close();
        if let Some(data) = to_opaque(&response.message) {
            let block = json!({ "type": "redacted_thinking", "data": data });
            frames.extend(self.block(Open::Thinking, &block));
            frames.extend(self.close());
        }
        let delta = json!({
            "type": "message_delta",
            "delta": { "stop_reason": stop_reason(response), "stop_sequence": null },
            "usage": usage(&response.usage),
        });
        frames.push(Frame::typed(&delta));
        frames.push(Frame::typed(&json!({ "type": "message_stop" })));
        frames
    }

    fn fail(&mut self, failure: &Failure) -> Vec<Frame> {
        vec![Frame::typed(&failure.anthropic())]
    }
}

fn content(response: &ModelResponse) -> Value {
    let message = &response.message;
    let mut blocks = Vec::new();
    if let Some(text) = reasoning_of(message) {
        blocks.push(json!({ "type": "thinking", "thinking": text, "signature": "" }));
    }
    let text = message.text();
    if !text.is_empty() {
        blocks.push(json!({ "type": "text", "text": text }));
    }
    for call in &message.tool_calls {
        // An object is all that a client expects here; what a model wrote instead is kept under a name.
        let input = match call.arguments.to::<Value>() {
            Ok(Value::Null) => json!({}),
            Ok(input @ Value::Object(_)) => input,
            Ok(other) => json!({ "arguments": other }),
            Err(_) => json!({}),
        };
        blocks
            .push(json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input }));
    }
    if let Some(data) = to_opaque(message) {
        blocks.push(json!({ "type": "redacted_thinking", "data": data }));
    }
    Value::Array(blocks)
}

fn stop_reason(response: &ModelResponse) -> &'static str {
    match response.finish_reason {
        FinishReason::Length => "max_tokens",
        FinishReason::ContentFilter => "refusal",
        FinishReason::ToolCalls => "tool_use",
        _ if !response.message.tool_calls.is_empty() => "tool_use",
        _ => "end_turn",
    }
}

/// Here the tokens of the cache are not among the others.
fn usage(usage: &TokenUsage) -> Value {
    let read = usage.cache_read_tokens.unwrap_or(0);
    let written = usage.cache_write_tokens.unwrap_or(0);
    json!({
        "input_tokens": usage.input_tokens.saturating_sub(read + written),
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
    })
}
