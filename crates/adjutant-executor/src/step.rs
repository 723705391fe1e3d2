//! Steps: done once, recorded, replayed.

use std::{future::Future, pin::pin, time::Duration};

use adjutant_core::{
    AgentError, EFFECT_INDETERMINATE, ErrorInfo, EventType, HostStep, Intent, Json, NewEvent,
    Result, StepBody, StepOutcome, StepRecord, Timestamp,
};
use adjutant_store::Op;
use serde_json::json;

use crate::{
    control::{CANCEL, PAUSE},
    effect::Settled,
    host::Host,
    journal::Found,
};

/// A step that takes longer than this is announced while it runs; a shorter one is announced together
/// with its result, which spares a sync.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(20);

/// A step about to be executed.
struct Execution<'a> {
    host: &'a Host,
    key: String,
    step: HostStep,
    started_at: Timestamp,
}

impl Host {
    pub(crate) async fn run_step(
        &self,
        step: HostStep,
        body: &mut StepBody<'_>,
    ) -> Result<Json, AgentError> {
        let (key, found) = self.journal(|journal| {
            let key = journal.next_key(&step.name);
            let found = journal.find(&key, step.kind, step.input);
            (key, found)
        });
        let mut begun = match found? {
            Found::Completed(result) => {
                self.skipped(&key);
                return Ok(result);
            }
            Found::Failed(error) => return Err(error),
            Found::Begun(memo) => Some(memo.to::<Intent>()?),
            Found::Nothing => None,
        };
        loop {
            if let Some(intent) = begun.filter(|intent| *intent != Intent::Withdrawn) {
                match self.settle_effect(&key, &step, intent).await? {
                    Settled::Result(result) => return Ok(result),
                    Settled::Execute => {}
                }
            }
            self.hold_if_paused().await;
            let executed = {
                let _working = self.work();
                let execution = Execution {
                    host: self,
                    key: key.clone(),
                    step: step.clone(),
                    started_at: self.now(),
                };
                execution.run(body).await
            };
            match executed {
                Err(error) if step.intends() && error.info().is_indeterminate() => {
                    begun = Some(Intent::Open);
                }
                executed => return executed,
            }
        }
    }

    /// Between two steps is where a run is paused: from here it does not return.
    async fn hold_if_paused(&self) {
        if self.control.has(PAUSE) {
            self.control.nudge();
            std::future::pending::<()>().await;
        }
    }

    /// Tells watchers that a step was found done, after a retry, a crash or a release. Waking from a wait
    /// replays too, but a run that wakes a thousand times must not tell it a thousand times.
    fn skipped(&self, key: &str) {
        let interrupted = self.claimed.run.epoch > 1 && self.claimed.run.reason.is_some();
        if interrupted {
            let payload = json!({ "step_name": key, "reason": "recorded" });
            self.defer(Op::Event(NewEvent::new(EventType::StepSkipped, payload)));
        }
    }
}

impl Execution<'_> {
    async fn run(self, body: &mut StepBody<'_>) -> Result<Json, AgentError> {
        let mut tries = 1;
        loop {
            if self.host.control.has(CANCEL) {
                return Err(AgentError::permanent(
                    "cancelled",
                    "the run is being cancelled",
                ));
            }
            self.tell(EventType::StepStarted, tries, json!({}));
            if self.step.intends() {
                self.intend(Intent::Open, tries)?;
                self.host.flush().await?;
            }
            let error = match self.attempt(body(tries)).await {
                Ok(result) => return self.completed(result, tries).await,
                Err(error) => error,
            };
            if self.step.intends() && error.info().is_indeterminate() {
                return Err(error);
            }
            if !error.info().retriable || !self.step.retry.allows_after(tries) {
                return self.failed(error, tries).await;
            }
            if self.step.intends() {
                self.intend(Intent::Withdrawn, tries)?;
            }
            let random = f64::from(self.host.now().as_micros().rem_euclid(1000) as u32) / 1000.0;
            let delay = self.step.retry.delay_after(tries, random);
            let retry = json!({ "error": error.info(), "retry_delay": delay.as_secs_f64() });
            self.tell(EventType::StepRetrying, tries, retry);
            self.host.flush().await?;
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.host.control.wait_for(CANCEL) => {}
            }
            tries += 1;
        }
    }

    /// One try, within its time. What is pending is written meanwhile when the try takes a while.
    async fn attempt(
        &self,
        work: impl Future<Output = Result<Json, AgentError>>,
    ) -> Result<Json, AgentError> {
        let mut work = pin!(work);
        let limited = async {
            let Some(limit) = self.step.timeout else {
                return work.as_mut().await;
            };
            let timeout = tokio::time::timeout(limit, work.as_mut()).await;
            timeout.unwrap_or_else(|_| {
                let message = format!("step `{}` took longer than {limit:?}", self.key);
                // What was cut off in the middle may have happened.
                Err(if self.step.intends() {
                    AgentError::permanent(EFFECT_INDETERMINATE, message)
                } else {
                    AgentError::retriable("step_timeout", message)
                })
            })
        };
        let mut limited = pin!(limited);
        tokio::select! {
            biased;
            result = &mut limited => return result,
            () = tokio::time::sleep(ANNOUNCE_AFTER) => {}
        }
        let (result, announced) = futures::join!(limited, self.host.flush());
        announced?;
        result
    }

    async fn completed(self, result: Json, tries: u32) -> Result<Json, AgentError> {
        let took = self.host.now().since(self.started_at);
        self.record(
            StepOutcome::Completed {
                result: result.clone(),
            },
            tries,
        );
        let duration_ms = took.as_secs_f64() * 1000.0;
        self.tell(
            EventType::StepCompleted,
            tries,
            json!({ "duration_ms": duration_ms }),
        );
        self.host.flush().await?;
        Ok(result)
    }

    /// A failure that another attempt may get over is told but not recorded, so that it can.
    async fn failed(self, error: AgentError, tries: u32) -> Result<Json, AgentError> {
        if !error.info().retriable {
            self.record(
                StepOutcome::Failed {
                    error: error.info().clone(),
                },
                tries,
            );
        } else if self.step.intends() {
            self.intend(Intent::Withdrawn, tries)?;
        }
        self.tell(
            EventType::StepFailed,
            tries,
            json!({ "attempts": tries, "error": error.info() }),
        );
        self.host.flush().await?;
        Err(error)
    }

    fn intend(&self, intent: Intent, tries: u32) -> Result<(), AgentError> {
        let memo = Json::from_value(&intent)?;
        self.record(StepOutcome::Started { memo }, tries);
        Ok(())
    }

    fn record(&self, outcome: StepOutcome, tries: u32) {
        self.host.defer(Op::Step(StepRecord {
            key: self.key.clone(),
            kind: self.step.kind,
            input: self.step.input,
            outcome,
            attempts: tries,
            started_at: self.started_at,
            recorded_at: self.host.now(),
        }));
    }

    fn tell(&self, event_type: EventType, tries: u32, mut payload: serde_json::Value) {
        payload["step_name"] = json!(self.key);
        payload["attempt"] = json!(tries);
        if event_type == EventType::StepStarted {
            payload["max_attempts"] = json!(self.step.retry.max_attempts);
            if let Some(description) = &self.step.description {
                payload["description"] = json!(description);
            }
        }
        self.host
            .defer(Op::Event(NewEvent::new(event_type, payload)));
    }
}

/// A failure as a step's record keeps it.
pub(crate) fn recorded(error: &ErrorInfo) -> StepOutcome {
    StepOutcome::Failed {
        error: error.clone(),
    }
}
