//! Our words in the SDK's.

use std::time::{Duration, SystemTime};

use adjutant_core::Timestamp;
use opentelemetry::{
    Array, InstrumentationScope, KeyValue, StringValue, Value as SdkValue,
    trace::{
        Event, Link as SdkLink, SpanContext as SdkContext, SpanId as SdkSpanId,
        SpanKind as SdkKind, Status as SdkStatus, TraceFlags, TraceId as SdkTraceId, TraceState,
    },
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::{Attributes, Link, Span, SpanContext, SpanEvent, SpanKind, Status, Value};

/// A span as the SDK's exporters take it.
pub(super) fn span_data(span: Span, scope: &InstrumentationScope) -> SpanData {
    let mut events = SpanEvents::default();
    events.events = span.events.into_iter().map(event).collect();
    let mut links = SpanLinks::default();
    links.links = span.links.into_iter().map(link).collect();
    let parent = span.parent.map(|id| SdkSpanId::from_bytes(id.0));
    SpanData {
        span_context: context(span.context, false),
        parent_span_id: parent.unwrap_or(SdkSpanId::INVALID),
        parent_span_is_remote: false,
        span_kind: match span.kind {
            SpanKind::Internal => SdkKind::Internal,
            SpanKind::Client => SdkKind::Client,
            SpanKind::Server => SdkKind::Server,
        },
        name: span.name,
        start_time: time(span.started),
        end_time: time(span.ended),
        attributes: pairs(span.attributes),
        dropped_attributes_count: 0,
        events,
        links,
        status: match span.status {
            Status::Unset => SdkStatus::Unset,
            Status::Ok => SdkStatus::Ok,
            Status::Error(message) => SdkStatus::error(message),
        },
        instrumentation_scope: scope.clone(),
    }
}

fn event(event: SpanEvent) -> Event {
    Event::new(event.name, time(event.at), pairs(event.attributes), 0)
}

fn link(link: Link) -> SdkLink {
    SdkLink::new(context(link.context, true), pairs(link.attributes), 0)
}

fn context(context: SpanContext, remote: bool) -> SdkContext {
    let flags = match context.sampled {
        true => TraceFlags::SAMPLED,
        false => TraceFlags::default(),
    };
    SdkContext::new(
        SdkTraceId::from_bytes(context.trace_id.0),
        SdkSpanId::from_bytes(context.span_id.0),
        flags,
        remote,
        TraceState::default(),
    )
}

fn time(time: Timestamp) -> SystemTime {
    let micros = u64::try_from(time.as_micros()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

/// Attributes as the SDK has them.
pub(super) fn pairs(attributes: Attributes) -> Vec<KeyValue> {
    let pairs = attributes.into_pairs().into_iter();
    pairs
        .map(|(name, it)| KeyValue::new(name, value(it)))
        .collect()
}

fn value(value: Value) -> SdkValue {
    match value {
        Value::Bool(it) => SdkValue::Bool(it),
        Value::Int(it) => SdkValue::I64(it),
        Value::Float(it) => SdkValue::F64(it),
        Value::Text(it) => SdkValue::String(StringValue::from(it)),
        Value::Texts(them) => {
            let texts = them.into_iter().map(StringValue::from).collect();
            SdkValue::Array(Array::String(texts))
        }
    }
}
