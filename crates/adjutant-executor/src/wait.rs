//! Waits that outlive the process: timers, signals, people.

use std::time::Duration;

use adjutant_core::{
    AgentError, ApprovalRequest, Decision, EventType, Fingerprint, Json, NewEvent, Result,
    StepKind, StepOutcome, StepRecord, Timestamp,
};
use adjutant_queue::{Signal, WakeOn};
use adjutant_store::Op;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{host::Host, journal::Found};

/// What a wait remembers across attempts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Memo {
    began: Timestamp,
    until: Option<Timestamp>,
}

/// A wait's place in the journal.
enum Place {
    /// The result is recorded.
    Done(Json),
    /// It goes on, since or until.
    Open {
        key: String,
        memo: Memo,
        is_new: bool,
    },
}

impl Host {
    fn find_wait(
        &self,
        kind: StepKind,
        name: &str,
        limit: Option<Duration>,
    ) -> Result<Place, AgentError> {
        let (key, found) = self.journal(|journal| {
            let key = journal.next_key(name);
            let found = journal.find(&key, kind, Fingerprint(0));
            (key, found)
        });
        let found = found?;
        let (memo, is_new) = match found {
            Found::Completed(result) => return Ok(Place::Done(result)),
            Found::Failed(error) => return Err(error),
            Found::Begun(memo) => (memo.to::<Memo>()?, false),
            Found::Nothing => {
                let began = self.now();
                (
                    Memo {
                        began,
                        until: limit.map(|limit| began + limit),
                    },
                    true,
                )
            }
        };
        if is_new {
            self.defer(wait_record(kind, &key, memo, started(memo)?, memo.began));
        }
        Ok(Place::Open { key, memo, is_new })
    }

    /// Records a wait's result; it is durable with the next commit, and until then it would be found
    /// again in the same way.
    fn close_wait(&self, kind: StepKind, key: &str, memo: Memo, result: Json) {
        let outcome = StepOutcome::Completed { result };
        self.defer(wait_record(kind, key, memo, outcome, self.now()));
    }

    pub(crate) async fn durable_sleep(
        &self,
        name: &str,
        duration: Duration,
    ) -> Result<(), AgentError> {
        let Place::Open { key, memo, .. } =
            self.find_wait(StepKind::Sleep, name, Some(duration))?
        else {
            return Ok(());
        };
        let until = memo.until.unwrap_or(memo.began);
        if until > self.now() {
            self.park(vec![WakeOn::At(until)], false).await?;
        }
        self.close_wait(StepKind::Sleep, &key, memo, Json::null());
        Ok(())
    }

    pub(crate) async fn durable_signal(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<Option<Json>, AgentError> {
        let (key, memo) =
            match self.find_wait(StepKind::Signal, &format!("signal:{name}"), timeout)? {
                Place::Done(result) => return Ok(result.to()?),
                Place::Open { key, memo, .. } => (key, memo),
            };
        if let Some(signal) = self.take(name) {
            let result = Json::from_value(&Some(&signal.payload))?;
            self.close_wait(StepKind::Signal, &key, memo, result);
            // Taking the signal and recording it are one commit: it is neither lost nor seen twice.
            self.commit(vec![Op::TakeSignal(signal.id)]).await?;
            return Ok(Some(signal.payload));
        }
        if self.is_over(memo) {
            self.close_wait(StepKind::Signal, &key, memo, Json::null());
            return Ok(None);
        }
        self.park(wake_on(name, memo), false).await?;
        Ok(None)
    }

    pub(crate) async fn durable_approval(
        &self,
        request: ApprovalRequest,
    ) -> Result<Decision, AgentError> {
        let name = format!("approval:{}", request.key);
        let place = self.find_wait(StepKind::Approval, &name, request.expires_in)?;
        let (key, memo, is_new) = match place {
            Place::Done(decision) => return Ok(decision.to()?),
            Place::Open { key, memo, is_new } => (key, memo, is_new),
        };
        // The numbered key, so that an answer to the second question never answers the first one.
        let public_key = key.strip_prefix("approval:").unwrap_or(&key).to_owned();
        if let Some(signal) = self.take(&key) {
            return self.decided(&key, &public_key, memo, &signal).await;
        }
        if self.is_over(memo) {
            let decision = Decision {
                approved: false,
                by: None,
                comment: None,
                data: Json::null(),
                expired: true,
            };
            self.close_wait(StepKind::Approval, &key, memo, Json::from_value(&decision)?);
            self.defer(event(
                EventType::ApprovalExpired,
                json!({ "key": public_key }),
            ));
            self.flush().await?;
            return Ok(decision);
        }
        if is_new {
            let payload = json!({
                "key": public_key,
                "message": request.message,
                "data": request.data,
                "expires_at": memo.until,
            });
            self.defer(event(EventType::ApprovalRequested, payload));
        }
        self.park(wake_on(&key, memo), true).await?;
        Err(AgentError::permanent(
            "internal",
            "a suspended wait returned",
        ))
    }

    async fn decided(
        &self,
        key: &str,
        public_key: &str,
        memo: Memo,
        signal: &Signal,
    ) -> Result<Decision, AgentError> {
        // A malformed answer must not be taken for a yes, nor stop the run for ever.
        let decision = signal.payload.to().unwrap_or_else(|error| Decision {
            approved: false,
            by: None,
            comment: Some(format!("the answer could not be read: {error}")),
            data: signal.payload.clone(),
            expired: false,
        });
        self.close_wait(StepKind::Approval, key, memo, Json::from_value(&decision)?);
        let payload = json!({
            "key": public_key,
            "approved": decision.approved,
            "by": decision.by,
            "comment": decision.comment,
        });
        self.defer(event(EventType::ApprovalDecided, payload));
        self.commit(vec![Op::TakeSignal(signal.id)]).await?;
        Ok(decision)
    }

    fn take(&self, name: &str) -> Option<Signal> {
        self.journal(|journal| journal.take_signal(name))
    }

    fn is_over(&self, memo: Memo) -> bool {
        memo.until.is_some_and(|until| until <= self.now())
    }
}

fn wake_on(signal: &str, memo: Memo) -> Vec<WakeOn> {
    let mut wake_on = vec![WakeOn::Signal(signal.to_owned())];
    wake_on.extend(memo.until.map(WakeOn::At));
    wake_on
}

fn started(memo: Memo) -> Result<StepOutcome, AgentError> {
    Ok(StepOutcome::Started {
        memo: Json::from_value(&memo)?,
    })
}

fn wait_record(
    kind: StepKind,
    key: &str,
    memo: Memo,
    outcome: StepOutcome,
    recorded_at: Timestamp,
) -> Op {
    Op::Step(StepRecord {
        key: key.to_owned(),
        kind,
        input: Fingerprint(0),
        outcome,
        attempts: 1,
        started_at: memo.began,
        recorded_at,
    })
}

fn event(event_type: EventType, payload: serde_json::Value) -> Op {
    Op::Event(NewEvent::new(event_type, payload))
}
