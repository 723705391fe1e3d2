//! Steps that may not be repeated and have no result, since a crash or a silence came between.

use adjutant_core::{
    AgentError, EFFECT_INDETERMINATE, ErrorInfo, EventType, HostStep, Intent, Json, NewEvent,
    OnInterrupt, Resolution, StepOutcome, StepRecord,
};
use adjutant_queue::{Signal, WakeOn};
use adjutant_store::Op;
use serde_json::json;

use crate::{host::Host, step::recorded};

/// What is known now of a step whose effect was open.
pub(crate) enum Settled {
    /// This is its result.
    Result(Json),
    /// It may be executed.
    Execute,
}

impl Host {
    /// Finds out what became of the step, or suspends the run until somebody says it.
    pub(crate) async fn settle_effect(
        &self,
        key: &str,
        step: &HostStep,
        intent: Intent,
    ) -> Result<Settled, AgentError> {
        if step.on_interrupt == OnInterrupt::Fail {
            let message = format!("step `{key}` was begun, and it is unknown whether it happened");
            let error = ErrorInfo::permanent(EFFECT_INDETERMINATE, message);
            self.commit(vec![self.settled(key, step, recorded(&error))])
                .await?;
            return Err(error.into());
        }
        let name = Intent::signal(key);
        while let Some(signal) = self.journal(|journal| journal.take_signal(&name)) {
            if let Ok(resolution) = signal.payload.to::<Resolution>() {
                return self.resolved(key, step, &signal, resolution).await;
            }
            // An answer that nobody can read is no answer; the question stays.
            let problem = json!({ "step_name": key, "problem": "the resolution cannot be read" });
            self.defer(Op::Event(NewEvent::new(EventType::Error, problem)));
            self.commit(vec![Op::TakeSignal(signal.id)]).await?;
        }
        if intent != Intent::Asked {
            let memo = Json::from_value(&Intent::Asked)?;
            self.defer(self.settled(key, step, StepOutcome::Started { memo }));
            let payload = json!({
                "step_name": key,
                "kind": step.kind,
                "description": step.description,
            });
            let event = NewEvent::new(EventType::EffectIndeterminate, payload);
            self.defer(Op::Event(event));
        }
        self.park(vec![WakeOn::Signal(name)], true).await?;
        Err(AgentError::permanent(
            "internal",
            "a suspended wait returned",
        ))
    }

    async fn resolved(
        &self,
        key: &str,
        step: &HostStep,
        signal: &Signal,
        resolution: Resolution,
    ) -> Result<Settled, AgentError> {
        let (outcome, settled) = match resolution {
            Resolution::Done { result } => {
                let result = Json::from(result);
                let outcome = StepOutcome::Completed {
                    result: result.clone(),
                };
                (outcome, Ok(Settled::Result(result)))
            }
            Resolution::Retry => {
                let memo = Json::from_value(&Intent::Withdrawn)?;
                (StepOutcome::Started { memo }, Ok(Settled::Execute))
            }
            Resolution::Fail { message } => {
                let error = ErrorInfo::permanent("effect_failed", message);
                (recorded(&error), Err(error.into()))
            }
        };
        // Taking the answer and recording it are one commit: it is neither lost nor used twice.
        let record = self.settled(key, step, outcome);
        self.commit(vec![record, Op::TakeSignal(signal.id)]).await?;
        settled
    }

    fn settled(&self, key: &str, step: &HostStep, outcome: StepOutcome) -> Op {
        let now = self.now();
        Op::Step(StepRecord {
            key: key.to_owned(),
            kind: step.kind,
            input: step.input,
            outcome,
            attempts: 1,
            started_at: now,
            recorded_at: now,
        })
    }
}
