//! A span that has not ended, and the trace it belongs to.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use adjutant_core::{AgentError, AgentKey, Clock, ErrorInfo, SystemClock, Timestamp};

use crate::{
    Attributes, Caller, Capture, Span, SpanContext, SpanEvent, SpanId, SpanKind, Status, Tracer,
    Value, context::child_id, conventions as names,
};

/// Events of one span; later ones are left out.
const SPAN_EVENTS: usize = 128;

/// Longest message of a failure, in bytes.
const MESSAGE_BYTES: usize = 1024;

/// What went wrong, in a word and a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure<'a> {
    /// A stable, short kind such as `tool_timeout`.
    pub kind: &'a str,
    /// What happened, for a person.
    pub message: &'a str,
}

impl<'a> From<&'a ErrorInfo> for Failure<'a> {
    fn from(error: &'a ErrorInfo) -> Self {
        Self {
            kind: &error.kind,
            message: &error.message,
        }
    }
}

impl<'a> From<&'a AgentError> for Failure<'a> {
    fn from(error: &'a AgentError) -> Self {
        Self::from(error.info())
    }
}

/// One claim of a run.
pub(crate) struct Trace {
    pub tracer: Tracer,
    pub agent: AgentKey,
    pub root: SpanContext,
    /// What every span of the trace tells.
    pub common: Attributes,
    pub caller: Option<Caller>,
    pub model_calls: AtomicU64,
    pub tool_calls: AtomicU64,
    next_span: AtomicU64,
    /// The hour at which the trace began, and how long ago that is. The wall clock may step; a trace may not.
    began: (Timestamp, Instant),
}

impl Trace {
    pub fn new(
        tracer: Tracer,
        agent: AgentKey,
        root: SpanContext,
        common: Attributes,
        caller: Option<Caller>,
    ) -> Self {
        Self {
            tracer,
            agent,
            root,
            common,
            caller,
            model_calls: AtomicU64::new(0),
            tool_calls: AtomicU64::new(0),
            next_span: AtomicU64::new(1),
            began: (SystemClock.now(), Instant::now()),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.began.0 + self.began.1.elapsed()
    }

    /// Whether content may be told.
    pub fn tells_content(&self) -> bool {
        self.root.sampled && self.tracer.options().capture == Capture::Content
    }

    fn new_id(&self) -> SpanId {
        let number = self.next_span.fetch_add(1, Ordering::Relaxed);
        child_id(self.root.trace_id, number)
    }
}

/// A span that has not ended. Dropped without an end, it was cancelled.
pub(crate) struct Open {
    pub trace: Arc<Trace>,
    pub context: SpanContext,
    span: Option<Box<Span>>,
    began: Instant,
}

impl Open {
    /// Begins the first span of a trace.
    pub fn root(trace: Arc<Trace>, name: String, kind: SpanKind) -> Self {
        let context = trace.root;
        Self::begin(trace, context, None, name.into(), kind)
    }

    /// Begins a part of another span.
    pub fn child(
        trace: Arc<Trace>,
        parent: SpanContext,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
    ) -> Self {
        let context = SpanContext {
            span_id: trace.new_id(),
            ..trace.root
        };
        Self::begin(trace, context, Some(parent.span_id), name.into(), kind)
    }

    fn begin(
        trace: Arc<Trace>,
        context: SpanContext,
        parent: Option<SpanId>,
        name: Cow<'static, str>,
        kind: SpanKind,
    ) -> Self {
        let span = context.sampled.then(|| {
            let now = trace.now();
            Box::new(Span {
                name,
                context,
                parent,
                kind,
                started: now,
                ended: now,
                status: Status::Unset,
                attributes: Attributes::default(),
                events: Vec::new(),
                links: Vec::new(),
            })
        });
        Self {
            trace,
            context,
            span,
            began: Instant::now(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The span, unless it is not recorded.
    pub fn span(&mut self) -> Option<&mut Span> {
        self.span.as_deref_mut()
    }

    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(span) = self.span() {
            span.attributes.set(name, value);
        }
    }

    pub fn set_some(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    pub fn event(&mut self, name: impl Into<Cow<'static, str>>, attributes: Attributes) {
        let at = self.trace.now();
        if let Some(span) = self.span().filter(|span| span.events.len() < SPAN_EVENTS) {
            span.events.push(SpanEvent {
                name: name.into(),
                at,
                attributes,
            });
        }
    }

    /// Ends the span.
    pub fn end(&mut self, failure: Option<Failure<'_>>) {
        let Some(mut span) = self.span.take() else {
            return;
        };
        if let Some(failure) = failure {
            let cut = failure.message.floor_char_boundary(MESSAGE_BYTES);
            // Redacted before it is cut: half a secret is not recognised.
            let message = match cut < failure.message.len() {
                true => {
                    let redactor = &self.trace.tracer.options().redactor;
                    let mut clear = redactor.text(failure.message).into_owned();
                    clear.truncate(clear.floor_char_boundary(MESSAGE_BYTES));
                    clear + "…"
                }
                false => failure.message.to_owned(),
            };
            span.status = Status::Error(message);
            let kind = failure.kind.to_owned();
            span.attributes.set(names::ERROR_TYPE, kind);
        }
        span.ended = self.trace.now();
        span.attributes.fill(&self.trace.common);
        self.trace.tracer.record(*span);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.end(Some(CANCELLED));
    }
}

/// What is said of a piece of work whose future was dropped.
pub(crate) const CANCELLED: Failure<'static> = Failure {
    kind: "cancelled",
    message: "dropped before it ended",
};
