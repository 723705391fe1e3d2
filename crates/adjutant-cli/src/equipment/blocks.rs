//! The parts of the configuration file that are no single values.

use std::collections::BTreeMap;

use adjutant::{
    harness::BudgetPolicy,
    llm::ModelsConfig,
    mcp::ServerConfig,
    process::{ManifestError, read_yaml, supervise::DeclaredService},
    telemetry::{ExporterKind, LangfuseConfig, TelemetryConfig},
};
use serde::Deserialize;

use crate::sections;

/// The top-level keys that are read here.
pub const KEYS: &[&str] = &[
    "models",
    "mcp_servers",
    "mcpServers",
    "budget",
    "telemetry",
    "services",
];

/// What they say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Blocks {
    /// Providers, names for models, prices, limits.
    pub models: ModelsConfig,
    /// Servers that every agent may name in `mcp_servers` without saying more.
    #[serde(alias = "mcpServers")]
    pub mcp_servers: BTreeMap<String, ServerConfig>,
    /// What agents may spend whose manifest does not say it.
    pub budget: BudgetPolicy,
    /// Traces and metrics.
    pub telemetry: TelemetryConfig,
    /// Processes that a worker keeps running.
    pub services: BTreeMap<String, DeclaredService>,
}

impl Blocks {
    /// Reads them.
    ///
    /// # Errors
    /// With line, field and fix.
    pub fn read(text: &str) -> Result<Self, ManifestError> {
        if sections::is_blank(text) {
            return Ok(Self::default());
        }
        read_yaml(text)
    }

    /// Takes over what the environment says in the words of OpenTelemetry and Langfuse, where the file says nothing.
    pub fn with_environment(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let telemetry = &mut self.telemetry;
        if telemetry.exporter == ExporterKind::None
            && let Some(endpoint) = variable("OTEL_EXPORTER_OTLP_ENDPOINT")
        {
            telemetry.exporter = ExporterKind::Otlp;
            telemetry.endpoint = Some(endpoint);
            let protocol = variable("OTEL_EXPORTER_OTLP_PROTOCOL");
            if protocol.is_some_and(|protocol| protocol.starts_with("http")) {
                telemetry.protocol = adjutant::telemetry::Protocol::Http;
            }
        }
        if telemetry.langfuse.is_none()
            && let (Some(public), Some(secret)) = (
                variable("LANGFUSE_PUBLIC_KEY"),
                variable("LANGFUSE_SECRET_KEY"),
            )
        {
            let host = variable("LANGFUSE_HOST").or_else(|| variable("LANGFUSE_BASE_URL"));
            telemetry.langfuse = Some(LangfuseConfig {
                host: host.unwrap_or_else(|| "https://cloud.langfuse.com".to_owned()),
                public_key: public,
                secret_key: secret.into(),
            });
        }
        self
    }
}
