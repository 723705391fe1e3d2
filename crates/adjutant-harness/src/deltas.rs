//! From the many pieces of an answer to a few events.

use std::time::Duration;

use adjutant_core::{EventType, ModelDelta, NewEvent};
use serde_json::json;

/// How long pieces are gathered before an event tells them.
pub(crate) const GATHER: Duration = Duration::from_millis(150);

/// Most text of one event, in bytes; what goes beyond it comes with the next one.
const MAX_EVENT_TEXT: usize = 64 << 10;

/// Pieces that no event has told yet.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    text: String,
    reasoning: String,
}

impl Gathered {
    pub fn add(&mut self, delta: &ModelDelta) {
        match delta {
            ModelDelta::Text { text } => self.text.push_str(text),
            ModelDelta::Reasoning { text } => self.reasoning.push_str(text),
            // The whole call is told when it is made.
            ModelDelta::ToolCall { .. } => {}
        }
    }

    /// The next event, if there is something to tell.
    pub fn event(&mut self, step: &str) -> Option<NewEvent> {
        let mut payload = json!({ "step_name": step });
        if !self.text.is_empty() {
            payload["text"] = take(&mut self.text).into();
        }
        if !self.reasoning.is_empty() {
            payload["reasoning"] = take(&mut self.reasoning).into();
        }
        let says_something = payload.get("text").is_some() || payload.get("reasoning").is_some();
        says_something.then(|| NewEvent::new(EventType::AssistantDelta, payload))
    }
}

fn take(text: &mut String) -> String {
    if text.len() <= MAX_EVENT_TEXT {
        return std::mem::take(text);
    }
    let rest = text.split_off(text.floor_char_boundary(MAX_EVENT_TEXT));
    std::mem::replace(text, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_one_event_and_long_text_several() {
        let mut gathered = Gathered::default();
        for text in ["a", "é"] {
            let text = text.to_owned();
            gathered.add(&ModelDelta::Text { text });
        }
        let event = gathered.event("model").unwrap();
        assert_eq!(
            event.payload.to::<serde_json::Value>().unwrap()["text"],
            "aé"
        );
        assert!(gathered.event("model").is_none());

        let text = "é".repeat(MAX_EVENT_TEXT);
        gathered.add(&ModelDelta::Text { text });
        let told = std::iter::from_fn(|| gathered.event("model"));
        let lengths = told.map(|event| event.payload.len()).collect::<Vec<_>>();
        assert_eq!(lengths.len(), 2);
    }
}
