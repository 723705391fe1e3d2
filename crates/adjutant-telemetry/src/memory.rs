//! A sink for tests.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::{Measurement, Span, TraceSink};

/// Keeps everything. For tests: it has no bound.
#[derive(Debug, Default)]
pub struct MemorySink(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    spans: Vec<Span>,
    measurements: Vec<Measurement>,
}

impl MemorySink {
    /// The spans so far, in the order in which they ended.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.kept().spans.clone()
    }

    /// The first span of this name.
    #[must_use]
    pub fn span(&self, name: &str) -> Option<Span> {
        self.kept().spans.iter().find(|it| it.name == name).cloned()
    }

    /// The figures of this metric so far.
    #[must_use]
    pub fn measurements(&self, metric: &str) -> Vec<Measurement> {
        let kept = self.kept();
        let of_metric = kept
            .measurements
            .iter()
            .filter(|it| it.instrument.name == metric);
        of_metric.cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TraceSink for MemorySink {
    fn record(&self, span: Span) {
        self.kept().spans.push(span);
    }

    fn metric(&self, measurement: Measurement) {
        self.kept().measurements.push(measurement);
    }

    async fn flush(&self) {}
}
