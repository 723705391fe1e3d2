//! To an OpenTelemetry collector or a Langfuse, by OTLP.
//!
//! Spans become the SDK's `SpanData` and go straight to its exporter, so that they keep the ids and times they have. The
//! exporter is driven by the queue's own thread and runtime, not by the SDK's batch processor: that one has no runtime, and
//! loses the last spans where it is shut down on the wrong thread. Figures go through the SDK's meters, which add them up.

mod convert;
mod http_client;
mod meters;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{
    MetricExporter, Protocol as Wire, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use opentelemetry_sdk::{Resource as SdkResource, trace::SpanExporter as _};
use tonic::transport::ClientTlsConfig;

use self::{convert::span_data, http_client::Client, meters::Meters};
use crate::{
    Error, Exporter, LangfuseConfig, LangfuseFields, Lost, Protocol, Queued, Record, Resource,
    Result, Secret, TelemetryConfig, TraceSink, conventions as names,
};

/// Tries beyond the first for one batch.
const RETRIES: usize = 3;
/// The pause before the second try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where something is sent, and how.
struct Target {
    protocol: Protocol,
    traces: String,
    /// Not every place takes figures.
    metrics: Option<String>,
    headers: HeaderMap,
    timeout: Duration,
    resource: SdkResource,
    scope: InstrumentationScope,
}

/// A sink for a collector.
pub(crate) fn collector(
    config: &TelemetryConfig,
    resource: &Resource,
) -> Result<Arc<dyn TraceSink>> {
    let pairs = config.headers.iter();
    let pairs = pairs.map(|(name, value)| (name.as_str(), value.clone()));
    let (default, path) = match config.protocol {
        Protocol::Grpc => ("http://localhost:4317", ["", ""]),
        Protocol::Http => ("http://localhost:4318", ["/v1/traces", "/v1/metrics"]),
    };
    let base = config.endpoint.as_deref().unwrap_or(default);
    let base = base.trim_end_matches('/').trim_end_matches("/v1/traces");
    let target = Target {
        protocol: config.protocol,
        traces: format!("{base}{}", path[0]),
        metrics: Some(format!("{base}{}", path[1])),
        headers: headers(pairs)?,
        timeout: config.timeout(),
        resource: sdk_resource(config, resource),
        scope: scope(config),
    };
    Ok(Arc::new(start("telemetry-otlp", target)?))
}

/// A sink for a Langfuse: HTTP only, traces only, and some fields that it looks for.
pub(crate) fn langfuse(
    config: &TelemetryConfig,
    langfuse: &LangfuseConfig,
    resource: &Resource,
) -> Result<Arc<dyn TraceSink>> {
    let (user, password) = (&langfuse.public_key, langfuse.secret_key.expose());
    let credentials = format!("Basic {}", BASE64.encode(format!("{user}:{password}")));
    let pairs = [
        ("authorization", Secret::from(credentials)),
        // Without it, what is sent is shown minutes later.
        ("x-langfuse-ingestion-version", Secret::from("4")),
    ];
    let host = langfuse.host.trim_end_matches('/');
    let target = Target {
        protocol: Protocol::Http,
        traces: format!("{host}/api/public/otel/v1/traces"),
        metrics: None,
        headers: headers(pairs.into_iter())?,
        timeout: config.timeout(),
        resource: sdk_resource(config, resource),
        scope: scope(config),
    };
    let sink = start("telemetry-langfuse", target)?;
    Ok(Arc::new(LangfuseFields(sink)))
}

fn start(name: &str, target: Target) -> Result<Queued> {
    Queued::start(name, move || OtlpExporter::new(target))
}

fn sdk_resource(config: &TelemetryConfig, resource: &Resource) -> SdkResource {
    let attributes = [
        KeyValue::new(names::SERVICE_NAME, config.service_name.clone()),
        KeyValue::new(names::SERVICE_VERSION, resource.version.clone()),
        KeyValue::new(names::SERVICE_INSTANCE_ID, resource.instance.clone()),
    ];
    SdkResource::builder_empty()
        .with_schema_url(attributes, config.semconv.schema_url())
        .build()
}

fn scope(config: &TelemetryConfig) -> InstrumentationScope {
    InstrumentationScope::builder("adjutant")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(config.semconv.schema_url())
        .build()
}

fn headers<'a>(pairs: impl Iterator<Item = (&'a str, Secret)>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let bad = |what: &str| Error::Config(vec![format!("header `{name}`: not a {what}")]);
        let key = HeaderName::try_from(name).map_err(|_| bad("header's name"))?;
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| bad("header's value"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

/// Sends spans and figures to one place.
struct OtlpExporter {
    spans: SpanExporter,
    meters: Option<Meters>,
    scope: InstrumentationScope,
    timeout: Duration,
}

impl OtlpExporter {
    /// Has to be called within the runtime that will drive it.
    fn new(target: Target) -> Result<Self> {
        let (mut spans, metrics) = match target.protocol {
            Protocol::Grpc => grpc(&target),
            Protocol::Http => http(&target),
        }
        .map_err(|error| Error::setup("set up the OTLP exporter", error))?;
        spans.set_resource(&target.resource);
        let meters = metrics.map(|exporter| Meters::new(exporter, &target.scope, target.resource));
        Ok(Self {
            spans,
            meters,
            scope: target.scope,
            timeout: target.timeout,
        })
    }
}

type Exporters = (SpanExporter, Option<MetricExporter>);
type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn retry_policy() -> RetryPolicy {
    RetryPolicy::recommended()
        .with_max_retries(RETRIES)
        .with_initial_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
}

/// The library adds headers from `OTEL_EXPORTER_OTLP_HEADERS`, which may be meant for another place, and reading the
/// environment is the program's business: only the headers that are configured are sent.
fn grpc(target: &Target) -> Result<Exporters, BoxError> {
    let headers = target.headers.clone();
    let only_ours = move |mut request: tonic::Request<()>| {
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers.clone());
        Ok(request)
    };
    let tls = || ClientTlsConfig::new().with_enabled_roots();
    let is_tls = target.traces.starts_with("https://");
    let mut spans = SpanExporter::builder()
        .with_tonic()
        .with_protocol(Wire::Grpc)
        .with_endpoint(&target.traces)
        .with_timeout(target.timeout)
        .with_interceptor(only_ours.clone())
        .with_retry_policy(retry_policy());
    if is_tls {
        spans = spans.with_tls_config(tls());
    }
    let Some(endpoint) = &target.metrics else {
        return Ok((spans.build()?, None));
    };
    let mut metrics = MetricExporter::builder()
        .with_tonic()
        .with_protocol(Wire::Grpc)
        .with_endpoint(endpoint)
        .with_timeout(target.timeout)
        .with_interceptor(only_ours)
        .with_retry_policy(retry_policy());
    if is_tls {
        metrics = metrics.with_tls_config(tls());
    }
    Ok((spans.build()?, Some(metrics.build()?)))
}

fn http(target: &Target) -> Result<Exporters, BoxError> {
    let client = Client::new(target.headers.clone(), target.timeout)?;
    let spans = SpanExporter::builder()
        .with_http()
        .with_protocol(Wire::HttpBinary)
        .with_endpoint(&target.traces)
        .with_timeout(target.timeout)
        .with_http_client(client.clone())
        .with_retry_policy(retry_policy())
        .build()?;
    let Some(endpoint) = &target.metrics else {
        return Ok((spans, None));
    };
    let metrics = MetricExporter::builder()
        .with_http()
        .with_protocol(Wire::HttpBinary)
        .with_endpoint(endpoint)
        .with_timeout(target.timeout)
        .with_http_client(client)
        .with_retry_policy(retry_policy())
        .build()?;
    Ok((spans, Some(metrics)))
}

#[async_trait]
impl Exporter for OtlpExporter {
    async fn export(&mut self, batch: Vec<Record>) -> Result<(), Lost> {
        let mut spans = Vec::new();
        for record in batch {
            match record {
                Record::Span(span) => spans.push(span_data(*span, &self.scope)),
                Record::Measurement(measurement) => {
                    if let Some(meters) = &mut self.meters {
                        meters.record(measurement);
                    }
                }
            }
        }
        if spans.is_empty() {
            return Ok(());
        }
        let records = spans.len() as u64;
        let lost = |reason: String| Lost { records, reason };
        match tokio::time::timeout(self.timeout, self.spans.export(spans)).await {
            Ok(result) => result.map_err(|error| lost(error.to_string())),
            Err(_) => Err(lost(format!("no answer within {:?}", self.timeout))),
        }
    }

    async fn flush(&mut self) {
        if let Some(meters) = &self.meters {
            meters.flush(self.timeout).await;
        }
    }

    async fn close(&mut self) {
        if let Some(meters) = self.meters.take() {
            meters.close().await;
        }
    }
}
