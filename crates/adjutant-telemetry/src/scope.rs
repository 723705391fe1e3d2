//! Where in a trace one is: what new spans become parts of.

use std::sync::Arc;

use adjutant_core::{ModelRequest, ToolUse};

use crate::{
    ChatSpan, Failure, McpCall, McpSpan, SpanContext, SpanKind, ToolSpan, conventions as names,
    open::{Open, Trace},
};

/// A place in a trace. Cheap to clone, may outlive its span.
#[derive(Clone)]
pub struct Scope {
    trace: Arc<Trace>,
    context: SpanContext,
}

impl Scope {
    pub(crate) fn of(open: &Open) -> Self {
        Self {
            trace: Arc::clone(&open.trace),
            context: open.context,
        }
    }

    /// The span that new ones become parts of.
    #[must_use]
    pub const fn context(&self) -> SpanContext {
        self.context
    }

    /// The value of the header `traceparent` for whoever is called from here. If nothing is traced, it is the one that the
    /// run's submitter gave, so that those around the runtime still find each other.
    #[must_use]
    pub fn traceparent(&self) -> String {
        match &self.trace.caller {
            Some(caller) if !self.trace.tracer.enabled() => caller.context.traceparent(),
            _ => self.context.traceparent(),
        }
    }

    /// The headers for whoever is called from here: `traceparent`, and `baggage` as the submitter gave it.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![("traceparent", self.traceparent())];
        let baggage = self.trace.caller.as_ref().and_then(|it| it.baggage.clone());
        headers.extend(baggage.map(|baggage| ("baggage", baggage)));
        headers
    }

    /// Begins a step of the agent's own.
    #[must_use]
    pub fn step(&self, name: &str) -> StepSpan {
        let mut open = self.child(format!("step {name}"), SpanKind::Internal);
        open.set(names::STEP_NAME, name.to_owned());
        StepSpan(open)
    }

    /// Begins a model call.
    #[must_use]
    pub fn chat(&self, request: &ModelRequest) -> ChatSpan {
        let (_, model) = crate::chat::provider_and_model(&request.model);
        let open = self.child(format!("chat {model}"), SpanKind::Client);
        ChatSpan::begin(open, request)
    }

    /// Begins a tool call.
    #[must_use]
    pub fn tool(&self, call: &ToolUse) -> ToolSpan {
        let open = self.child(format!("execute_tool {}", call.name), SpanKind::Internal);
        ToolSpan::begin(open, call)
    }

    /// Begins a request to an MCP server that is no tool call. For one that is, see [`ToolSpan::mcp`].
    #[must_use]
    pub fn mcp(&self, call: McpCall) -> McpSpan {
        let open = self.child(call.span_name(), SpanKind::Client);
        McpSpan::begin(open, call)
    }

    fn child(&self, name: String, kind: SpanKind) -> Open {
        Open::child(Arc::clone(&self.trace), self.context, name, kind)
    }
}

/// A step that has not ended. Dropped without an end, it was cancelled.
pub struct StepSpan(Open);

impl StepSpan {
    /// Where parts of the step belong.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::of(&self.0)
    }

    /// See [`Scope::traceparent`].
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.scope().traceparent()
    }

    /// Ends the step.
    pub fn end(mut self, result: Result<(), Failure<'_>>) {
        self.0.end(result.err());
    }
}
