//! Messages between people, agents, models and tools.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Json;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions from whoever set the agent up.
    System,
    /// The person or program that the agent works for.
    User,
    /// The agent or its model.
    Assistant,
    /// A tool's answer.
    Tool,
}

/// What a message says: plain text, or parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Text, images and other parts in order.
    Parts(Vec<ContentPart>),
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentPart {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
    /// An image, base64 in `data`.
    Image {
        /// The base64 data.
        data: String,
        /// Such as `image/png`.
        #[serde(rename = "mimeType")]
        mime_type: String,
    },
    /// Any other JSON.
    Data {
        /// The JSON.
        data: Value,
    },
}

/// A tool call that an assistant message asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Pairs the call with its answer.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments, as the model gave them.
    #[serde(default)]
    pub arguments: Json,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Content,
    /// The speaker's name, where several share a role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For a tool's answer: the call that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// For an assistant message: the calls it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Whatever else the application keeps with the message.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub metadata: Json,
}

impl Message {
    /// A message of plain text.
    #[must_use]
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Content::Text(text.into()),
            name: None,
            tool_call_id: None,
            tool_calls: Vec::new(),
            metadata: Json::null(),
        }
    }

    /// A user's message.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, text)
    }

    /// An assistant's message.
    #[must_use]
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, text)
    }

    /// The text of the message, its text parts joined by newlines.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.content {
            Content::Text(text) => text.clone(),
            Content::Parts(parts) => {
                let texts = parts.iter().filter_map(|part| match part {
                    ContentPart::Text { text } => Some(text.as_str()),
                    _ => None,
                });
                texts.collect::<Vec<_>>().join("\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_message_has_no_empty_fields_on_the_wire() {
        let json = serde_json::to_string(&Message::user("hi")).unwrap();
        assert_eq!(json, r#"{"role":"user","content":"hi"}"#);
        assert_eq!(
            serde_json::from_str::<Message>(&json).unwrap(),
            Message::user("hi")
        );
    }

    #[test]
    fn tool_calls_survive_a_round_trip() {
        let text = r#"{"role":"assistant","content":[{"type":"text","text":"a"}],"tool_calls":[{"id":"1","name":"t","arguments":{"x":1}}]}"#;
        let message: Message = serde_json::from_str(text).unwrap();
        assert_eq!(message.text(), "a");
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
    }
}
