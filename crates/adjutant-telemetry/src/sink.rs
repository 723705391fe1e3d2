//! Where traces and metrics go.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;

use crate::{Measurement, Span};

/// Takes finished spans and figures. Contract:
///
/// - `record` and `metric` return at once; what cannot be taken is dropped and counted in `dropped`.
/// - What was taken before `flush` was called has been passed on, or counted as dropped, when `flush` returns; `flush`
///   returns within a bounded time.
/// - Nothing panics, also after the sink's other end is gone.
#[async_trait]
pub trait TraceSink: Send + Sync {
    /// Takes a span.
    fn record(&self, span: Span);
    /// Takes a figure.
    fn metric(&self, measurement: Measurement);
    /// Passes on what has been taken so far.
    async fn flush(&self);

    /// How many spans and figures were lost since the start.
    fn dropped(&self) -> u64 {
        0
    }
    /// Whether it makes sense to give it anything.
    fn enabled(&self) -> bool {
        true
    }
}

/// Nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTrace;

#[async_trait]
impl TraceSink for NoTrace {
    fn record(&self, _: Span) {}
    fn metric(&self, _: Measurement) {}
    async fn flush(&self) {}
    fn enabled(&self) -> bool {
        false
    }
}

/// To several places.
#[derive(Clone)]
pub struct Tee(pub Vec<Arc<dyn TraceSink>>);

#[async_trait]
impl TraceSink for Tee {
    fn record(&self, span: Span) {
        for sink in &self.0 {
            sink.record(span.clone());
        }
    }

    fn metric(&self, measurement: Measurement) {
        for sink in &self.0 {
            sink.metric(measurement.clone());
        }
    }

    async fn flush(&self) {
        // At once, so that two slow ones take no longer than one.
        join_all(self.0.iter().map(|sink| sink.flush())).await;
    }

    fn dropped(&self) -> u64 {
        self.0.iter().map(|sink| sink.dropped()).sum()
    }

    fn enabled(&self) -> bool {
        self.0.iter().any(|sink| sink.enabled())
    }
}
