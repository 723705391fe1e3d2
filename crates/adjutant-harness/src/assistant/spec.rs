//! What an assistant is made of.

use std::num::NonZeroU32;

use adjutant_core::{ModelRequest, ResponseFormat};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const fn number(value: u32) -> NonZeroU32 {
    match NonZeroU32::new(value) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// What an assistant is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct AssistantSpec {
    /// Who it is and how it works; the first message of every conversation.
    pub instructions: String,
    /// Model, temperature and so on for every call; messages and tools come with the run.
    pub settings: ModelRequest,
    /// JSON Schema of its answer; any text where absent.
    pub output_schema: Option<Value>,
    /// Most model calls of a run, without those that shorten its conversation. Default 50.
    pub max_turns: NonZeroU32,
    /// Most tool calls at a time. Default 8.
    pub parallel_tools: NonZeroU32,
    /// With more tools than this, the model searches for them instead of being told of all. Default 64.
    pub search_tools_above: usize,
    /// How the model asks for tools.
    pub tool_calls: ToolCalls,
    /// What becomes of conversations that grow too long.
    pub context: ContextPolicy,
}

/// How a model asks for tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolCalls {
    /// In its provider's own way.
    #[default]
    Native,
    /// Its answers are held to a JSON Schema in which a call is one of the forms; for small models that do not know how to
    /// call tools.
    Constrained,
}

impl Default for AssistantSpec {
    fn default() -> Self {
        Self {
            instructions: String::new(),
            settings: ModelRequest::default(),
            output_schema: None,
            max_turns: number(50),
            parallel_tools: number(8),
            search_tools_above: 64,
            tool_calls: ToolCalls::default(),
            context: ContextPolicy::default(),
        }
    }
}

impl AssistantSpec {
    /// The form of an answer.
    pub(super) fn response_format(&self) -> ResponseFormat {
        match &self.output_schema {
            None => self.settings.response_format.clone(),
            Some(schema) => ResponseFormat::JsonSchema {
                name: "answer".to_owned(),
                schema: schema.clone(),
            },
        }
    }
}

/// What becomes of a conversation that grows too long: `context` in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContextPolicy {
    /// From about so many tokens on it is too long. Default 100,000.
    pub max_tokens: NonZeroU32,
    /// What is done then. Default `summarize`.
    pub when_full: Compaction,
}

impl Default for ContextPolicy {
    fn default() -> Self {
        Self {
            max_tokens: number(100_000),
            when_full: Compaction::default(),
        }
    }
}

/// How a conversation is shortened. Instructions and input always stay, and no tool's answer without its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compaction {
    /// The model sums up the older half.
    #[default]
    Summarize,
    /// The oldest turns are left out.
    DropOldest,
    /// The run fails.
    Fail,
}
