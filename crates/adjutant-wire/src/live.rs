//! What the host tells while a call of the agent is open, or unasked.

use serde::{Deserialize, Serialize};

use crate::{content::RunScope, dispatch::Notice, method::Method};

/// The list of tools is another one now, host → agent; ask `tools/list` again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ToolsChanged {
    /// The list's new number; see [`ToolsPage::generation`](crate::ToolsPage::generation).
    pub generation: u64,
}

impl Notice for ToolsChanged {
    const METHOD: &'static str = Method::TOOLS_CHANGED;
}

/// How far an open call is, host → agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CallProgress {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// The call's `callId`.
    pub call_id: String,
    /// How much is done; rises.
    pub progress: f64,
    /// How much there is, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Notice for CallProgress {
    const METHOD: &'static str = Method::CALL_PROGRESS;
}

/// A piece of a model's answer, host → agent; only for `llm/generate` with `stream`. The answer itself is whole.
///
/// Pieces may be merged or left out when the agent does not keep up; they are for showing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LlmDelta {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// The call's `callId`.
    pub call_id: String,
    /// From 1, rising within the call.
    pub seq: u64,
    /// More of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// More of the reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// More of a tool call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call: Option<ToolCallDelta>,
}

impl Notice for LlmDelta {
    const METHOD: &'static str = Method::LLM_DELTA;
}

/// A piece of a tool call that a model is writing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ToolCallDelta {
    /// Which of the answer's tool calls.
    pub index: u32,
    /// The call's id; in its first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The tool's name; in its first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of the arguments' JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}
