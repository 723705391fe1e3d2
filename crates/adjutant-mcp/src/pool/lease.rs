//! One caller's use of one server.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use adjutant_core::Effect;
use adjutant_tools::{Caller, ClientPort, InputResume, ProgressSink, Reply, ToolError};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::{
    audit::{AuditRecord, AuditSink},
    catalog::{Catalog, ServerTool},
    config::ToolFilter,
    error::{Error, Result},
    peer::PeerInfo,
    server::{Call, Clocks, Server, ask, refused},
};

/// One caller's use of one server. As long as it is held the server is not ended for want of use.
pub struct Lease {
    server: Arc<Server>,
    caller: Caller,
    audit: Arc<dyn AuditSink>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.server.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.server.unused.notify_one();
        }
    }
}

/// A call of a tool.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The tool, by its full name or the server's own.
    pub tool: &'a str,
    /// What it gets.
    pub arguments: &'a Map<String, Value>,
    /// Longest time in all; the configuration's where absent or longer.
    pub timeout: Option<Duration>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// The same for every try of one call; servers find it in `_meta` as `adjutant/idempotencyKey`.
    pub idempotency_key: Option<&'a str>,
    /// Who wants to know how far the call is.
    pub progress: Option<&'a ProgressSink<'a>>,
    /// Who answers what the server asks during the call.
    pub port: Option<&'a dyn ClientPort>,
    /// Answers to what an earlier try asked for.
    pub resume: Option<&'a InputResume>,
    /// Which tools the caller may call, besides what the configuration says.
    pub filter: Option<&'a ToolFilter>,
}

impl<'a> Request<'a> {
    /// A call without anything that may be absent.
    #[must_use]
    pub const fn new(tool: &'a str, arguments: &'a Map<String, Value>) -> Self {
        Self {
            tool,
            arguments,
            timeout: None,
            traceparent: None,
            idempotency_key: None,
            progress: None,
            port: None,
            resume: None,
            filter: None,
        }
    }
}

impl Lease {
    pub(crate) fn new(server: Arc<Server>, caller: Caller, audit: Arc<dyn AuditSink>) -> Self {
        Self {
            server,
            caller,
            audit,
        }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// The server's tools. Keep them for as long as they are not to change; a later list may be of a later generation.
    ///
    /// # Errors
    /// When the server never told them and cannot be asked.
    pub async fn tools(&self) -> Result<Arc<Catalog>> {
        self.server.tools().await
    }

    /// What the server says of itself; it is started for that if need be.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn info(&self) -> Result<PeerInfo> {
        Ok(self.server.ready().await?.info().clone())
    }

    /// Calls a tool. Dropping the future gives the call up, and the server is told.
    ///
    /// # Errors
    /// When there is no answer of the tool's; the error says whether the call was sent.
    pub async fn call(&self, request: Request<'_>) -> Result<Reply, ToolError> {
        let since = Instant::now();
        let mut record = Record {
            lease: self,
            tool: request.tool,
            effect: Effect::Unsafe,
            since,
            repeats: 0,
            outcome: "cancelled",
        };
        let result = self.do_call(request, &mut record).await;
        record.outcome = match &result {
            Ok(Reply::Answer(answer)) if answer.is_error => "tool_error",
            Ok(Reply::Answer(_)) => "ok",
            Ok(Reply::InputRequired { .. }) => "input_required",
            Err(error) => error.kind(record.effect),
        };
        result
    }

    async fn do_call(
        &self,
        request: Request<'_>,
        record: &mut Record<'_>,
    ) -> Result<Reply, ToolError> {
        let config = &self.server.config;
        let most = config.max_call_time;
        let total = request.timeout.map_or(most, |time| time.min(most));
        let clocks = Clocks::start(config.call_timeout.min(total), total);
        let catalog = self.catalog(request.tool, total).await?;
        let tool = self.find(&catalog, &request)?;
        record.effect = tool.spec.effect;
        let call = Call {
            tool: &tool.name,
            shown: request.tool,
            arguments: request.arguments,
            effect: tool.spec.effect,
            trace: request.traceparent,
            idempotency_key: request.idempotency_key,
            progress: request.progress,
            port: request.port,
            resume: request.resume,
            clocks,
        };
        self.server.call(call, &mut record.repeats).await
    }

    /// The tools, asked for only if they were never told: a list that is there is believed, even an old one.
    async fn catalog(&self, name: &str, time: Duration) -> Result<Arc<Catalog>, ToolError> {
        if let Some(catalog) = self.server.catalog() {
            return Ok(catalog);
        }
        let late = |_| ToolError::Timeout {
            tool: name.to_owned(),
            after: time,
            sent: false,
        };
        let listed = timeout(time, self.server.tools()).await.map_err(late)?;
        listed.map_err(|error| error.into_tool_error(name))
    }

    /// The tool of this name, if the caller may have it.
    fn find<'a>(
        &self,
        catalog: &'a Catalog,
        request: &Request<'_>,
    ) -> Result<&'a ServerTool, ToolError> {
        let name = request.tool;
        let Some(tool) = catalog.tool(name) else {
            if !self.server.config.tools.admits(name) {
                return Err(ToolError::denied(name, "the server's `tools` filter"));
            }
            let tool = name.to_owned();
            return Err(ToolError::NotFound { tool });
        };
        let admitted = |filter: &ToolFilter| filter.admits(&tool.name);
        if request.filter.is_none_or(admitted) {
            Ok(tool)
        } else {
            Err(ToolError::denied(name, "the caller's list of tools"))
        }
    }

    /// All resources; templates with `templates`.
    ///
    /// # Errors
    /// When the server cannot be asked or refuses.
    pub async fn resources(&self, templates: bool) -> Result<Vec<Value>> {
        let (method, field) = if templates {
            ("resources/templates/list", "resourceTemplates")
        } else {
            ("resources/list", "resources")
        };
        self.list(method, field).await
    }

    /// Reads a resource: the result as the protocol has it.
    ///
    /// # Errors
    /// When the server cannot be asked or refuses.
    pub async fn read_resource(&self, uri: &str) -> Result<Value> {
        self.ask("resources/read", json!({ "uri": uri })).await
    }

    /// All prompts.
    ///
    /// # Errors
    /// When the server cannot be asked or refuses.
    pub async fn prompts(&self) -> Result<Vec<Value>> {
        self.list("prompts/list", "prompts").await
    }

    /// A prompt with its arguments filled in: the result as the protocol has it.
    ///
    /// # Errors
    /// When the server cannot be asked or refuses.
    pub async fn prompt(&self, name: &str, arguments: &Map<String, Value>) -> Result<Value> {
        let params = json!({ "name": name, "arguments": arguments });
        self.ask("prompts/get", params).await
    }

    async fn list(&self, method: &'static str, field: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut params = json!({});
        // Bounded by the time that each page may take, and by this.
        for _ in 0..1000 {
            let mut page = self.ask(method, params).await?;
            if let Some(Value::Array(items)) = page.get_mut(field).map(Value::take) {
                all.extend(items);
            }
            match page.get("nextCursor") {
                Some(Value::String(cursor)) => params = json!({ "cursor": cursor }),
                _ => break,
            }
        }
        Ok(all)
    }

    async fn ask(&self, method: &'static str, params: Value) -> Result<Value> {
        let _turn = self.server.gate.enter().await.map_err(|full| Error::Down {
            server: self.server.name.clone(),
            problem: "too many requests at a time".into(),
            retry_after: full.0,
        })?;
        let peer = self.server.ready().await?;
        let time = self.server.config.call_timeout;
        let answer = timeout(time, ask(&*peer, method, params)).await;
        let slow = |_| Error::Slow {
            server: self.server.name.clone(),
            after: time,
        };
        let answer = answer.map_err(slow)?;
        answer.map_err(|error| refused(&self.server.name, method, error))
    }
}

/// Writes a call down when it is over, also when it is dropped.
struct Record<'a> {
    lease: &'a Lease,
    tool: &'a str,
    effect: Effect,
    since: Instant,
    repeats: u32,
    outcome: &'static str,
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let Lease {
            server,
            caller,
            audit,
        } = self.lease;
        let duration = self.since.elapsed();
        server.counters.called(self.tool, self.outcome, duration);
        tracing::debug!(
            server = server.name, tool = self.tool, outcome = self.outcome, run_id = %caller.run,
            agent = %caller.agent, ms = duration.as_secs_f64() * 1e3, repeats = self.repeats, "MCP call"
        );
        audit.record(AuditRecord {
            caller,
            server: &server.name,
            tool: self.tool,
            effect: self.effect,
            outcome: self.outcome,
            duration,
            repeats: self.repeats,
        });
    }
}
