//! `initialize`: who is there, and what each side can do.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    codec::DEFAULT_MAX_LINE_BYTES,
    dispatch::{Call, Notice},
    method::Method,
};

/// The version that this crate speaks. New optional fields and methods do not change it.
pub const PROTOCOL_VERSION: u32 = 1;

/// The oldest version that this crate still speaks.
pub const MIN_PROTOCOL_VERSION: u32 = 1;

/// The version to answer to an offer: the highest that this side knows and that is not above. `None` when the offer is
/// older than what this side still speaks.
#[must_use]
pub const fn negotiate(offered: u32) -> Option<u32> {
    if offered < MIN_PROTOCOL_VERSION {
        None
    } else if offered > PROTOCOL_VERSION {
        Some(PROTOCOL_VERSION)
    } else {
        Some(offered)
    }
}

/// The first line of an agent that connected to a socket, agent → host. On stdio it is not needed and ignored.
///
/// The host says nothing before it has read the token, for what it says in `initialize` is not for everybody.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hello {
    /// What the environment variable `AGENT_WIRE_TOKEN` holds. A secret; it opens one connection.
    pub token: String,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hello { token: \"…\" }")
    }
}

impl Notice for Hello {
    const METHOD: &'static str = Method::HELLO;
}

/// First message of a connection, host → agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Initialize {
    /// The highest version that the host speaks.
    pub protocol_version: u32,
    /// The host.
    pub info: Info,
    /// Which instance of which agent the process is.
    #[serde(default)]
    pub instance: Instance,
    /// What the host answers.
    #[serde(default)]
    pub capabilities: HostCapabilities,
    /// What the host accepts.
    #[serde(default)]
    pub limits: Limits,
    /// Where else the host can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// How often a busy agent must be heard of, in milliseconds; three missed intervals end the attempt.
    #[serde(default = "default_heartbeat_ms")]
    pub heartbeat_ms: u64,
}

const fn default_heartbeat_ms() -> u64 {
    10_000
}

impl Call for Initialize {
    const METHOD: &'static str = Method::INITIALIZE;
    type Answer = Initialized;
}

/// The agent's answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Initialized {
    /// The version both will speak: the highest the agent knows that is not above the offer.
    pub protocol_version: u32,
    /// The agent's program.
    pub info: Info,
    /// What the agent can do.
    #[serde(default)]
    pub capabilities: AgentCapabilities,
    /// How many runs the process takes at once; default 1.
    #[serde(default = "one")]
    pub max_concurrent_runs: u32,
    /// What the agent accepts; absent means the wire's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<AgentLimits>,
    /// The agents in the program; empty means one, named as the host likes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentDescription>,
}

const fn one() -> u32 {
    1
}

/// Name and version of a program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Info {
    /// Name.
    pub name: String,
    /// Version, in whatever scheme the program uses.
    #[serde(default)]
    pub version: String,
}

/// Which process this is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Instance {
    /// The agent's key.
    pub agent_id: String,
    /// The process's name.
    pub instance_id: String,
}

/// What the host answers besides the basics; a method behind a missing ability gets -32601 or -31006.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HostCapabilities {
    /// `step/begin`, `step/end`, `sleep`, `signal/wait`, `delegate`.
    pub steps: bool,
    /// `tools/list`, `tools/call`.
    pub tools: bool,
    /// `llm/generate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm: Option<LlmAbility>,
    /// `checkpoint/save`, `checkpoint/load`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointAbility>,
    /// `input/request`.
    pub input: bool,
    /// `run/steer`.
    pub steer: bool,
}

/// How `llm/generate` behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct LlmAbility {
    /// Whether deltas can be had.
    pub stream: bool,
}

/// How checkpoints behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointAbility {
    /// Largest state in bytes of JSON; absent means that only the line's limit counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// What the host accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Longest line in bytes, newline not counted.
    pub max_line_bytes: usize,
    /// Most requests of the agent that may be open at once.
    pub max_inflight_calls: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_line_bytes: DEFAULT_MAX_LINE_BYTES,
            max_inflight_calls: 64,
        }
    }
}

/// What the agent accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct AgentLimits {
    /// Longest line in bytes, newline not counted; the host sends none that is longer.
    pub max_line_bytes: usize,
}

impl Default for AgentLimits {
    fn default() -> Self {
        Self {
            max_line_bytes: DEFAULT_MAX_LINE_BYTES,
        }
    }
}

/// Loopback addresses for unmodified frameworks, with a token bound to the process.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Endpoints {
    /// Base URL that speaks OpenAI's API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openai: Option<String>,
    /// Base URL that speaks Anthropic's API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anthropic: Option<String>,
    /// URL of an MCP server with the host's tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp: Option<String>,
    /// The bearer token for all of them. A secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoints")
            .field("openai", &self.openai)
            .field("anthropic", &self.anthropic)
            .field("mcp", &self.mcp)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish()
    }
}

/// What the agent can do beyond level 1.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct AgentCapabilities {
    /// Saves and resumes from checkpoints.
    pub checkpoint: bool,
    /// Uses durable steps: replays instead of starting over.
    pub steps: bool,
    /// Takes `run/steer`.
    pub steer: bool,
    /// Asks people with `input/request`.
    pub input: bool,
}

/// One agent of a program.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentDescription {
    /// The name that `run/start` uses.
    pub name: String,
    /// For people and for models that choose among agents.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of `input.data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// JSON Schema of `output.data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_smallest_initialize_gets_the_documented_defaults() {
        let value = json!({"protocolVersion": 1, "info": {"name": "host"}});
        let offer: Initialize = serde_json::from_value(value).unwrap();
        assert_eq!(offer.heartbeat_ms, 10_000);
        assert_eq!(offer.limits.max_line_bytes, DEFAULT_MAX_LINE_BYTES);
        let value = json!({"protocolVersion": 1, "info": {"name": "agent"}});
        let answer: Initialized = serde_json::from_value(value).unwrap();
        assert_eq!(answer.max_concurrent_runs, 1);
    }

    #[test]
    fn the_highest_version_that_both_know_is_spoken() {
        assert_eq!(negotiate(0), None);
        assert_eq!(negotiate(MIN_PROTOCOL_VERSION), Some(MIN_PROTOCOL_VERSION));
        assert_eq!(negotiate(PROTOCOL_VERSION), Some(PROTOCOL_VERSION));
        assert_eq!(negotiate(PROTOCOL_VERSION + 7), Some(PROTOCOL_VERSION));
    }

    #[test]
    fn a_token_is_not_shown_in_debug_output() {
        let endpoints = Endpoints {
            token: Some("s3cret".into()),
            ..Endpoints::default()
        };
        assert!(!format!("{endpoints:?}").contains("s3cret"));
    }
}
