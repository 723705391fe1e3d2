//! A tool call.

use std::sync::atomic::Ordering;

use adjutant_core::{ToolAnswer, ToolSpec, ToolUse};

use crate::{
    Attributes, Failure, McpCall, Scope, content, conventions as names,
    open::{CANCELLED, Open},
};

/// What is said of a tool that failed by itself.
pub(crate) const TOOL_ERROR: Failure<'static> = Failure {
    kind: "tool_error",
    message: "the tool failed",
};

/// A tool call that has not ended. Dropped without an end, it was cancelled.
pub struct ToolSpan {
    open: Open,
    figures: Attributes,
    mcp: Option<McpCall>,
    ended: bool,
}

impl ToolSpan {
    pub(crate) fn begin(mut open: Open, call: &ToolUse) -> Self {
        open.trace.tool_calls.fetch_add(1, Ordering::Relaxed);
        let figures = Attributes::default()
            .with(names::OPERATION_NAME, "execute_tool")
            .with(names::TOOL_NAME, call.name.clone());
        open.set(names::TOOL_TYPE, "function");
        let id = Some(call.call_id.clone()).filter(|id| !id.is_empty());
        open.set_some(names::TOOL_CALL_ID, id);
        if open.trace.tells_content() {
            let redactor = open.trace.tracer.options().redactor.clone();
            let text = content::arguments(&call.arguments, &redactor);
            open.set(names::TOOL_CALL_ARGUMENTS, text);
        }
        Self {
            open,
            figures,
            mcp: None,
            ended: false,
        }
    }

    /// Where parts of the call belong.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::of(&self.open)
    }

    /// See [`Scope::traceparent`].
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.scope().traceparent()
    }

    /// Tells what the tool is.
    pub fn describe(&mut self, tool: &ToolSpec) {
        let description = tool.description.clone();
        self.open.set(names::TOOL_DESCRIPTION, description);
        self.open.set(names::TOOL_EFFECT, tool.effect.as_str());
    }

    /// Tells that the call is made as this MCP request. The conventions want no second span for it: the request's
    /// attributes become this one's.
    pub fn mcp(&mut self, call: McpCall) {
        // The tool's name here is the one that the agent knows, which names the server too.
        let mut attributes = call.attributes();
        attributes.set(names::TOOL_TYPE, "extension");
        if let Some(span) = self.open.span() {
            for (name, value) in attributes
                .iter()
                .filter(|(name, _)| *name != names::TOOL_NAME)
            {
                span.attributes.set(name.to_owned(), value.clone());
            }
        }
        self.mcp = Some(call);
    }

    /// Notes something that happened, such as progress.
    pub fn event(&mut self, name: &str, attributes: Attributes) {
        self.open.event(name.to_owned(), attributes);
    }

    /// Ends the call. A tool that failed by itself is an answer here, and an error of the span.
    pub fn end(mut self, result: Result<&ToolAnswer, Failure<'_>>) {
        if let (Ok(answer), true) = (result, self.open.trace.tells_content()) {
            let text = content::answer(answer, &self.open.trace.tracer.options().redactor);
            self.open.set(names::TOOL_CALL_RESULT, text);
        }
        let failure = match result {
            Ok(answer) if answer.is_error => Some(TOOL_ERROR),
            Ok(_) => None,
            Err(failure) => Some(failure),
        };
        self.finish(failure);
    }

    fn finish(&mut self, failure: Option<Failure<'_>>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.open.elapsed().as_secs_f64();
        if let Some(span) = self.open.span() {
            span.attributes.fill(&self.figures);
        }
        self.open.end(failure);
        let kind = failure.map(|it| it.kind.to_owned());
        let tracer = &self.open.trace.tracer;
        let mut figures = self.figures.clone();
        figures.set_some(names::ERROR_TYPE, kind.clone());
        tracer.measure(&names::EXECUTE_TOOL_DURATION, took, figures);
        if let Some(mcp) = &self.mcp {
            let mut figures = mcp.figures();
            figures.set_some(names::ERROR_TYPE, kind);
            tracer.measure(&names::MCP_CLIENT_OPERATION_DURATION, took, figures);
        }
    }
}

impl Drop for ToolSpan {
    fn drop(&mut self) {
        self.finish(Some(CANCELLED));
    }
}
