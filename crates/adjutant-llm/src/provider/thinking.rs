//! What a provider needs back of its model's thinking, kept in a message's metadata.
//!
//! Some models sign their thoughts and go on from them only if they get the signatures back with the tools' answers. They
//! are kept as `metadata.thinking` of the assistant's message and sent again to the same model only: another one would
//! refuse them.

use std::collections::BTreeMap;

use adjutant_core::{Json, Message};
use genai::chat::{ContentPart, CustomPart, MessageContent};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The thinking of one answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Thinking {
    /// The model as it was asked for.
    pub model: String,
    /// The thoughts as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// What has to go back, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Block>,
    /// Signatures that belong to a tool call, by its id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calls: BTreeMap<String, Vec<String>>,
}

/// One piece that has to go back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block {
    /// A signature, of the text that follows it if one does.
    Signature { signature: String },
    /// A thought.
    Text { text: String },
    /// A block of the provider's own form.
    Raw { data: Value },
}

impl Thinking {
    /// Takes what has to go back out of an answer's content.
    pub(super) fn of(model: &str, text: String, content: &MessageContent) -> Self {
        let mut thinking = Self {
            model: model.to_owned(),
            text,
            ..Self::default()
        };
        for part in content {
            match part {
                ContentPart::ThoughtSignature(signature) => {
                    let signature = signature.clone();
                    thinking.blocks.push(Block::Signature { signature });
                }
                ContentPart::ReasoningContent(text) => {
                    thinking.blocks.push(Block::Text { text: text.clone() });
                }
                ContentPart::Custom(part) => {
                    let data = part.data.clone();
                    thinking.blocks.push(Block::Raw { data });
                }
                ContentPart::ToolCall(call) => {
                    if let Some(signatures) = &call.thought_signatures {
                        let id = call.call_id.clone();
                        thinking.calls.insert(id, signatures.clone());
                    }
                }
                ContentPart::Text(_) | ContentPart::Binary(_) | ContentPart::ToolResponse(_) => {}
            }
        }
        thinking
    }

    /// The message's metadata, `null` if there was no thinking.
    pub(super) fn into_metadata(self) -> Json {
        if self.text.is_empty() && self.blocks.is_empty() && self.calls.is_empty() {
            return Json::null();
        }
        json!({ "thinking": self }).into()
    }

    /// The thinking of an earlier answer of this model.
    pub(super) fn from_message(message: &Message, model: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Metadata {
            thinking: Thinking,
        }
        if message.metadata.is_null() {
            return None;
        }
        let Metadata { thinking } = message.metadata.to().ok()?;
        (thinking.model == model).then_some(thinking)
    }

    /// The parts that lead the message when it goes back.
    pub(super) fn parts(&self) -> impl Iterator<Item = ContentPart> + '_ {
        self.blocks.iter().map(|block| match block {
            Block::Signature { signature } => ContentPart::ThoughtSignature(signature.clone()),
            Block::Text { text } => ContentPart::ReasoningContent(text.clone()),
            Block::Raw { data } => ContentPart::Custom(CustomPart {
                model_iden: None,
                data: data.clone(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinking_survives_the_journal_and_goes_back_to_its_own_model_only() {
        let content = MessageContent::from_parts(vec![
            ContentPart::ThoughtSignature("sig".into()),
            ContentPart::ReasoningContent("hm".into()),
            ContentPart::Text("hello".into()),
        ]);
        let mut message = Message::assistant("hello");
        message.metadata = Thinking::of("m", "hm".into(), &content).into_metadata();
        let stored = serde_json::to_string(&message).unwrap();
        let read: Message = serde_json::from_str(&stored).unwrap();
        let thinking = Thinking::from_message(&read, "m").unwrap();
        assert_eq!(thinking.parts().count(), 2);
        assert_eq!(Thinking::from_message(&read, "other"), None);
        assert_eq!(Thinking::from_message(&Message::user("x"), "m"), None);
    }

    #[test]
    fn without_thinking_there_is_no_metadata() {
        let content = MessageContent::from_text("hello");
        let thinking = Thinking::of("m", String::new(), &content);
        assert!(thinking.into_metadata().is_null());
    }
}
