//! What the run machine's events say: one struct per kind, written straight to JSON text.

use adjutant_core::{ErrorInfo, Json, Timestamp, Usage, WorkerId};
use serde::Serialize;

#[derive(Serialize)]
pub struct Queued<'a> {
    pub agent_key: &'a str,
    pub priority: i32,
}

#[derive(Serialize)]
pub struct Started<'a> {
    pub agent_key: &'a str,
    pub attempt: u32,
    pub epoch: u64,
    pub worker: WorkerId,
    pub continued: bool,
}

#[derive(Serialize)]
pub struct Succeeded<'a> {
    pub final_output: &'a Json,
    pub usage: &'a Usage,
}

#[derive(Serialize)]
pub struct TimedOut {
    pub timeout_seconds: f64,
}

#[derive(Serialize)]
pub struct Retrying<'a> {
    pub attempt: u32,
    pub error: &'a ErrorInfo,
    pub retry_at: Timestamp,
}

#[derive(Serialize)]
pub struct Reason<'a> {
    pub reason: &'a str,
}

#[derive(Serialize)]
pub struct LeaseLost {
    pub worker: Option<WorkerId>,
    pub epoch: u64,
    pub deaths: u32,
}

#[derive(Serialize)]
pub struct Parked<'a> {
    pub reason: Option<&'a str>,
    pub deaths: u32,
}

#[derive(Serialize)]
pub struct SignalReceived<'a> {
    pub name: &'a str,
    /// Only of what is said to a run at work, which its worker reads here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<&'a Json>,
}
