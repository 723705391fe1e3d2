//! Who makes spans.

use std::sync::Arc;

use adjutant_core::AgentKey;

use crate::{
    AttemptInfo, AttemptTrace, Attributes, Capture, Instrument, Measurement, NoTrace, Redactor,
    Semconv, Span, Status, TraceSink, conventions::Old,
};

/// How spans are made.
#[derive(Debug, Clone)]
pub struct TracerOptions {
    /// Which revision of the conventions is written. Default: the newest.
    pub semconv: Semconv,
    /// Whether content is traced. Default: no.
    pub capture: Capture,
    /// Takes secrets out. Default: knows what keys look like, and no values.
    pub redactor: Redactor,
    /// The part of the runs whose spans are recorded, 0 to 1. All claims of a run are treated alike; figures are of all
    /// runs. Default: 1.
    pub sample_ratio: f64,
}

impl Default for TracerOptions {
    fn default() -> Self {
        Self {
            semconv: Semconv::default(),
            capture: Capture::default(),
            redactor: Redactor::default(),
            sample_ratio: 1.0,
        }
    }
}

/// Makes the spans of attempts and hands them to a sink. Cheap to clone.
#[derive(Clone)]
pub struct Tracer(Arc<Inner>);

struct Inner {
    sink: Arc<dyn TraceSink>,
    options: TracerOptions,
}

impl Default for Tracer {
    fn default() -> Self {
        Self::disabled()
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tracer").field(&self.0.options).finish()
    }
}

impl Tracer {
    /// A tracer that hands spans to `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn TraceSink>, options: TracerOptions) -> Self {
        Self(Arc::new(Inner { sink, options }))
    }

    /// A tracer that records nothing.
    #[must_use]
    pub fn disabled() -> Self {
        Self::new(Arc::new(NoTrace), TracerOptions::default())
    }

    /// Begins the trace of one claim of a run.
    #[must_use]
    pub fn attempt(&self, info: AttemptInfo) -> AttemptTrace {
        AttemptTrace::begin(self.clone(), info)
    }

    /// Passes on what has been recorded so far; within a bounded time. At the latest before the program ends.
    pub async fn flush(&self) {
        self.0.sink.flush().await;
    }

    /// How many spans and figures were lost since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.sink.dropped()
    }

    /// Tells how long a session with an MCP server lasted; sessions belong to no run.
    pub fn mcp_session(&self, seconds: f64, transport: &'static str, error: Option<&str>) {
        let mut attributes =
            Attributes::default().with(crate::conventions::NETWORK_TRANSPORT, transport);
        let error = error.map(str::to_owned);
        attributes.set_some(crate::conventions::ERROR_TYPE, error);
        let instrument = &crate::conventions::MCP_CLIENT_SESSION_DURATION;
        self.measure(instrument, seconds, attributes);
    }

    pub(crate) fn samples(&self, position: f64) -> bool {
        self.0.sink.enabled() && position < self.0.options.sample_ratio
    }

    pub(crate) fn enabled(&self) -> bool {
        self.0.sink.enabled()
    }

    pub(crate) fn options(&self) -> &TracerOptions {
        &self.0.options
    }

    /// Hands a span to the sink, in the chosen revision's words and without secrets.
    pub(crate) fn record(&self, mut span: Span) {
        let redactor = &self.0.options.redactor;
        self.finish(&mut span.attributes);
        for event in &mut span.events {
            self.finish(&mut event.attributes);
        }
        if let Status::Error(message) = &mut span.status {
            *message = redactor.text(message).into_owned();
        }
        let name = redactor.text(&span.name).into_owned();
        span.name = name.into();
        self.0.sink.record(span);
    }

    /// Hands a figure to the sink, if the chosen revision has it.
    pub(crate) fn measure(
        &self,
        instrument: &'static Instrument,
        value: f64,
        mut attributes: Attributes,
    ) {
        if !self.enabled() || *self.0.options.semconv.fate(instrument.name) == Old::Absent {
            return;
        }
        self.finish(&mut attributes);
        self.0.sink.metric(Measurement {
            instrument,
            value,
            attributes,
        });
    }

    fn finish(&self, attributes: &mut Attributes) {
        let options = &self.0.options;
        attributes.retain_mut(|name, value| {
            match options.semconv.fate(name) {
                Old::Same => {}
                Old::Was(old) => *name = (*old).into(),
                Old::Absent => return false,
            }
            for mut text in value.texts_mut() {
                if let std::borrow::Cow::Owned(clear) = options.redactor.text(text.get()) {
                    text.set(clear);
                }
            }
            true
        });
    }
}

/// The attribute of an agent, for figures.
pub(crate) fn of_agent(agent: &AgentKey) -> Attributes {
    Attributes::default().with(crate::conventions::AGENT_NAME, agent.as_str().to_owned())
}
