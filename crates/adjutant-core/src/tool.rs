//! Tools: what they are called, what they do to the world, and what they answer.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Json;

/// What calling a tool does to the world: whether a call that may or may not have happened can be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It only looks.
    ReadOnly,
    /// Twice is as good as once.
    Idempotent,
    /// Twice with the same idempotency key is as good as once.
    Keyed,
    /// Twice is once too often. What nobody said anything about is of this kind.
    #[default]
    Unsafe,
}

impl Effect {
    /// The stable text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::Idempotent => "idempotent",
            Self::Keyed => "keyed",
            Self::Unsafe => "unsafe",
        }
    }

    /// Whether a call of unknown outcome may be made again without asking.
    #[must_use]
    pub const fn may_repeat(self) -> bool {
        !matches!(self, Self::Unsafe)
    }
}

/// A tool as a model and a person see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolSpec {
    /// 1 to 64 letters, digits, `_` or `-`; a tool of a server is `server__tool`.
    pub name: String,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// JSON Schema of the arguments, an object.
    pub input_schema: Json,
    /// JSON Schema of the structured result, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Json>,
    /// What calling it does to the world.
    #[serde(default)]
    pub effect: Effect,
    /// Why it cannot be called at present, where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

impl ToolSpec {
    /// A tool that takes an object.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        description: impl Into<String>,
        input_schema: impl Into<Json>,
    ) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            input_schema: input_schema.into(),
            output_schema: None,
            effect: Effect::default(),
            unavailable: None,
        }
    }

    /// The same tool with another effect.
    #[must_use]
    pub fn effect(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }
}

/// What a tool answered, in the shape of MCP's `CallToolResult`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToolAnswer {
    /// Content blocks as MCP has them: `{"type":"text","text":…}`, images, audio, resources and links.
    pub content: Vec<Value>,
    /// The result as JSON, where the tool has a schema for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Value>,
    /// Whether the tool itself failed; the content says how. The model sees it and may do better.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

impl ToolAnswer {
    /// An answer of plain text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            content: vec![json!({ "type": "text", "text": text.into() })],
            ..Self::default()
        }
    }

    /// A tool's own failure, for the model to read.
    #[must_use]
    pub fn failed(text: impl Into<String>) -> Self {
        Self {
            is_error: true,
            ..Self::text(text)
        }
    }

    /// Structured data, with its text for models.
    #[must_use]
    pub fn data(data: Value) -> Self {
        Self {
            content: Self::text(data.to_string()).content,
            structured_content: Some(data),
            is_error: false,
        }
    }

    /// The text blocks, joined by newlines.
    #[must_use]
    pub fn joined_text(&self) -> String {
        let texts = self
            .content
            .iter()
            .filter_map(|block| block["text"].as_str());
        texts.collect::<Vec<_>>().join("\n")
    }
}

/// A tool call of a run: with its place in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolUse {
    /// The call's name within the run; the journal numbers repeats.
    pub key: String,
    /// The id that pairs the call with a model's request for it; tells events apart.
    pub call_id: String,
    /// The tool.
    pub name: String,
    /// What it gets, an object.
    pub arguments: Json,
    /// Longest time for one try; the tool's own limit may be lower.
    pub timeout: Option<Duration>,
}

impl ToolUse {
    /// A call of this tool, named after it.
    #[must_use]
    pub fn new(name: impl Into<String>, arguments: impl Into<Json>) -> Self {
        let name = name.into();
        Self {
            key: format!("tool:{name}"),
            call_id: String::new(),
            name,
            arguments: arguments.into(),
            timeout: None,
        }
    }
}
