//! One figure of a metric.

use serde::{Serialize, Serializer};

use crate::Attributes;

/// Buckets for durations in seconds, as the GenAI conventions ask.
pub(crate) const SECONDS: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// Buckets for durations of whole agents, in seconds.
pub(crate) const LONG_SECONDS: &[f64] = &[
    0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 21600.0,
];
/// Buckets for durations of MCP calls, in seconds, as the MCP conventions ask.
pub(crate) const MCP_SECONDS: &[f64] = &[
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];
/// Buckets for tokens, as the GenAI conventions ask.
pub(crate) const TOKENS: &[f64] = &[
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0,
    16777216.0, 67108864.0,
];
/// Buckets for calls in one attempt.
pub(crate) const CALLS: &[f64] = &[0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// What is measured.
#[derive(Debug, PartialEq)]
pub struct Instrument {
    /// Its name.
    pub name: &'static str,
    /// The unit of its figures, in UCUM: `s`, `{token}`.
    pub unit: &'static str,
    /// What its figures mean together.
    pub kind: InstrumentKind,
    /// For people.
    pub description: &'static str,
}

/// What the figures of an instrument mean together.
#[derive(Debug, PartialEq)]
pub enum InstrumentKind {
    /// They are added up.
    Counter,
    /// How many of them lie between these bounds.
    Histogram(&'static [f64]),
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// What was measured.
    #[serde(rename = "metric", serialize_with = "name")]
    pub instrument: &'static Instrument,
    /// The figure, in the instrument's unit.
    pub value: f64,
    /// What it belongs to. Few different ones: no ids.
    pub attributes: Attributes,
}

fn name<S: Serializer>(instrument: &&'static Instrument, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(instrument.name)
}
