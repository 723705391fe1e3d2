//! Answers of responses.

use adjutant_core::{FinishReason, ModelResponse, TokenUsage};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    pieces::{Piece, Shown},
    thinking::to_opaque,
    wire::{Frame, Stamp, Writer},
};

/// Writes an answer as responses have it.
pub struct ResponsesWriter {
    stamp: Stamp,
    echo: Value,
    /// Events so far.
    sequence: u64,
    /// Items that are whole.
    output: Vec<Value>,
    /// The item that is being written.
    open: Option<Value>,
}

/// What an answer repeats of its request, with what stands for what was not said.
fn echoed(request: &Value) -> Value {
    let defaults = json!({
        "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "metadata": {},
        "parallel_tool_calls": true, "previous_response_id": null,
        "reasoning": { "effort": null, "summary": null }, "service_tier": "default", "store": false,
        "temperature": 1.0, "text": { "format": { "type": "text" } }, "tool_choice": "auto",
        "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled",
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "background": false, "user": null,
    });
    let mut echo = defaults;
    for (name, value) in echo.as_object_mut().into_iter().flatten() {
        match request.get(name.as_str()) {
            // Nothing is kept, whatever the client would like.
            Some(said) if !said.is_null() && name != "store" => *value = said.clone(),
            _ => {}
        }
    }
    echo
}

impl ResponsesWriter {
    pub fn new(stamp: Stamp, request: &Value) -> Self {
        Self {
            echo: echoed(request),
            stamp,
            sequence: 0,
            output: Vec::new(),
            open: None,
        }
    }

    fn response(&self, status: &str, output: &[Value], usage: &Value) -> Value {
        let mut response = json!({
            "id": format!("resp_{}", self.stamp.id),
            "object": "response",
            "created_at": self.stamp.created,
            "completed_at": (status != "in_progress").then_some(self.stamp.created),
            "status": status,
            "error": null,
            "incomplete_details": null,
            "model": self.stamp.model,
            "output": output,
            "usage": usage,
        });
        if let (Some(response), Some(echo)) = (response.as_object_mut(), self.echo.as_object()) {
            response.extend(echo.clone());
        }
        response
    }

    fn concluded(&self, response: &ModelResponse, output: &[Value]) -> Value {
        let reason = match response.finish_reason {
            FinishReason::Length => Some("max_output_tokens"),
            FinishReason::ContentFilter => Some("content_filter"),
            _ => None,
        };
        let status = if reason.is_some() {
            "incomplete"
        } else {
            "completed"
        };
        let mut whole = self.response(status, output, &usage(&response.usage));
        if let Some(reason) = reason {
            whole["incomplete_details"] = json!({ "reason": reason });
        }
        whole
    }

    fn frame(&mut self, mut event: Value) -> Frame {
        event["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        Frame::typed(&event)
    }

    /// Begins an item.
    fn add(&mut self, item: Value) -> Vec<Frame> {
        let mut frames = self.close();
        let event = json!({
            "type": "response.output_item.added", "output_index": self.output.len(), "item": item,
        });
        frames.push(self.frame(event));
        if item["type"] == "message" {
            let part =
                json!({ "type": "output_text", "text": "", "annotations": [], "logprobs": [] });
            let event = self.about(
                "response.content_part.added",
                &item,
                json!({ "part": part, "content_index": 0 }),
            );
            frames.push(self.frame(event));
        }
        self.open = Some(item);
        frames
    }

    /// An event about the item that is being written.
    fn about(&self, kind: &str, item: &Value, mut event: Value) -> Value {
        event["type"] = json!(kind);
        event["item_id"] = item["id"].clone();
        event["output_index"] = json!(self.output.len());
        event
    }

    /// Ends the item that is being written.
    fn close(&mut self) -> Vec<Frame> {
        let Some(mut item) = self.open.take() else {
            return Vec::new();
        };
        let mut events = Vec::new();
        if item["type"] == "message" {
            let part = item["content"][0].clone();
            let done = json!({ "text": part["text"], "logprobs": [], "content_index": 0 });
            events.push(self.about("response.output_text.done", &item, done));
            let done = json!({ "part": part, "content_index": 0 });
            events.push(self.about("response.content_part.done", &item, done));
        } else if item["type"] == "function_call" {
            let done = json!({ "arguments": item["arguments"], "name": item["name"] });
            events.push(self.about("response.function_call_arguments.done", &item, done));
        }
        item["status"] = json!("completed");
        events.push(json!({
            "type": "response.output_item.done", "output_index": self.output.len(), "item": item,
        }));
        self.output.push(item);
        events.into_iter().map(|event| self.frame(event)).collect()
    }

    fn item_id(&self, kind: &str) -> String {
        format!(
            "{kind}_{}_{}",
            self.stamp.id,
            self.output.len() + usize::from(self.open.is_some())
        )
    }

    /// More of the text of the item that is being written.
    fn extend(&mut self, kind: &str, text: &str, mut event: Value) -> Vec<Frame> {
        let Some(mut item) = self.open.take() else {
            return Vec::new();
        };
        let place = match kind {
            "response.output_text.delta" => &mut item["content"][0]["text"],
            _ => &mut item["arguments"],
        };
        let whole = place.as_str().unwrap_or_default().to_owned() + text;
        *place = json!(whole);
        event["delta"] = json!(text);
        let event = self.about(kind, &item, event);
        self.open = Some(item);
        vec![self.frame(event)]
    }

    fn text(&mut self, text: &str) -> Vec<Frame> {
        let mut frames = Vec::new();
        if self
            .open
            .as_ref()
            .is_none_or(|item| item["type"] != "message")
        {
            frames = self.add(json!({
                "id": self.item_id("msg"), "type": "message", "role": "assistant", "status": "in_progress",
                "content": [],
            }));
            if let Some(item) = &mut self.open {
                item["content"] = json!([{ "type": "output_text", "text": "", "annotations": [], "logprobs": [] }]);
            }
        }
        let event = json!({ "content_index": 0, "logprobs": [] });
        frames.extend(self.extend("response.output_text.delta", text, event));
        frames
    }

    fn call(&mut self, id: &str, name: &str) -> Vec<Frame> {
        self.add(json!({
            "id": self.item_id("fc"), "type": "function_call", "status": "in_progress",
            "call_id": id, "name": name, "arguments": "",
        }))
    }
}

impl Writer for ResponsesWriter {
    fn whole(&self, response: &ModelResponse) -> Value {
        // The items are those that a stream would have shown.
        let mut stream = Self::new(self.stamp.clone(), &self.echo);
        let pieces = Shown::default().rest(response).unwrap_or_default();
        for piece in pieces {
            stream.piece(piece);
        }
        stream.end(response);
        self.concluded(response, &stream.output)
    }

    fn begin(&mut self) -> Vec<Frame> {
        let response = self.response("in_progress", &[], &Value::Null);
        ["response.created", "response.in_progress"]
            .map(|kind| self.frame(json!({ "type": kind, "response": response })))
            .into()
    }

    fn piece(&mut self, piece: Piece) -> Vec<Frame> {
        match piece {
            Piece::Text(text) => self.text(&text),
            // Clients of this dialect are shown summaries only, which nobody has made.
            Piece::Reasoning(_) => Vec::new(),
            Piece::Call { id, name, .. } => self.call(&id, &name),
            Piece::Arguments { text, .. } => {
                self.extend("response.function_call_arguments.delta", &text, json!({}))
            }
        }
    }

    fn end(&mut self, response: &ModelResponse) -> Vec<Frame> {
        let mut frames = self.close();
        if let Some(opaque) = to_opaque(&response.message) {
            frames.extend(self.add(json!({
                "id": self.item_id("rs"), "type": "reasoning", "summary": [], "encrypted_content": opaque,
            })));
            frames.extend(self.close());
        }
        let whole = self.concluded(response, &self.output);
        let status = whole["status"].as_str().unwrap_or("completed");
        let kind = format!("response.{status}");
        frames.push(self.frame(json!({ "type": kind, "response": whole })));
        frames
    }

    fn fail(&mut self, failure: &Failure) -> Vec<Frame> {
        let mut event = failure.openai();
        event["type"] = json!("error");
        event["code"] = event["error"]["code"].clone();
        event["message"] = event["error"]["message"].clone();
        event["param"] = Value::Null;
        vec![self.frame(event)]
    }
}

fn usage(usage: &TokenUsage) -> Value {
    json!({
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens.unwrap_or(0),
            "cache_write_tokens": usage.cache_write_tokens.unwrap_or(0),
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning_tokens.unwrap_or(0) },
        "total_tokens": usage.input_tokens + usage.output_tokens,
    })
}
