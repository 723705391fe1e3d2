//! Steps: executed, recorded and told of as the executor does it.

use std::time::Duration;

use adjutant_core::{AgentError, EventType, HostStep, Json, RunHost, StepBody, StepOutcome};
use serde_json::json;

use super::host::MockHost;

impl MockHost {
    pub async fn execute(
        &self,
        key: &str,
        step: &HostStep,
        body: &mut StepBody<'_>,
    ) -> Result<Json, AgentError> {
        let began = self.now();
        let mut tries = 1;
        let error = loop {
            if self.cancelled() {
                return Err(AgentError::permanent(
                    "cancelled",
                    "the run is being cancelled",
                ));
            }
            let mut started = json!({ "step_name": key, "attempt": tries });
            started["max_attempts"] = json!(step.retry.max_attempts);
            if let Some(description) = &step.description {
                started["description"] = json!(description);
            }
            self.tell(EventType::StepStarted, started);
            *self.lock().executions.entry(key.to_owned()).or_default() += 1;
            let error = match limited(key, step.timeout, body(tries)).await {
                Ok(result) => {
                    let outcome = StepOutcome::Completed {
                        result: result.clone(),
                    };
                    self.record(key, step.kind, step.input, outcome, began, tries);
                    let payload = json!({ "duration_ms": 0.0, "step_name": key, "attempt": tries });
                    self.tell(EventType::StepCompleted, payload);
                    return Ok(result);
                }
                Err(error) => error,
            };
            if !error.info().retriable || !step.retry.allows_after(tries) {
                break error;
            }
            let delay = step.retry.delay_after(tries, 0.0);
            let payload = json!({
                "error": error.info(),
                "retry_delay": delay.as_secs_f64(),
                "step_name": key,
                "attempt": tries,
            });
            self.tell(EventType::StepRetrying, payload);
            self.pass(delay);
            tries += 1;
        };
        // As in the executor, another attempt may get over a retriable failure, so it is not recorded.
        if !error.info().retriable {
            let outcome = StepOutcome::Failed {
                error: error.info().clone(),
            };
            self.record(key, step.kind, step.input, outcome, began, tries);
        }
        let payload = json!({
            "attempts": tries,
            "error": error.info(),
            "step_name": key,
            "attempt": tries,
        });
        self.tell(EventType::StepFailed, payload);
        Err(error)
    }
}

async fn limited(
    key: &str,
    limit: Option<Duration>,
    work: impl Future<Output = Result<Json, AgentError>>,
) -> Result<Json, AgentError> {
    let Some(limit) = limit else {
        return work.await;
    };
    let answer = tokio::time::timeout(limit, work).await;
    answer.unwrap_or_else(|_| {
        let message = format!("step `{key}` took longer than {limit:?}");
        Err(AgentError::retriable("step_timeout", message))
    })
}
