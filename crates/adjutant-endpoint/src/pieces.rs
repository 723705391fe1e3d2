//! An answer as a sequence of pieces that add up to it, however much of it was shown while it was made.

use adjutant_core::{Json, Message, ModelDelta, ModelResponse, ToolCall};
use serde_json::Value;

use crate::failure::Failure;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// More of the text.
    Text(String),
    /// More of the reasoning.
    Reasoning(String),
    /// A tool call begins; calls come in order.
    Call {
        index: usize,
        id: String,
        name: String,
    },
    /// More of the text of its arguments.
    Arguments { index: usize, text: String },
}

/// What was shown so far.
#[derive(Default)]
pub struct Shown {
    text: String,
    reasoning: String,
    calls: Vec<ShownCall>,
}

#[derive(Default)]
struct ShownCall {
    id: Option<String>,
    name: Option<String>,
    arguments: String,
    begun: bool,
}

impl Shown {
    /// The pieces that a delta makes known.
    pub fn delta(&mut self, delta: ModelDelta) -> Vec<Piece> {
        match delta {
            ModelDelta::Text { text } if text.is_empty() => Vec::new(),
            ModelDelta::Reasoning { text } if text.is_empty() => Vec::new(),
            ModelDelta::Text { text } => {
                self.text.push_str(&text);
                vec![Piece::Text(text)]
            }
            ModelDelta::Reasoning { text } => {
                self.reasoning.push_str(&text);
                vec![Piece::Reasoning(text)]
            }
            ModelDelta::ToolCall {
                index,
                id,
                name,
                arguments,
            } => {
                let index = index as usize;
                // Calls come one after the other; a gap would be a provider's mistake, and its calls come at the end.
                if index > self.calls.len() {
                    return Vec::new();
                }
                if index == self.calls.len() {
                    self.calls.push(ShownCall::default());
                }
                self.calls[index].more(index, id, name, arguments)
            }
        }
    }

    /// The pieces that are missing. A recorded answer was never shown, so that these are all of them.
    ///
    /// # Errors
    /// When the answer is not what was shown.
    pub fn rest(&mut self, response: &ModelResponse) -> Result<Vec<Piece>, Failure> {
        let message = &response.message;
        let mut pieces = Vec::new();
        let reasoning = reasoning_of(message).unwrap_or_default();
        // Providers may tell their reasoning in other words at the end: what was shown was for showing.
        if let Some(more) = more(&self.reasoning, &reasoning).filter(|_| self.is_untouched()) {
            pieces.push(Piece::Reasoning(more));
        }
        let text = message.text();
        if !text.starts_with(&self.text) || self.calls.len() > message.tool_calls.len() {
            return Err(differs());
        }
        pieces.extend(more(&self.text, &text).map(Piece::Text));
        for (index, call) in message.tool_calls.iter().enumerate() {
            if index == self.calls.len() {
                self.calls.push(ShownCall::default());
            }
            self.calls[index].rest(index, call, &mut pieces)?;
        }
        Ok(pieces)
    }

    /// Whether nothing but reasoning was shown.
    fn is_untouched(&self) -> bool {
        self.text.is_empty() && self.calls.is_empty()
    }
}

impl ShownCall {
    fn more(
        &mut self,
        index: usize,
        id: Option<String>,
        name: Option<String>,
        arguments: String,
    ) -> Vec<Piece> {
        self.id = self.id.take().or(id);
        self.name = self.name.take().or(name);
        self.arguments.push_str(&arguments);
        if self.begun {
            return (!arguments.is_empty())
                .then_some(Piece::Arguments {
                    index,
                    text: arguments,
                })
                .into_iter()
                .collect();
        }
        let (Some(id), Some(name)) = (self.id.clone(), self.name.clone()) else {
            return Vec::new();
        };
        self.begun = true;
        let mut pieces = vec![Piece::Call { index, id, name }];
        if !self.arguments.is_empty() {
            let text = self.arguments.clone();
            pieces.push(Piece::Arguments { index, text });
        }
        pieces
    }

    fn rest(
        &mut self,
        index: usize,
        call: &ToolCall,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), Failure> {
        let full = arguments_text(&call.arguments);
        if !self.begun {
            let (id, name) = (call.id.clone(), call.name.clone());
            pieces.push(Piece::Call { index, id, name });
            pieces.push(Piece::Arguments { index, text: full });
            return Ok(());
        }
        let same_call = self.id.as_deref() == Some(call.id.as_str());
        if same_call && same_json(&self.arguments, &full) {
            return Ok(());
        }
        match full.strip_prefix(&self.arguments) {
            Some(more) if same_call => {
                let text = more.to_owned();
                pieces.push(Piece::Arguments { index, text });
                Ok(())
            }
            _ => Err(differs()),
        }
    }
}

fn more(shown: &str, full: &str) -> Option<String> {
    let more = full.strip_prefix(shown)?;
    (!more.is_empty()).then(|| more.to_owned())
}

fn same_json(one: &str, other: &str) -> bool {
    let read = |text| serde_json::from_str::<Value>(text).ok();
    read(one).is_some() && read(one) == read(other)
}

fn differs() -> Failure {
    let message = "the model's answer is not the one that was shown while it was made";
    Failure::new(502, "stream_differs", message)
}

/// The text of a call's arguments, as OpenAI has it.
pub fn arguments_text(arguments: &Json) -> String {
    match arguments.to() {
        // What a model wrote that was no JSON.
        Ok(Value::String(text)) => text,
        Ok(Value::Null) => "{}".to_owned(),
        _ => arguments.as_str().to_owned(),
    }
}

/// What a model thought before it answered, where that is known.
pub fn reasoning_of(message: &Message) -> Option<String> {
    if message.metadata.is_null() {
        return None;
    }
    let metadata: Value = message.metadata.to().ok()?;
    let text = metadata["thinking"]["text"].as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use adjutant_core::{FinishReason, TokenUsage};
    use serde_json::json;

    use super::*;

    fn response(text: &str, calls: &[(&str, Value)]) -> ModelResponse {
        let mut message = Message::assistant(text);
        let call = |(id, arguments): &(&str, Value)| ToolCall {
            id: (*id).to_owned(),
            name: "t".to_owned(),
            arguments: arguments.clone().into(),
        };
        message.tool_calls = calls.iter().map(call).collect();
        ModelResponse {
            message,
            finish_reason: FinishReason::Stop,
            model: "m".to_owned(),
            usage: TokenUsage::default(),
            cost_usd: None,
            response_id: None,
        }
    }

    fn text(text: &str) -> ModelDelta {
        let text = text.to_owned();
        ModelDelta::Text { text }
    }

    fn call(index: u32, id: Option<&str>, arguments: &str) -> ModelDelta {
        ModelDelta::ToolCall {
            index,
            id: id.map(str::to_owned),
            name: id.map(|_| "t".to_owned()),
            arguments: arguments.to_owned(),
        }
    }

    /// What a client has at the end.
    fn joined(pieces: &[Piece]) -> (String, Vec<(String, String)>) {
        let (mut words, mut calls) = (String::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Text(text) => words.push_str(text),
                Piece::Reasoning(_) => {}
                Piece::Call { index, id, .. } => {
                    assert_eq!(*index, calls.len());
                    calls.push((id.clone(), String::new()));
                }
                Piece::Arguments { index, text } => calls[*index].1.push_str(text),
            }
        }
        (words, calls)
    }

    #[test]
    fn however_much_was_shown_the_pieces_add_up_to_the_answer() {
        let full = response("hello", &[("a", json!({ "x": 1 })), ("b", json!({}))]);
        let deltas = [
            text("hel"),
            text("lo"),
            call(0, Some("a"), ""),
            call(0, None, r#"{"x""#),
            call(0, None, ": 1}"),
            call(1, Some("b"), "{}"),
        ];
        let wanted = |arguments: &str| {
            let calls = [("a", arguments), ("b", "{}")];
            let calls = calls.map(|(id, text)| (id.to_owned(), text.to_owned()));
            ("hello".to_owned(), calls.to_vec())
        };
        for shown_count in [0, 1, 2, 3, 5, 6] {
            let mut shown = Shown::default();
            let mut pieces = Vec::new();
            for delta in &deltas[..shown_count] {
                pieces.extend(shown.delta(delta.clone()));
            }
            pieces.extend(shown.rest(&full).unwrap());
            let arguments = if shown_count >= 5 {
                r#"{"x": 1}"#
            } else {
                r#"{"x":1}"#
            };
            assert_eq!(joined(&pieces), wanted(arguments), "{shown_count}");
        }
    }

    #[test]
    fn an_answer_that_is_not_what_was_shown_is_refused() {
        for delta in [
            text("bye"),
            call(0, Some("other"), "{}"),
            call(0, Some("a"), "["),
        ] {
            let mut shown = Shown::default();
            shown.delta(delta);
            assert!(shown.rest(&response("hello", &[("a", json!({}))])).is_err());
        }
    }

    #[test]
    fn a_call_begins_only_when_its_id_and_name_are_known() {
        let mut shown = Shown::default();
        assert!(shown.delta(call(0, None, "{")).is_empty());
        let pieces = shown.delta(call(0, Some("a"), "}"));
        assert_eq!(joined(&pieces).1, [("a".to_owned(), "{}".to_owned())]);
    }
}
