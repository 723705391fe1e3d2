//! Ending an attempt in order to wait.

use adjutant_wire::{RunResult as WireResult, StopReason};
use serde_json::{Map, Value, json};

use crate::{attempt::RunHandle, error::RunError};

/// What a later attempt waits for: answers of people, or a time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Suspension {
    requests: Map<String, Value>,
    wake_at: Option<String>,
    state: Option<Value>,
}

impl Suspension {
    /// Until this time, RFC 3339.
    #[must_use]
    pub fn until(wake_at: impl Into<String>) -> Self {
        Self {
            wake_at: Some(wake_at.into()),
            ..Self::default()
        }
    }

    /// Until somebody says yes or no; the answer is in [`Run::resume`](crate::Run::resume) by this key.
    #[must_use]
    pub fn question(key: impl Into<String>, message: impl Into<String>) -> Self {
        let request = json!({ "kind": "approval", "message": message.into() });
        Self::default().request(key, request)
    }

    /// Asks one thing more: `{message, kind?, schema?, data?, timeoutSeconds?}`.
    #[must_use]
    pub fn request(mut self, key: impl Into<String>, request: Value) -> Self {
        self.requests.insert(key.into(), request);
        self
    }

    /// Saves a state for the later attempt, as a checkpoint.
    #[must_use]
    pub fn state(self, state: Value) -> Self {
        let state = Some(state);
        Self { state, ..self }
    }
}

impl RunHandle {
    /// Ends the attempt in order to wait: `return Err(run.suspend(…))`. A later attempt begins when the wait is over.
    #[must_use]
    pub fn suspend(&self, suspension: Suspension) -> RunError {
        let asks = !suspension.requests.is_empty();
        self.0.suspend(WireResult {
            stop_reason: if asks {
                StopReason::InputRequired
            } else {
                StopReason::Yield
            },
            input_requests: asks.then_some(suspension.requests),
            wake_at: suspension.wake_at,
            state: suspension.state,
            ..WireResult::default()
        });
        RunError::Parked
    }
}
