//! Calls that the host carries out for the agent: people, tools, models.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    content::{RunScope, TokenUsage},
    dispatch::Call,
    method::Method,
};

/// Asks a person, agent → host. May be parked, see [`crate::ErrorCode::Park`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct InputRequest {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// Names the question in the journal.
    pub key: String,
    /// What kind of answer is wanted.
    #[serde(default)]
    pub kind: InputKind,
    /// The question.
    pub message: String,
    /// For `form`: JSON Schema of the content. For `url`: `{url}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// For `approval`: the tool call in question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call: Option<Value>,
    /// What the question is about, for whoever decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// After this time, from the first use of the key, the answer is `cancel`; absent means that it stays open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
}

impl Call for InputRequest {
    const METHOD: &'static str = Method::INPUT_REQUEST;
    type Answer = InputAnswer;
}

/// What kind of answer a person is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// Yes or no.
    #[default]
    Approval,
    /// Data by a schema.
    Form,
    /// Something to do at an address.
    Url,
}

/// A person's answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InputAnswer {
    /// What they did.
    pub action: InputAction,
    /// Who, as far as the host knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// What they entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Value>,
}

/// What a person did with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum InputAction {
    /// Said yes, or filled in the form.
    Accept,
    /// Said no.
    Decline,
    /// Nobody answered, or the question was withdrawn. The default, because silence is no consent.
    #[default]
    Cancel,
}

/// Which tools are there? Agent → host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ToolsList {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// Where the last page ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl Call for ToolsList {
    const METHOD: &'static str = Method::TOOLS_LIST;
    type Answer = ToolsPage;
}

/// A page of tools.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ToolsPage {
    /// The tools.
    pub tools: Vec<ToolDescription>,
    /// Rises when the list changes.
    #[serde(default)]
    pub generation: u64,
    /// Where the next page begins; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// One tool, in MCP's words.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ToolDescription {
    /// The name that `tools/call` uses.
    pub name: String,
    /// For the model.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of the arguments.
    #[serde(default)]
    pub input_schema: Value,
    /// What else MCP says about it.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Uses a tool, agent → host. Journaled by `callId`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ToolsCall {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// Names the call in the journal.
    pub call_id: String,
    /// The tool.
    pub name: String,
    /// What it gets.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Limit in milliseconds; the host may have a lower one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl Call for ToolsCall {
    const METHOD: &'static str = Method::TOOLS_CALL;
    type Answer = ToolAnswer;
}

/// MCP's `CallToolResult`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ToolAnswer {
    /// Content blocks.
    #[serde(default)]
    pub content: Vec<Value>,
    /// The result as JSON, where the tool has a schema for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_content: Option<Value>,
    /// Whether the tool itself failed; the content says how.
    #[serde(default)]
    pub is_error: bool,
}

/// Asks a model, agent → host. Journaled by `callId`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LlmGenerate {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// Names the call in the journal.
    pub call_id: String,
    /// `{model, messages[], tools?, toolChoice?, temperature?, maxOutputTokens?, responseFormat?, extra?}`.
    pub request: Map<String, Value>,
    /// Whether to send deltas.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
}

impl Call for LlmGenerate {
    const METHOD: &'static str = Method::LLM_GENERATE;
    type Answer = LlmAnswer;
}

/// A model's answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LlmAnswer {
    /// What it said.
    pub message: GeneratedMessage,
    /// Why it stopped.
    #[serde(default)]
    pub finish_reason: String,
    /// Which model answered.
    #[serde(default)]
    pub model: String,
    /// What it took.
    #[serde(default)]
    pub usage: TokenUsage,
    /// US dollars, where prices are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// A message of a model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct GeneratedMessage {
    /// `assistant`.
    pub role: String,
    /// Text or parts; null when there are only tool calls.
    #[serde(default)]
    pub content: Value,
    /// The tools it wants, `{id, name, arguments}` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
}
