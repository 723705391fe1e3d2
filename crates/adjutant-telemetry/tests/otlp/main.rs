//! What a collector gets, over gRPC and HTTP, and what happens when there is none.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests may stop at the first surprise, as tests may"
)]

mod collector;

use std::{collections::HashSet, sync::Arc};

use adjutant_core::{
    FinishReason, Json, Message, ModelRequest, ModelResponse, RunId, TokenUsage, ToolAnswer,
    ToolUse,
};
use adjutant_telemetry::{
    AttemptInfo, ExporterKind, LangfuseConfig, Outcome, Protocol, Resource, TelemetryConfig,
    TraceSink, Tracer, TracerOptions, attempt_context,
};
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};

use crate::collector::{Collector, attribute, number, text};

fn config(protocol: Protocol, endpoint: &str) -> TelemetryConfig {
    TelemetryConfig {
        exporter: ExporterKind::Otlp,
        endpoint: Some(endpoint.to_owned()),
        protocol,
        headers: [("authorization".to_owned(), "ours".into())].into(),
        service_name: "shop".into(),
        ..TelemetryConfig::default()
    }
}

fn tracer(config: &TelemetryConfig) -> (Tracer, Arc<dyn TraceSink>) {
    let resource = Resource {
        version: "1.2.3".into(),
        instance: "node-1".into(),
    };
    let sink = config.sink(&resource, std::io::sink()).unwrap();
    let tracer = Tracer::new(Arc::clone(&sink), config.tracer_options(Vec::new()));
    (tracer, sink)
}

fn response() -> ModelResponse {
    ModelResponse {
        message: Message::assistant("hello"),
        finish_reason: FinishReason::Stop,
        model: "gpt-5-2025".into(),
        usage: TokenUsage {
            input_tokens: 12,
            output_tokens: 34,
            ..TokenUsage::default()
        },
        cost_usd: Some(0.25),
        response_id: None,
    }
}

/// A run whose second claim does a step, in which a tool fails, and a model call.
fn trace_a_run(tracer: &Tracer, run: RunId) {
    let mut info = AttemptInfo::new(run, "triage", 1, 2);
    info.user = Some("ann".into());
    info.tags = vec!["nightly".into()];
    let attempt = tracer.attempt(info);
    let step = attempt.step("fetch");
    let tool = step.scope().tool(&ToolUse::new("read_file", Json::null()));
    tool.end(Ok(&ToolAnswer::failed("no such file")));
    step.end(Ok(()));
    let request = ModelRequest {
        model: "openai/gpt-5".into(),
        messages: vec![Message::user("hi")],
        ..ModelRequest::default()
    };
    attempt.chat(&request).end(Ok(&response()));
    attempt.end(Outcome::Succeeded);
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap()
}

async fn check_what_a_collector_gets(protocol: Protocol) {
    let collector = Collector::start(protocol).await;
    let (tracer, sink) = tracer(&config(protocol, &collector.endpoint));
    let run = RunId::new();
    trace_a_run(&tracer, run);
    tracer.flush().await;
    assert_eq!(sink.dropped(), 0);

    let spans = collector.spans();
    assert_eq!(spans.len(), 4);
    let root = named(&spans, "invoke_agent triage");
    let (step, tool) = (
        named(&spans, "step fetch"),
        named(&spans, "execute_tool read_file"),
    );
    let chat = named(&spans, "chat gpt-5");
    let context = attempt_context(run, 2);
    assert_eq!(root.trace_id, context.trace_id.0);
    assert_eq!(root.span_id, context.span_id.0);
    assert!(root.parent_span_id.is_empty());
    assert_eq!(root.links[0].trace_id, attempt_context(run, 1).trace_id.0);
    assert_eq!(
        (&step.parent_span_id, &chat.parent_span_id),
        (&root.span_id, &root.span_id)
    );
    assert_eq!(tool.parent_span_id, step.span_id);
    for span in &spans {
        assert_eq!(span.trace_id, root.trace_id);
        assert_eq!(text(&span.attributes, "adjutant.run.id"), run.to_string());
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    let status = tool.status.clone().unwrap();
    assert_eq!(status.code, i32::from(StatusCode::Error));
    assert_eq!(text(&tool.attributes, "error.type"), "tool_error");
    assert_eq!(text(&chat.attributes, "gen_ai.provider.name"), "openai");
    assert_eq!(number(&chat.attributes, "gen_ai.usage.output_tokens"), 34);
    assert!(attribute(&chat.attributes, "gen_ai.output.messages").is_none());
    check_origin(&collector);
    check_metrics(&collector);
}

fn check_origin(collector: &Collector) {
    for request in collector.requests() {
        assert_eq!(request.header("authorization"), ["ours"]);
        assert_eq!(request.header("x-of-the-environment"), [""; 0]);
    }
    let resource = collector.resource();
    for (name, value) in [
        ("service.name", "shop"),
        ("service.version", "1.2.3"),
        ("service.instance.id", "node-1"),
    ] {
        assert_eq!(text(&resource.attributes, name), value);
    }
}

fn check_metrics(collector: &Collector) {
    let metrics = collector.histograms();
    let tokens = metrics.get("gen_ai.client.token.usage").unwrap();
    assert_eq!((tokens.count, tokens.sum), (2, 46.0));
    for name in [
        "gen_ai.client.operation.duration",
        "gen_ai.execute_tool.duration",
        "gen_ai.invoke_agent.duration",
    ] {
        assert_eq!(metrics.get(name).unwrap().count, 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_the_whole_run_over_grpc() {
    check_what_a_collector_gets(Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_the_whole_run_over_http() {
    check_what_a_collector_gets(Protocol::Http).await;
}

/// The same in a runtime of one thread, where the SDK's own shutdown would lose the last spans.
#[tokio::test]
async fn a_runtime_of_one_thread_loses_nothing_either() {
    check_what_a_collector_gets(Protocol::Http).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_from_the_environment_are_sent_nowhere() {
    for test in [
        "a_collector_gets_the_whole_run_over_grpc",
        "a_collector_gets_the_whole_run_over_http",
    ] {
        let headers = "x-of-the-environment=canary,authorization=canary";
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env("OTEL_EXPORTER_OTLP_HEADERS", headers)
            .kill_on_drop(true)
            .output();
        let output = child.await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_at_the_end_loses_no_span() {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let collector = Collector::start(protocol).await;
        let (tracer, sink) = tracer(&config(protocol, &collector.endpoint));
        for _ in 0..200 {
            let attempt = tracer.attempt(AttemptInfo::new(RunId::new(), "a", 1, 1));
            for _ in 0..10 {
                attempt.step("s").end(Ok(()));
            }
            attempt.end(Outcome::Succeeded);
        }
        tracer.flush().await;
        let spans = collector.spans();
        let ids: HashSet<_> = spans.iter().map(|it| (&it.trace_id, &it.span_id)).collect();
        assert_eq!((ids.len(), spans.len(), sink.dropped()), (2200, 2200, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_nobody_waits_and_what_is_lost_is_counted() {
    // A port that nobody listens on, and one where nobody answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (silent_at, closed_at) = (silent.local_addr().unwrap(), closed.local_addr().unwrap());
    drop(closed);
    for protocol in [Protocol::Grpc, Protocol::Http] {
        for address in [silent_at, closed_at] {
            let mut config = config(protocol, &format!("http://{address}"));
            config.timeout_ms = 300;
            let (tracer, sink) = tracer(&config);
            // Returns, although nothing is ever taken.
            for _ in 0..50 {
                trace_a_run(&tracer, RunId::new());
            }
            tracer.flush().await;
            assert_eq!(sink.dropped(), 200, "{protocol:?} {address}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_busy_is_asked_again() {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let collector = Collector::start(protocol).await;
        collector.refuse(1);
        let (tracer, sink) = tracer(&config(protocol, &collector.endpoint));
        trace_a_run(&tracer, RunId::new());
        tracer.flush().await;
        assert_eq!(
            (collector.spans().len(), sink.dropped()),
            (4, 0),
            "{protocol:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn langfuse_gets_its_headers_its_fields_and_no_metrics() {
    let collector = Collector::start(Protocol::Http).await;
    let config = TelemetryConfig {
        langfuse: Some(LangfuseConfig {
            host: collector.endpoint.clone() + "/",
            public_key: "pk-lf-1".into(),
            secret_key: "sk-lf-2".into(),
        }),
        capture_content: true,
        ..TelemetryConfig::default()
    };
    let (tracer, sink) = tracer(&config);
    let run = RunId::new();
    trace_a_run(&tracer, run);
    tracer.flush().await;
    assert_eq!(sink.dropped(), 0);
    let requests = collector.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/api/public/otel/v1/traces");
    assert_eq!(
        requests[0].header("authorization"),
        ["Basic cGstbGYtMTpzay1sZi0y"]
    );
    assert_eq!(requests[0].header("x-langfuse-ingestion-version"), ["4"]);
    let spans = collector.spans();
    for span in &spans {
        let it = &span.attributes;
        assert_eq!(text(it, "langfuse.session.id"), run.to_string());
        assert_eq!(text(it, "langfuse.user.id"), "ann");
        assert!(attribute(it, "langfuse.trace.tags").is_some());
    }
    let chat = &named(&spans, "chat gpt-5").attributes;
    assert_eq!(text(chat, "langfuse.observation.type"), "generation");
    assert!(text(chat, "langfuse.observation.input").contains("hi"));
    assert!(text(chat, "langfuse.observation.output").contains("hello"));
    assert!(attribute(chat, "gen_ai.usage.cost").is_some());
}

#[test]
fn options_follow_the_configuration() {
    let options: TracerOptions = config(Protocol::Grpc, "http://x").tracer_options(Vec::new());
    assert_eq!(options.redactor.text("ours"), "[redacted]");
}
