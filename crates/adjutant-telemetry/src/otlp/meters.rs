//! Figures, added up by the SDK and sent from time to time.

use std::{collections::HashMap, time::Duration};

use opentelemetry::{
    InstrumentationScope,
    metrics::{Counter, Histogram, Meter, MeterProvider},
};
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
};

use super::convert::pairs;
use crate::{Instrument, InstrumentKind, Measurement};

/// How often figures are sent.
const INTERVAL: Duration = Duration::from_secs(30);

/// The SDK's instruments, made when they are first needed.
pub(super) struct Meters {
    provider: SdkMeterProvider,
    meter: Meter,
    instruments: HashMap<&'static str, SdkInstrument>,
}

enum SdkInstrument {
    Counter(Counter<f64>),
    Histogram(Histogram<f64>),
}

impl Meters {
    pub fn new(exporter: MetricExporter, scope: &InstrumentationScope, resource: Resource) -> Self {
        let reader = PeriodicReader::builder(exporter)
            .with_interval(INTERVAL)
            .build();
        let provider = SdkMeterProvider::builder()
            .with_reader(reader)
            .with_resource(resource)
            .build();
        let meter = provider.meter_with_scope(scope.clone());
        Self {
            provider,
            meter,
            instruments: HashMap::new(),
        }
    }

    pub fn record(&mut self, measurement: Measurement) {
        let Measurement {
            instrument, value, ..
        } = measurement;
        let attributes = pairs(measurement.attributes);
        let meter = &self.meter;
        let sdk = self.instruments.entry(instrument.name);
        match sdk.or_insert_with(|| made(meter, instrument)) {
            SdkInstrument::Counter(counter) => counter.add(value, &attributes),
            SdkInstrument::Histogram(histogram) => histogram.record(value, &attributes),
        }
    }

    /// Sends what there is. The SDK waits for its own thread, so another one waits for it.
    pub async fn flush(&self, timeout: Duration) {
        let provider = self.provider.clone();
        let flush = tokio::task::spawn_blocking(move || provider.force_flush());
        match tokio::time::timeout(timeout, flush).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::debug!(%error, "metrics could not be sent"),
            Ok(Err(_)) | Err(_) => tracing::debug!("metrics could not be sent in time"),
        }
    }

    /// Sends what there is, and ends the SDK's thread.
    pub async fn close(self) {
        let shutdown = tokio::task::spawn_blocking(move || self.provider.shutdown());
        if let Ok(Err(error)) = shutdown.await {
            tracing::debug!(%error, "the last metrics could not be sent");
        }
    }
}

fn made(meter: &Meter, instrument: &'static Instrument) -> SdkInstrument {
    match instrument.kind {
        InstrumentKind::Counter => SdkInstrument::Counter(
            meter
                .f64_counter(instrument.name)
                .with_unit(instrument.unit)
                .with_description(instrument.description)
                .build(),
        ),
        InstrumentKind::Histogram(bounds) => SdkInstrument::Histogram(
            meter
                .f64_histogram(instrument.name)
                .with_unit(instrument.unit)
                .with_description(instrument.description)
                .with_boundaries(bounds.to_vec())
                .build(),
        ),
    }
}
