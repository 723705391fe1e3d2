//! One claim of a run: a trace of its own.

use std::sync::{Arc, atomic::Ordering};

use adjutant_core::{AgentKey, ConversationId, Message, ModelRequest, RunId, ToolUse};

use crate::{
    Attributes, Caller, ChatSpan, Failure, Link, McpCall, McpSpan, Scope, SpanContext, SpanKind,
    StepSpan, ToolSpan, Tracer, attempt_context, content, conventions as names,
    open::{Open, Trace},
    tracer::of_agent,
};

/// Earlier claims of a run that a claim is linked to; the latest count.
const LINKED_CLAIMS: u64 = 8;

/// What is known when a run is claimed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AttemptInfo {
    /// The run.
    pub run: RunId,
    /// The agent.
    pub agent: AgentKey,
    /// Which try of the agent this is, from 1. The same again after a wait or a crash.
    pub attempt: u32,
    /// The lease's epoch, from 1; the next for every claim. Tells the traces of a run apart.
    pub epoch: u64,
    /// Whether the agent is somewhere else and asked over a network.
    pub remote: bool,
    /// The agent's version.
    pub version: Option<String>,
    /// The conversation that the run belongs to.
    pub conversation: Option<ConversationId>,
    /// The run that delegated this one.
    pub parent: Option<RunId>,
    /// Who submitted the run, as its `traceparent` and `baggage` told.
    pub caller: Option<Caller>,
    /// The person for whom the run is.
    pub user: Option<String>,
    /// Words by which the run is to be found.
    pub tags: Vec<String>,
}

impl AttemptInfo {
    /// What has to be known.
    #[must_use]
    pub fn new(run: RunId, agent: impl Into<AgentKey>, attempt: u32, epoch: u64) -> Self {
        Self {
            run,
            agent: agent.into(),
            attempt,
            epoch,
            remote: false,
            version: None,
            conversation: None,
            parent: None,
            caller: None,
            user: None,
            tags: Vec::new(),
        }
    }

    /// What every span of the trace tells.
    fn common(&self) -> Attributes {
        let mut common = of_agent(&self.agent)
            .with(names::RUN_ID, self.run.to_string())
            .with(names::RUN_ATTEMPT, self.attempt)
            .with(names::RUN_EPOCH, self.epoch);
        common.set_some(names::AGENT_VERSION, self.version.clone());
        let conversation = self.conversation.map(|id| id.to_string());
        common.set_some(names::CONVERSATION_ID, conversation);
        let parent = self.parent.map(|id| id.to_string());
        common.set_some(names::RUN_PARENT_ID, parent);
        common.set_some(names::USER_ID, self.user.clone());
        let tags = Some(self.tags.clone()).filter(|tags| !tags.is_empty());
        common.set_some(names::RUN_TAGS, tags);
        common
    }

    /// The latest earlier claims, and who asked for the run.
    fn links(&self) -> Vec<Link> {
        let first = self.epoch.saturating_sub(LINKED_CLAIMS).max(1);
        let earlier = (first..self.epoch).map(|epoch| {
            let context = attempt_context(self.run, epoch);
            link(context, "earlier").with_epoch(epoch)
        });
        let caller = self.caller.as_ref().map(|it| link(it.context, "caller"));
        // Without the delegating step's own name, the parent's first claim is where one begins to look.
        let parent = self.parent.filter(|_| caller.is_none());
        let parent = parent.map(|run| link(attempt_context(run, 1), "parent"));
        earlier.chain(caller).chain(parent).collect()
    }
}

fn link(context: SpanContext, what: &'static str) -> Link {
    let attributes = Attributes::default().with(names::LINK, what);
    Link {
        context,
        attributes,
    }
}

impl Link {
    fn with_epoch(mut self, epoch: u64) -> Self {
        self.attributes.set(names::RUN_EPOCH, epoch);
        self
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// With a result.
    Succeeded,
    /// With a failure, for good or until another attempt.
    Failed(Failure<'a>),
    /// It was cancelled.
    Cancelled,
    /// Its time was over.
    TimedOut,
    /// It waits; another claim goes on.
    Suspended,
    /// The lease was lost or the runtime is going down; another claim goes on.
    Interrupted,
}

impl<'a> Outcome<'a> {
    /// The stable text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Suspended => "suspended",
            Self::Interrupted => "interrupted",
        }
    }

    const fn failure(self) -> Option<Failure<'a>> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::TimedOut => Some(Failure {
                kind: "timed_out",
                message: "its time was over",
            }),
            _ => None,
        }
    }
}

/// The trace of an attempt. Dropped without an end, the attempt was suspended or interrupted.
pub struct AttemptTrace {
    open: Open,
    ended: bool,
}

impl AttemptTrace {
    pub(crate) fn begin(tracer: Tracer, info: AttemptInfo) -> Self {
        let context = attempt_context(info.run, info.epoch);
        let context = SpanContext {
            sampled: tracer.samples(context.trace_id.position()),
            ..context
        };
        let (common, links) = (info.common(), info.links());
        let name = format!("invoke_agent {}", info.agent);
        let kind = match info.remote {
            true => SpanKind::Client,
            false => SpanKind::Internal,
        };
        let trace = Arc::new(Trace::new(tracer, info.agent, context, common, info.caller));
        let mut open = Open::root(trace, name, kind);
        open.set(names::OPERATION_NAME, "invoke_agent");
        if let Some(span) = open.span() {
            span.links = links;
        }
        Self { open, ended: false }
    }

    /// Where parts of the attempt belong.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::of(&self.open)
    }

    /// See [`Scope::traceparent`].
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.scope().traceparent()
    }

    /// See [`Scope::step`].
    #[must_use]
    pub fn step(&self, name: &str) -> StepSpan {
        self.scope().step(name)
    }

    /// See [`Scope::chat`].
    #[must_use]
    pub fn chat(&self, request: &ModelRequest) -> ChatSpan {
        self.scope().chat(request)
    }

    /// See [`Scope::tool`].
    #[must_use]
    pub fn tool(&self, call: &ToolUse) -> ToolSpan {
        self.scope().tool(call)
    }

    /// See [`Scope::mcp`].
    #[must_use]
    pub fn mcp(&self, call: McpCall) -> McpSpan {
        self.scope().mcp(call)
    }

    /// Notes something that happened, such as a step whose result came from the journal.
    pub fn event(&mut self, name: &str, attributes: Attributes) {
        self.open.event(name.to_owned(), attributes);
    }

    /// Notes what the agent was given, if content is traced.
    pub fn input(&mut self, messages: &[Message]) {
        if self.open.trace.tells_content() {
            let text = content::messages(messages, &self.open.trace.tracer.options().redactor);
            self.open.set(names::INPUT_MESSAGES, text);
        }
    }

    /// Notes what the agent answered, if content is traced.
    pub fn output(&mut self, messages: &[Message]) {
        if self.open.trace.tells_content() {
            let text = content::messages(messages, &self.open.trace.tracer.options().redactor);
            self.open.set(names::OUTPUT_MESSAGES, text);
        }
    }

    /// Ends the attempt.
    pub fn end(mut self, outcome: Outcome<'_>) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Outcome<'_>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.open.elapsed().as_secs_f64();
        self.open.set(names::OUTCOME, outcome.as_str());
        self.open.end(outcome.failure());
        let trace = &self.open.trace;
        let of_agent = of_agent(&trace.agent);
        let mut timed = of_agent.clone();
        let kind = outcome.failure().map(|it| it.kind.to_owned());
        timed.set_some(names::ERROR_TYPE, kind);
        let by_outcome = of_agent.clone().with(names::OUTCOME, outcome.as_str());
        #[expect(clippy::cast_precision_loss, reason = "no attempt makes 2^52 calls")]
        let count = |calls: &std::sync::atomic::AtomicU64| calls.load(Ordering::Relaxed) as f64;
        let tracer = &trace.tracer;
        let (models, tools) = (count(&trace.model_calls), count(&trace.tool_calls));
        tracer.measure(&names::ATTEMPTS, 1.0, by_outcome);
        tracer.measure(&names::INVOKE_AGENT_DURATION, took, timed);
        tracer.measure(
            &names::INVOKE_AGENT_INFERENCE_CALLS,
            models,
            of_agent.clone(),
        );
        tracer.measure(&names::INVOKE_AGENT_TOOL_CALLS, tools, of_agent);
    }
}

impl Drop for AttemptTrace {
    fn drop(&mut self) {
        self.finish(Outcome::Interrupted);
    }
}
