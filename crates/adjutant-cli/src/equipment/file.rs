//! What `agent.yaml` says of models, tools, other agents and money.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

use adjutant::{
    core::ModelRequest,
    harness::{BudgetPolicy, ContextPolicy, ToolCalls, ToolPolicy},
    mcp::ServerConfig,
    process::{ManifestError, read_yaml},
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{sections, units};

/// The keys of a manifest that are read here; all others belong to the process.
pub const KEYS: &[&str] = &[
    "model",
    "instructions",
    "output_schema",
    "max_turns",
    "parallel_tools",
    "context",
    "mcp_servers",
    "mcpServers",
    "http_tools",
    "openapi",
    "tools",
    "agents",
    "budget",
];

/// The part of a manifest that makes an equipment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EquipmentFile {
    /// The model of calls that name none.
    pub model: Option<ModelChoice>,
    /// Who the agent is, if it is made of a model alone.
    pub instructions: Option<Instructions>,
    /// JSON Schema of its answer.
    pub output_schema: Option<Value>,
    pub max_turns: Option<NonZeroU32>,
    pub parallel_tools: Option<NonZeroU32>,
    pub context: ContextPolicy,
    #[serde(alias = "mcpServers")]
    pub mcp_servers: BTreeMap<String, ServerConfig>,
    /// Tools that are one HTTP request each; read when secrets are at hand.
    pub http_tools: Vec<Value>,
    pub openapi: BTreeMap<String, OpenApiFile>,
    pub tools: ToolsFile,
    pub agents: Agents,
    pub budget: BudgetPolicy,
}

/// A model's name, or a name with settings.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelChoice(pub ModelRequest, pub Option<Duration>);

impl<'de> Deserialize<'de> for ModelChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Settings {
            name: String,
            temperature: Option<f64>,
            top_p: Option<f64>,
            max_output_tokens: Option<u32>,
            #[serde(default)]
            stop: Vec<String>,
            seed: Option<u64>,
            reasoning_effort: Option<String>,
            #[serde(default)]
            extra: Value,
            timeout: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Name(String),
            Settings(Box<Settings>),
        }
        let form = Form::deserialize(deserializer).map_err(|_| {
            serde::de::Error::custom(
                "expected a name such as `anthropic/claude-sonnet-4-5`, or a map of `name`, `temperature`, `top_p`, \
                 `max_output_tokens`, `stop`, `seed`, `reasoning_effort`, `extra`, `timeout`",
            )
        })?;
        let settings = match form {
            Form::Name(model) => {
                let request = ModelRequest {
                    model,
                    ..ModelRequest::default()
                };
                return Ok(Self(request, None));
            }
            Form::Settings(settings) => *settings,
        };
        let timeout = settings.timeout.as_deref().map(units::parse_duration);
        let timeout = timeout.transpose().map_err(serde::de::Error::custom)?;
        let request = ModelRequest {
            model: settings.name,
            temperature: settings.temperature,
            top_p: settings.top_p,
            max_output_tokens: settings.max_output_tokens,
            stop: settings.stop,
            seed: settings.seed,
            reasoning_effort: settings.reasoning_effort,
            extra: settings.extra.into(),
            ..ModelRequest::default()
        };
        Ok(Self(request, timeout))
    }
}

/// A text, or the file that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Instructions {
    Text(String),
    File { file: PathBuf },
}

/// A service whose operations are tools.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenApiFile {
    /// The document, JSON or YAML, beside the manifest.
    pub file: PathBuf,
    pub base_url: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
}

/// How tools may be used.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "ToolsForm")]
pub struct ToolsFile {
    pub policy: ToolPolicy,
    /// Longest time for a call.
    pub timeout: Option<Duration>,
    /// With more tools than this, the model searches.
    pub search_above: Option<usize>,
    /// How the model asks for tools.
    pub calls: ToolCalls,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ToolsForm {
    allow: Vec<adjutant::tools::Pattern>,
    deny: Vec<adjutant::tools::Pattern>,
    ask: Vec<adjutant::tools::Pattern>,
    on_interrupt: BTreeMap<String, adjutant::core::OnInterrupt>,
    sampling: bool,
    timeout: Option<Time>,
    search_above: Option<usize>,
    calls: ToolCalls,
}

/// A length of time such as `30s`.
struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        units::parse_duration(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

impl From<ToolsForm> for ToolsFile {
    fn from(form: ToolsForm) -> Self {
        Self {
            policy: ToolPolicy {
                allow: form.allow,
                deny: form.deny,
                ask: form.ask,
                on_interrupt: form.on_interrupt,
                sampling: form.sampling,
            },
            timeout: form.timeout.map(|time| time.0),
            search_above: form.search_above,
            calls: form.calls,
        }
    }
}

/// Other agents: names, or names with what they do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agents(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for Agents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Names(Vec<String>),
            Described(BTreeMap<String, String>),
        }
        let form = Form::deserialize(deserializer).map_err(|_| {
            serde::de::Error::custom(
                "expected a list of agents, or a map from each agent to what it does",
            )
        })?;
        Ok(Self(match form {
            Form::Names(names) => names
                .into_iter()
                .map(|name| (name, String::new()))
                .collect(),
            Form::Described(described) => described.into_iter().collect(),
        }))
    }
}

impl EquipmentFile {
    /// Reads the sections of a manifest that make an equipment.
    ///
    /// # Errors
    /// With line, field and fix.
    pub fn read(text: &str) -> Result<Self, ManifestError> {
        if sections::is_blank(text) {
            return Ok(Self::default());
        }
        read_yaml(text)
    }
}
