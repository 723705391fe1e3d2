//! What a run looks like in its traces.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::sync::Arc;

use adjutant_core::{
    AgentError, FinishReason, Json, Message, ModelRequest, ModelResponse, Role, RunId, TokenUsage,
    ToolAnswer, ToolUse,
};
use adjutant_telemetry::{
    AttemptInfo, Attributes, Caller, Capture, LangfuseFields, McpCall, MemorySink, Outcome,
    Redactor, Semconv, Span, SpanKind, Status, TraceSink, Tracer, TracerOptions, attempt_context,
};
use serde_json::json;

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn tracer(options: TracerOptions) -> (Arc<MemorySink>, Tracer) {
    let sink = Arc::new(MemorySink::default());
    (Arc::clone(&sink), Tracer::new(sink, options))
}

fn request() -> ModelRequest {
    ModelRequest {
        model: "gemini/gemini-3".into(),
        messages: vec![
            Message::new(Role::System, "be brief"),
            Message::user("my password: canary-content"),
        ],
        temperature: Some(0.5),
        max_output_tokens: Some(100),
        ..ModelRequest::default()
    }
}

fn response() -> ModelResponse {
    ModelResponse {
        message: Message::assistant("canary-answer"),
        finish_reason: FinishReason::Stop,
        model: "gemini-3-001".into(),
        usage: TokenUsage {
            input_tokens: 12,
            output_tokens: 34,
            cache_read_tokens: Some(5),
            ..TokenUsage::default()
        },
        cost_usd: Some(0.25),
        response_id: Some("resp-1".into()),
    }
}

fn read_file() -> ToolUse {
    let mut call = ToolUse::new("fs__read_file", Json::from(json!({"path": "canary-path"})));
    call.call_id = "call-1".into();
    call
}

/// A run with a step, in which a tool is called, and a model call beside it.
fn trace_a_run(tracer: &Tracer, info: AttemptInfo) {
    let mut attempt = tracer.attempt(info);
    attempt.input(&[Message::user("canary-input")]);
    let step = attempt.step("fetch");
    let mut tool = step.scope().tool(&read_file());
    let mut mcp = McpCall::new("tools/call");
    mcp.target = Some("read_file".into());
    mcp.transport = Some("pipe");
    tool.mcp(mcp);
    tool.end(Ok(&ToolAnswer::text("canary-result")));
    step.end(Ok(()));
    let mut chat = attempt.chat(&request());
    chat.first_chunk();
    chat.first_chunk();
    chat.end(Ok(&response()));
    attempt.output(&[Message::assistant("canary-output")]);
    attempt.end(Outcome::Succeeded);
}

fn info() -> AttemptInfo {
    AttemptInfo::new(RunId::new(), "triage", 1, 1)
}

fn names(spans: &[&Span]) -> Vec<String> {
    spans.iter().map(|span| span.name.to_string()).collect()
}

#[test]
fn the_spans_of_a_run_form_a_tree_of_known_ids() {
    let (sink, tracer) = tracer(TracerOptions::default());
    let info = info();
    let root = attempt_context(info.run, 1);
    trace_a_run(&tracer, info.clone());
    let spans = sink.spans();
    assert_eq!(spans.len(), 4);
    let attempt = sink.span("invoke_agent triage").unwrap();
    assert_eq!((attempt.context, attempt.parent), (root, None));
    assert_eq!(
        names(&attempt.children(&spans)),
        ["step fetch", "chat gemini-3"]
    );
    let step = sink.span("step fetch").unwrap();
    assert_eq!(
        names(&step.children(&spans)),
        ["execute_tool fs__read_file"]
    );
    for span in &spans {
        assert_eq!(
            span.attributes.text("adjutant.run.id"),
            Some(info.run.to_string().as_str())
        );
        assert_eq!(span.attributes.text("gen_ai.agent.name"), Some("triage"));
        assert!(
            span.ended >= span.started && span.status == Status::Unset,
            "{span:?}"
        );
    }
}

#[test]
fn a_model_call_tells_what_was_asked_and_what_it_took() {
    let (sink, tracer) = tracer(TracerOptions::default());
    trace_a_run(&tracer, info());
    let chat = sink.span("chat gemini-3").unwrap();
    assert_eq!(chat.kind, SpanKind::Client);
    let it = &chat.attributes;
    for (name, text) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "gcp.gemini"),
        ("gen_ai.request.model", "gemini-3"),
        ("gen_ai.response.model", "gemini-3-001"),
        ("gen_ai.response.id", "resp-1"),
    ] {
        assert_eq!(it.text(name), Some(text), "{name}");
    }
    for (name, number) in [
        ("gen_ai.request.max_tokens", 100),
        ("gen_ai.usage.input_tokens", 12),
        ("gen_ai.usage.output_tokens", 34),
        ("gen_ai.usage.cache_read.input_tokens", 5),
    ] {
        assert_eq!(it.int(name), Some(number), "{name}");
    }
    assert_eq!(it.get("gen_ai.request.stream"), Some(&true.into()));
    assert!(it.get("gen_ai.response.time_to_first_chunk").is_some());
    let tokens = sink.measurements("gen_ai.client.token.usage");
    let values: Vec<f64> = tokens.iter().map(|it| it.value).collect();
    assert_eq!(values, [12.0, 34.0]);
    assert_eq!(
        tokens[0].attributes.text("gen_ai.token.type"),
        Some("input")
    );
    for metric in [
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.execute_tool.duration",
        "mcp.client.operation.duration",
        "gen_ai.invoke_agent.duration",
        "adjutant.run.attempts",
        "adjutant.cost",
    ] {
        assert_eq!(sink.measurements(metric).len(), 1, "{metric}");
    }
    let attempts = sink.measurements("adjutant.run.attempts");
    assert_eq!(
        attempts[0].attributes.text("adjutant.outcome"),
        Some("succeeded")
    );
    let figures = sink.measurements("gen_ai.invoke_agent.tool_calls");
    assert_eq!(figures[0].value.to_bits(), 1.0_f64.to_bits());
}

#[test]
fn an_mcp_request_within_a_tool_call_makes_no_span_of_its_own() {
    let (sink, tracer) = tracer(TracerOptions::default());
    trace_a_run(&tracer, info());
    let tool = sink.span("execute_tool fs__read_file").unwrap();
    assert_eq!(tool.attributes.text("mcp.method.name"), Some("tools/call"));
    assert_eq!(tool.attributes.text("network.transport"), Some("pipe"));
    assert_eq!(
        tool.attributes.text("gen_ai.tool.name"),
        Some("fs__read_file")
    );
    assert_eq!(tool.attributes.text("gen_ai.tool.call.id"), Some("call-1"));
    let of_mcp = sink.spans();
    let of_mcp = of_mcp
        .iter()
        .filter(|span| span.attributes.get("mcp.method.name").is_some());
    assert_eq!(of_mcp.count(), 1);

    let attempt = tracer.attempt(info());
    attempt.mcp(McpCall::new("tools/list")).end(Ok(()));
    assert_eq!(sink.span("tools/list").unwrap().kind, SpanKind::Client);
}

#[test]
fn content_is_traced_only_when_asked_for_and_then_without_secrets() {
    let (sink, plain) = tracer(TracerOptions::default());
    trace_a_run(&plain, info());
    let text = serde_json::to_string(&sink.spans()).unwrap();
    assert!(!text.contains("canary"), "{text}");

    let (sink, telling) = tracer(TracerOptions {
        capture: Capture::Content,
        redactor: Redactor::new(vec!["canary-path".into()]),
        ..TracerOptions::default()
    });
    trace_a_run(&telling, info());
    let text = serde_json::to_string(&sink.spans()).unwrap();
    for told in [
        "canary-input",
        "canary-answer",
        "canary-result",
        "canary-output",
    ] {
        assert!(text.contains(told), "{told}");
    }
    for secret in ["canary-content", "canary-path"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let chat = sink.span("chat gemini-3").unwrap();
    let instructions = chat.attributes.text("gen_ai.system_instructions").unwrap();
    assert!(instructions.contains("be brief"));
}

#[test]
fn secrets_are_taken_out_of_names_failures_and_events() {
    let secret = "hunter2-canary";
    let (sink, tracer) = tracer(TracerOptions {
        redactor: Redactor::new(vec![secret.into()]),
        ..TracerOptions::default()
    });
    let mut attempt = tracer.attempt(info());
    attempt.event("note", Attributes::default().with("text", secret));
    attempt
        .step(secret)
        .end(Err((&AgentError::permanent("k", secret)).into()));
    let long = "x".repeat(1020) + secret;
    attempt
        .step("long")
        .end(Err((&AgentError::permanent("k", long)).into()));
    attempt.end(Outcome::Cancelled);
    let text = serde_json::to_string(&sink.spans()).unwrap();
    assert!(
        text.contains("[redacted]") && !text.contains("hunter"),
        "{text}"
    );
}

#[test]
fn failures_and_dropped_futures_are_errors_of_their_span() {
    let (sink, tracer) = tracer(TracerOptions::default());
    let attempt = tracer.attempt(info());
    drop(attempt.chat(&request()));
    attempt
        .tool(&read_file())
        .end(Ok(&ToolAnswer::failed("no such file")));
    let error = AgentError::retriable("rate_limited", "later");
    attempt.step("s").end(Err((&error).into()));
    drop(attempt);
    let kind = |name: &str| {
        let span = sink.span(name).unwrap();
        (
            span.attributes.text("error.type").map(str::to_owned),
            span.status,
        )
    };
    assert_eq!(kind("chat gemini-3").0.as_deref(), Some("cancelled"));
    assert_eq!(
        kind("execute_tool fs__read_file").0.as_deref(),
        Some("tool_error")
    );
    assert_eq!(
        kind("step s"),
        (Some("rate_limited".into()), Status::Error("later".into()))
    );
    let root = sink.span("invoke_agent triage").unwrap();
    assert_eq!(root.status, Status::Unset);
    assert_eq!(
        root.attributes.text("adjutant.outcome"),
        Some("interrupted")
    );
}

#[test]
fn a_claim_is_linked_to_the_earlier_ones_and_to_who_asked() {
    let (sink, tracer) = tracer(TracerOptions::default());
    let mut info = AttemptInfo::new(RunId::new(), "triage", 3, 20);
    info.caller = Caller::from_headers(Some(CALLER), Some("tenant=a"));
    let run = info.run;
    let attempt = tracer.attempt(info);
    let baggage = ("baggage", "tenant=a".to_owned());
    assert!(attempt.scope().headers().contains(&baggage));
    attempt.end(Outcome::Suspended);
    let links = sink.spans()[0].links.clone();
    assert_eq!(links.len(), 9);
    assert_eq!(links[7].context, attempt_context(run, 19));
    assert_eq!(links[8].context.traceparent(), CALLER);
}

#[test]
fn sampling_treats_all_claims_of_a_run_alike_and_keeps_the_figures() {
    let (sink, tracer) = tracer(TracerOptions {
        sample_ratio: 0.5,
        ..TracerOptions::default()
    });
    let mut sampled = 0;
    for _ in 0..400 {
        let run = RunId::new();
        let flags = |epoch| {
            let attempt = tracer.attempt(AttemptInfo::new(run, "a", 1, epoch));
            let step = attempt.step("s");
            let flags = step.traceparent().ends_with("-01");
            step.end(Ok(()));
            attempt.end(Outcome::Succeeded);
            flags
        };
        let (first, second) = (flags(1), flags(2));
        assert_eq!(first, second, "{run}");
        sampled += usize::from(first);
    }
    // 400 fair coins: outside of this once in 10^14.
    assert!((120..280).contains(&sampled), "{sampled}");
    assert_eq!(sink.spans().len(), sampled * 4);
    assert_eq!(sink.measurements("adjutant.run.attempts").len(), 800);
}

#[test]
fn without_a_sink_the_submitters_trace_is_passed_through() {
    let tracer = Tracer::disabled();
    let mut info = info();
    info.caller = Caller::from_headers(Some(CALLER), None);
    let attempt = tracer.attempt(info);
    assert_eq!(attempt.step("s").traceparent(), CALLER);
}

#[test]
fn the_older_revision_has_the_older_words() {
    let (sink, tracer) = tracer(TracerOptions {
        semconv: Semconv::V1_36,
        capture: Capture::Content,
        ..TracerOptions::default()
    });
    trace_a_run(&tracer, info());
    let text = serde_json::to_string(&sink.spans()).unwrap();
    assert!(text.contains("gen_ai.system\"") && !text.contains("gen_ai.provider.name"));
    assert!(!text.contains("mcp.") && !text.contains("canary"), "{text}");
    assert!(sink.measurements("gen_ai.execute_tool.duration").is_empty());
    assert_eq!(
        sink.measurements("gen_ai.client.operation.duration").len(),
        1
    );
}

#[test]
fn langfuse_finds_the_runs_fields_on_every_span() {
    let sink = Arc::new(LangfuseFields(MemorySink::default()));
    let tracer = Tracer::new(
        Arc::clone(&sink) as Arc<dyn TraceSink>,
        TracerOptions {
            capture: Capture::Content,
            ..TracerOptions::default()
        },
    );
    let mut info = info();
    info.user = Some("ann".into());
    info.tags = vec!["nightly".into()];
    let run = info.run.to_string();
    trace_a_run(&tracer, info);
    for span in sink.0.spans() {
        assert_eq!(
            span.attributes.text("langfuse.session.id"),
            Some(run.as_str())
        );
        assert_eq!(span.attributes.text("langfuse.user.id"), Some("ann"));
        assert!(span.attributes.get("langfuse.trace.tags").is_some());
    }
    let of = |span: &str, field: &str| {
        let span = sink.0.span(span).unwrap();
        span.attributes.text(field).unwrap_or_default().to_owned()
    };
    let (chat, tool) = ("chat gemini-3", "execute_tool fs__read_file");
    assert_eq!(of(chat, "langfuse.observation.type"), "generation");
    assert_eq!(of(tool, "langfuse.observation.type"), "tool");
    assert!(of(chat, "langfuse.observation.output").contains("canary-answer"));
    assert!(of(tool, "langfuse.observation.input").contains("canary-path"));
    let cost = sink.0.span(chat).unwrap();
    assert_eq!(cost.attributes.get("gen_ai.usage.cost"), Some(&0.25.into()));
}
