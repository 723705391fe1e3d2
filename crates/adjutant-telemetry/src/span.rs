//! A finished piece of work.

use std::borrow::Cow;

use adjutant_core::Timestamp;
use serde::{Serialize, Serializer};

use crate::{Attributes, SpanContext, SpanId};

/// A piece of work that has ended. It is handed over once, complete, and never changed afterwards.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Span {
    /// What happened to what, such as `chat gpt-5`.
    pub name: Cow<'static, str>,
    /// Who it is.
    #[serde(flatten, serialize_with = "context")]
    pub context: SpanContext,
    /// The span of the same trace that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "parent")]
    pub parent: Option<SpanId>,
    /// Which side of a call it is.
    pub kind: SpanKind,
    /// When it began.
    pub started: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
    /// How it ended.
    pub status: Status,
    /// What else is known of it.
    pub attributes: Attributes,
    /// What happened in between.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<SpanEvent>,
    /// Spans of other traces that it has to do with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

/// Which side of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// Within this process.
    Internal,
    /// This process asks another.
    Client,
    /// Another asks this process.
    Server,
}

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "code", content = "message", rename_all = "snake_case")]
pub enum Status {
    /// Nobody said that it went wrong.
    Unset,
    /// Somebody said that it went well.
    Ok,
    /// It went wrong, as the text says.
    Error(String),
}

/// Something that happened during a span.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpanEvent {
    /// What.
    pub name: Cow<'static, str>,
    /// When.
    pub at: Timestamp,
    /// More about it.
    pub attributes: Attributes,
}

/// A span of another trace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    /// Who it is.
    #[serde(flatten, serialize_with = "context")]
    pub context: SpanContext,
    /// What it has to do with the one that links.
    pub attributes: Attributes,
}

impl Span {
    /// Those of `spans` that are parts of this one.
    #[must_use]
    pub fn children<'a>(&self, spans: &'a [Self]) -> Vec<&'a Self> {
        let is_child = |span: &&Self| {
            span.context.trace_id == self.context.trace_id
                && span.parent == Some(self.context.span_id)
        };
        spans.iter().filter(is_child).collect()
    }
}

#[derive(Serialize)]
struct Ids {
    trace_id: String,
    span_id: String,
}

fn context<S: Serializer>(context: &SpanContext, serializer: S) -> Result<S::Ok, S::Error> {
    let ids = Ids {
        trace_id: context.trace_id.to_string(),
        span_id: context.span_id.to_string(),
    };
    ids.serialize(serializer)
}

fn parent<S: Serializer>(parent: &Option<SpanId>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&parent.unwrap_or(SpanId([0; 8])))
}
