//! What is asked of a language model, and what comes back.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Json, Message, ToolSpec};

/// A request to a language model, in words that every provider has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelRequest {
    /// Which model: `provider/name` such as `anthropic/claude-sonnet-4-5`, or a name from the configuration. Empty is
    /// the agent's own model.
    pub model: String,
    /// The conversation, instructions first.
    pub messages: Vec<Message>,
    /// The tools that the model may ask for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolSpec>,
    /// Whether it has to use one.
    #[serde(skip_serializing_if = "ToolChoice::is_auto")]
    pub tool_choice: ToolChoice,
    /// The form of the answer.
    #[serde(skip_serializing_if = "ResponseFormat::is_text")]
    pub response_format: ResponseFormat,
    /// How much chance there is in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Sampling among the likeliest tokens up to this probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Longest answer, in tokens. What is reserved from a budget before the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// Texts at which the answer ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// For providers that repeat themselves on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How much the model thinks first: `minimal`, `low`, `medium` or `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// What only this provider understands; passed on as it is.
    #[serde(skip_serializing_if = "Json::is_null")]
    pub extra: Json,
}

/// Whether a model has to use a tool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// No tool.
    None,
    /// Some tool.
    Required,
    /// This tool.
    Tool(String),
}

impl ToolChoice {
    /// Whether the model is free.
    #[must_use]
    pub const fn is_auto(&self) -> bool {
        matches!(self, Self::Auto)
    }
}

/// The form of a model's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any text.
    #[default]
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema {
        /// The schema's name, for the provider.
        name: String,
        /// JSON Schema.
        schema: Value,
    },
}

impl ResponseFormat {
    /// Whether any text will do.
    #[must_use]
    pub const fn is_text(&self) -> bool {
        matches!(self, Self::Text)
    }
}

/// A model's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelResponse {
    /// What it said, tool calls included.
    pub message: Message,
    /// Why it stopped.
    pub finish_reason: FinishReason,
    /// Which model answered, as the provider names it.
    pub model: String,
    /// What it took; absent figures were not measured.
    #[serde(default)]
    pub usage: TokenUsage,
    /// US dollars, where the model's prices are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// The provider's name for this answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_id: Option<String>,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It was done.
    #[default]
    Stop,
    /// It reached its longest answer.
    Length,
    /// It wants tools.
    ToolCalls,
    /// It or its provider would not say it.
    ContentFilter,
    /// Something else.
    Other,
}

impl FinishReason {
    /// The stable text form, as OpenAI's chat completions have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Other => "other",
        }
    }
}

/// The tokens of one model call, as its provider measured them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenUsage {
    /// Tokens sent, those from a cache included.
    pub input_tokens: u64,
    /// Tokens received, those of reasoning included.
    pub output_tokens: u64,
    /// The part of `input_tokens` that came from the provider's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// The part of `input_tokens` that was put into the provider's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// The part of `output_tokens` that was reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
}

/// A piece of a model's answer while it is made. For showing: the answer itself comes whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ModelDelta {
    /// More of the text.
    Text {
        /// The piece.
        text: String,
    },
    /// More of the reasoning.
    Reasoning {
        /// The piece.
        text: String,
    },
    /// More of a tool call.
    ToolCall {
        /// Which of the answer's calls, from 0.
        index: u32,
        /// Its id, in its first piece.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// The tool, in its first piece.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// More of the arguments' JSON text.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        arguments: String,
    },
}

/// Who wants to see an answer while it is made. Called in order, from the task that makes the call; must not block.
pub type DeltaSink<'a> = dyn FnMut(ModelDelta) + Send + 'a;

/// A model call of a run: a request with its place in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCall {
    /// The call's name within the run; the journal numbers repeats.
    pub key: String,
    /// What is asked.
    pub request: ModelRequest,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Content, ContentPart};

    #[test]
    fn a_request_survives_a_round_trip() {
        let mut picture = Message::user("what is this?");
        picture.content = Content::Parts(vec![ContentPart::Data {
            data: json!({ "x": [1] }),
        }]);
        let request = ModelRequest {
            model: "openai/gpt-5".to_owned(),
            messages: vec![picture],
            tools: vec![ToolSpec::new("t", "", json!({ "type": "object" }))],
            tool_choice: ToolChoice::Tool("t".to_owned()),
            response_format: ResponseFormat::JsonSchema {
                name: "answer".to_owned(),
                schema: json!({ "type": "string" }),
            },
            ..ModelRequest::default()
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            serde_json::from_str::<ModelRequest>(&text).unwrap(),
            request
        );
    }
}
