//! A request to an MCP server.

use crate::{
    Attributes, Failure, Scope, conventions as names,
    open::{CANCELLED, Open},
};

/// What is asked of which MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct McpCall {
    /// The method, such as `tools/call`.
    pub method: String,
    /// What it is about: the tool's or prompt's own name, or the resource's URI.
    pub target: Option<String>,
    /// The protocol's revision, such as `2025-11-25`.
    pub protocol_version: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
    /// The session, where there is one.
    pub session_id: Option<String>,
    /// `pipe` for stdio, `tcp` for HTTP.
    pub transport: Option<&'static str>,
    /// The server's host and port, for HTTP.
    pub server: Option<(String, u16)>,
}

impl McpCall {
    /// A request for this method.
    #[must_use]
    pub fn new(method: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            ..Self::default()
        }
    }

    pub(crate) fn span_name(&self) -> String {
        match &self.target {
            // URIs are too many to name spans after.
            Some(target) if !self.method.starts_with("resources/") => {
                format!("{} {target}", self.method)
            }
            _ => self.method.clone(),
        }
    }

    /// What a span tells of it.
    pub(crate) fn attributes(&self) -> Attributes {
        let mut attributes = self.figures();
        if self.method.starts_with("resources/") {
            attributes.set_some(names::MCP_RESOURCE_URI, self.target.clone());
        }
        attributes.set_some(names::JSONRPC_REQUEST_ID, self.request_id.clone());
        attributes.set_some(names::MCP_SESSION_ID, self.session_id.clone());
        attributes
    }

    /// What its figures belong to: no ids.
    pub(crate) fn figures(&self) -> Attributes {
        let mut figures = Attributes::default().with(names::MCP_METHOD_NAME, self.method.clone());
        let target = self.target.clone();
        match self.method.as_str() {
            "tools/call" => figures.set_some(names::TOOL_NAME, target),
            "prompts/get" => figures.set_some(names::PROMPT_NAME, target),
            _ => {}
        }
        figures.set_some(names::MCP_PROTOCOL_VERSION, self.protocol_version.clone());
        figures.set_some(names::NETWORK_TRANSPORT, self.transport);
        if let Some((address, port)) = &self.server {
            figures.set(names::SERVER_ADDRESS, address.clone());
            figures.set(names::SERVER_PORT, *port);
        }
        figures
    }
}

/// A request that has not ended. Dropped without an end, it was cancelled.
pub struct McpSpan {
    open: Open,
    call: McpCall,
    ended: bool,
}

impl McpSpan {
    pub(crate) fn begin(mut open: Open, call: McpCall) -> Self {
        if let Some(span) = open.span() {
            span.attributes = call.attributes();
        }
        Self {
            open,
            call,
            ended: false,
        }
    }

    /// Where parts of the request belong.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::of(&self.open)
    }

    /// See [`Scope::traceparent`]; for `params._meta`.
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.scope().traceparent()
    }

    /// Notes the JSON-RPC error's code.
    pub fn status_code(&mut self, code: i64) {
        self.open
            .set(names::RPC_RESPONSE_STATUS_CODE, code.to_string());
    }

    /// Ends the request.
    pub fn end(mut self, result: Result<(), Failure<'_>>) {
        self.finish(result.err());
    }

    fn finish(&mut self, failure: Option<Failure<'_>>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.open.elapsed().as_secs_f64();
        self.open.end(failure);
        let mut figures = self.call.figures();
        figures.set_some(names::ERROR_TYPE, failure.map(|it| it.kind.to_owned()));
        let tracer = &self.open.trace.tracer;
        tracer.measure(&names::MCP_CLIENT_OPERATION_DURATION, took, figures);
    }
}

impl Drop for McpSpan {
    fn drop(&mut self) {
        self.finish(Some(CANCELLED));
    }
}
