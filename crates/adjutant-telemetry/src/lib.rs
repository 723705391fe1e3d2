//! Traces and metrics of runs, models and tools, named by OpenTelemetry's GenAI and MCP conventions.
//!
//! A [`Tracer`] makes the right spans and hands each, once it is complete, to a [`TraceSink`]: nowhere, to a console, to
//! memory, or (feature `otlp`) to an OpenTelemetry collector or Langfuse. A sink never makes an agent wait: what cannot be
//! taken at once is dropped and counted.
//!
//! Every claim of a run is a trace of its own, linked to the earlier ones, since a run may last for weeks and a span is sent
//! when it ends. Trace ids follow from run and epoch, so the pieces find each other without anything being stored.
//!
//! ```
//! use std::sync::Arc;
//! use adjutant_core::{ModelRequest, RunId};
//! use adjutant_telemetry::{AttemptInfo, MemorySink, Outcome, Tracer, TracerOptions};
//!
//! let sink = Arc::new(MemorySink::default());
//! let tracer = Tracer::new(sink.clone(), TracerOptions::default());
//! let attempt = tracer.attempt(AttemptInfo::new(RunId::new(), "triage", 1, 1));
//! drop(attempt.chat(&ModelRequest { model: "openai/gpt-5".into(), ..ModelRequest::default() }));
//! attempt.end(Outcome::Succeeded);
//! assert_eq!(sink.span("invoke_agent triage").unwrap().children(&sink.spans()).len(), 1);
//! ```

mod attempt;
mod attribute; // names and values
mod chat;
mod config;
mod console;
mod console_tree;
mod content; // messages as the conventions write them
mod context; // trace and span ids, `traceparent`
pub mod conventions; // every name, in one table
mod error;
mod langfuse;
mod mcp;
mod measurement; // one figure of a metric
mod memory;
mod open;
#[cfg(feature = "otlp")]
mod otlp;
mod queue; // from whoever is traced to a slow sink, without waiting
mod redact; // secrets
mod scope;
mod sink; // the contract, and the sinks that have no file of their own
mod span; // a finished piece of work
mod tool;
mod tracer; // from here on: who makes spans

pub use crate::{
    attempt::{AttemptInfo, AttemptTrace, Outcome},
    attribute::{Attributes, Value},
    chat::ChatSpan,
    config::{
        ConsoleStyle, ExporterKind, LangfuseConfig, Protocol, Resource, Secret, TelemetryConfig,
    },
    console::ConsoleExporter,
    content::Capture,
    context::{Caller, ParseContextError, SpanContext, SpanId, TraceId, attempt_context},
    conventions::Semconv,
    error::{Error, Result},
    langfuse::LangfuseFields,
    mcp::{McpCall, McpSpan},
    measurement::{Instrument, InstrumentKind, Measurement},
    memory::MemorySink,
    open::Failure,
    queue::{Exporter, Lost, QUEUE_RECORDS, Queued, Record},
    redact::Redactor,
    scope::{Scope, StepSpan},
    sink::{NoTrace, Tee, TraceSink},
    span::{Link, Span, SpanEvent, SpanKind, Status},
    tool::ToolSpan,
    tracer::{Tracer, TracerOptions},
};

/// The guide's example is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/tracing.md")]
mod guide {}
