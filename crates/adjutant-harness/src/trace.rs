//! What is traced of an attempt.

use adjutant_core::{AgentError, RunContext, RunResult};
use adjutant_telemetry::{
    AttemptInfo, AttemptTrace, Caller, Failure, Outcome, SpanContext, Tracer,
};
use serde::Deserialize;

/// What a run's metadata says for its traces.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    /// W3C trace context of whoever submitted the run.
    traceparent: Option<String>,
    baggage: Option<String>,
    user: Option<String>,
    tags: Vec<String>,
}

pub(crate) fn begin(tracer: &Tracer, ctx: &RunContext) -> AttemptTrace {
    let told: Told = ctx.metadata().to().unwrap_or_default();
    let context = told.traceparent.as_deref().map(str::parse::<SpanContext>);
    let mut info = AttemptInfo::new(
        ctx.run_id(),
        ctx.agent_key().clone(),
        ctx.attempt(),
        ctx.epoch(),
    );
    info.conversation = ctx.conversation_id();
    info.user = told.user;
    info.tags = told.tags;
    info.caller = context.and_then(Result::ok).map(|context| Caller {
        context,
        baggage: told.baggage,
    });
    let lineage = ctx.lineage();
    info.parent = (lineage.depth > 0).then_some(lineage.root);
    let mut trace = tracer.attempt(info);
    trace.input(ctx.input_messages());
    trace
}

pub(crate) fn end(
    mut trace: AttemptTrace,
    ctx: &RunContext,
    result: &Result<RunResult, AgentError>,
) {
    match result {
        Ok(result) => {
            trace.output(&result.final_messages);
            trace.end(Outcome::Succeeded);
        }
        Err(_) if ctx.cancelled() => trace.end(Outcome::Cancelled),
        Err(error) => trace.end(Outcome::Failed(Failure::from(error))),
    }
}
