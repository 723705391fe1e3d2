//! What people say about telemetry, and the sink that comes of it.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde::Deserialize;

use crate::{
    Capture, ConsoleExporter, Error, NoTrace, Redactor, Result, Semconv, Tee, TraceSink,
    TracerOptions,
};

/// What is traced, and where it goes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Where traces and metrics go. Default: `none`.
    pub exporter: ExporterKind,
    /// What the console shows. Default: `tree`.
    pub console: ConsoleStyle,
    /// Of an OTLP collector, for example `http://localhost:4317` for gRPC or `http://localhost:4318` for HTTP, to which
    /// `/v1/traces` and `/v1/metrics` are added. Default: these.
    pub endpoint: Option<String>,
    /// How the collector is spoken to. Default: `grpc`.
    pub protocol: Protocol,
    /// Sent with every request; the values are secrets.
    pub headers: BTreeMap<String, Secret>,
    /// Longest time for one request and its retries, in milliseconds, 100 to 60000. Default: 10000.
    pub timeout_ms: u64,
    /// Whether messages, and the arguments and results of tools, are traced. Default: no.
    pub capture_content: bool,
    /// Which revision of the conventions is written. Default: `gen_ai_latest_experimental`.
    pub semconv: Semconv,
    /// What the traces are of. Default: `adjutant`.
    pub service_name: String,
    /// A Langfuse that gets the traces too, or alone with the exporter `none`.
    pub langfuse: Option<LangfuseConfig>,
    /// The part of the runs that is traced, 0 to 1. Default: 1.
    pub sample_ratio: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            exporter: ExporterKind::None,
            console: ConsoleStyle::Tree,
            endpoint: None,
            protocol: Protocol::Grpc,
            headers: BTreeMap::new(),
            timeout_ms: 10_000,
            capture_content: false,
            semconv: Semconv::default(),
            service_name: "adjutant".into(),
            langfuse: None,
            sample_ratio: 1.0,
        }
    }
}

/// Where traces and metrics go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExporterKind {
    /// Nowhere.
    None,
    /// To the console.
    Console,
    /// To a collector.
    Otlp,
}

/// What the console shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleStyle {
    /// Each trace as a tree, once it is over.
    Tree,
    /// Each span and figure as a line of JSON.
    Json,
}

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, in protobuf.
    Http,
}

/// A Langfuse.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LangfuseConfig {
    /// Such as `https://cloud.langfuse.com`.
    pub host: String,
    /// The project's public key.
    pub public_key: String,
    /// The project's secret key.
    pub secret_key: Secret,
}

/// Text that is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Which program the traces are of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    /// The program's version.
    pub version: String,
    /// Which of several running ones, another for each start.
    pub instance: String,
}

impl TelemetryConfig {
    /// Says everything that is wrong with it.
    ///
    /// # Errors
    /// When anything is.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Vec::new();
        let mut check = |good: bool, problem: &str| {
            if !good {
                problems.push(problem.to_owned());
            }
        };
        check(
            (0.0..=1.0).contains(&self.sample_ratio),
            "sample_ratio is a number from 0 to 1",
        );
        check(
            (100..=60_000).contains(&self.timeout_ms),
            "timeout_ms is a number from 100 to 60000",
        );
        check(
            !self.service_name.trim().is_empty(),
            "service_name is empty",
        );
        if let Some(endpoint) = &self.endpoint {
            check(is_url(endpoint), "endpoint begins with http:// or https://");
        }
        if let Some(langfuse) = &self.langfuse {
            check(
                is_url(&langfuse.host),
                "langfuse.host begins with http:// or https://",
            );
            let keys = [langfuse.public_key.as_str(), langfuse.secret_key.expose()];
            check(
                keys.iter().all(|key| !key.is_empty()),
                "langfuse needs public_key and secret_key",
            );
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Error::Config(problems)),
        }
    }

    /// How spans are made under this configuration, by a redactor that knows these secrets and those of the configuration.
    #[must_use]
    pub fn tracer_options(&self, mut secrets: Vec<String>) -> TracerOptions {
        let own = self
            .headers
            .values()
            .chain(self.langfuse.as_ref().map(|it| &it.secret_key));
        secrets.extend(own.map(|secret| secret.expose().to_owned()));
        TracerOptions {
            semconv: self.semconv,
            capture: match self.capture_content {
                true => Capture::Content,
                false => Capture::None,
            },
            redactor: Redactor::new(secrets),
            sample_ratio: self.sample_ratio,
        }
    }

    /// The sink that is configured. A console's lines go to `console`.
    ///
    /// # Errors
    /// When the configuration is wrong or the program was built without what it asks for. A collector that is away is no
    /// error.
    pub fn sink(
        &self,
        resource: &Resource,
        console: impl std::io::Write + Send + 'static,
    ) -> Result<Arc<dyn TraceSink>> {
        self.validate()?;
        let mut sinks: Vec<Arc<dyn TraceSink>> = Vec::new();
        match self.exporter {
            ExporterKind::None => {}
            ExporterKind::Console => {
                sinks.push(Arc::new(ConsoleExporter::start(console, self.console)?));
            }
            ExporterKind::Otlp => sinks.push(collector(self, resource)?),
        }
        if let Some(config) = &self.langfuse {
            sinks.push(langfuse(self, config, resource)?);
        }
        Ok(match sinks.len() {
            0 => Arc::new(NoTrace),
            1 => sinks.remove(0),
            _ => Arc::new(Tee(sinks)),
        })
    }

    /// Longest time for one request and its retries.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

fn is_url(text: &str) -> bool {
    let host = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty())
}

#[cfg(feature = "otlp")]
use crate::otlp::{collector, langfuse};

#[cfg(not(feature = "otlp"))]
fn collector(_: &TelemetryConfig, _: &Resource) -> Result<Arc<dyn TraceSink>> {
    Err(Error::NotBuilt("otlp"))
}

#[cfg(not(feature = "otlp"))]
fn langfuse(_: &TelemetryConfig, _: &LangfuseConfig, _: &Resource) -> Result<Arc<dyn TraceSink>> {
    Err(Error::NotBuilt("otlp"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: serde_json::Value) -> Result<TelemetryConfig, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn a_full_configuration_is_read_and_shows_no_secret() {
        let config = read(json!({
            "exporter": "otlp", "endpoint": "http://localhost:4318", "protocol": "http",
            "headers": {"x-key": "canary-one"}, "capture_content": true, "semconv": "1.36",
            "service_name": "shop", "sample_ratio": 0.5, "console": "json", "timeout_ms": 500,
            "langfuse": {"host": "https://lf.test", "public_key": "pk", "secret_key": "canary-two"},
        }));
        let config = config.unwrap();
        config.validate().unwrap();
        assert!(!format!("{config:?}").contains("canary"));
        let options = config.tracer_options(vec!["canary-three".into()]);
        let text = options.redactor.text("canary-one canary-two canary-three");
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn unknown_fields_are_refused_and_all_problems_are_told_at_once() {
        assert!(read(json!({"exporters": "otlp"})).is_err());
        let config =
            read(json!({"endpoint": "localhost:4317", "sample_ratio": 2.0, "timeout_ms": 1}));
        let Err(Error::Config(problems)) = config.unwrap().validate() else {
            panic!("it is wrong");
        };
        assert_eq!(problems.len(), 3, "{problems:?}");
    }

    #[test]
    fn nothing_configured_is_a_sink_that_is_not_worth_asking() {
        let config = read(json!({})).unwrap();
        let sink = config.sink(&Resource::default(), std::io::sink()).unwrap();
        assert!(!sink.enabled());
    }

    #[cfg(not(feature = "otlp"))]
    #[test]
    fn what_was_not_built_is_told() {
        let config = read(json!({"exporter": "otlp"})).unwrap();
        let error = config
            .sink(&Resource::default(), std::io::sink())
            .err()
            .unwrap();
        assert!(error.to_string().contains("`otlp`"));
    }
}
