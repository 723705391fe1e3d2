//! What may take days: timers, signals, people, other agents.

use std::time::Duration;

use adjutant_wire::{
    Child, ChildResult, Delegate, FailurePolicy, InputAction, InputAnswer, InputKind, InputRequest,
    SignalWait, Sleep,
};
use serde_json::Value;

use crate::{attempt::RunHandle, error::RunResult};

/// A question to a person.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Approval {
    /// The question.
    pub message: String,
    /// What the decision is about.
    pub data: Option<Value>,
    /// After this time the answer is no; `None` waits as long as the run may live.
    pub expires_in: Option<Duration>,
}

impl From<&str> for Approval {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl From<String> for Approval {
    fn from(message: String) -> Self {
        Self {
            message,
            ..Self::default()
        }
    }
}

/// A person's answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// Yes or no.
    pub approved: bool,
    /// Who decided, as far as the runtime knows.
    pub by: Option<String>,
    /// Why, in their words.
    pub comment: Option<String>,
    /// Data that came with the decision, such as edited arguments; null for none.
    pub data: Value,
    /// Nobody decided in time.
    pub expired: bool,
}

impl From<InputAnswer> for Decision {
    fn from(answer: InputAnswer) -> Self {
        Self {
            approved: answer.action == InputAction::Accept,
            by: answer.by,
            comment: answer.comment,
            data: answer.content.unwrap_or_default(),
            expired: answer.action == InputAction::Cancel,
        }
    }
}

/// Each of these may end the attempt with [`RunError::Parked`](crate::RunError::Parked), to go on in a later one when
/// the wait is over, or with [`RunError::Cancelled`](crate::RunError::Cancelled) when the run is cancelled meanwhile.
impl RunHandle {
    /// Sleeps across crashes and restarts. The time counts from the first attempt that comes here.
    ///
    /// # Errors
    ///
    /// Parked, cancelled, or the attempt is over.
    pub fn sleep(&self, name: &str, duration: Duration) -> RunResult<()> {
        let (scope, key) = (self.0.scope.clone(), self.unique_key(name));
        self.0.call_waiting(&Sleep {
            scope,
            key,
            seconds: duration.as_secs_f64(),
        })?;
        Ok(())
    }

    /// Waits for the next signal of this name and returns its payload; `None` when `timeout` is over first.
    ///
    /// # Errors
    ///
    /// Parked, cancelled, or the attempt is over.
    pub fn wait_for_signal(
        &self,
        name: &str,
        timeout: Option<Duration>,
    ) -> RunResult<Option<Value>> {
        let wait = SignalWait {
            scope: self.0.scope.clone(),
            key: self.unique_key(name),
            name: name.to_owned(),
            timeout_seconds: timeout.map(|timeout| timeout.as_secs_f64()),
        };
        Ok(self.0.call_waiting(&wait)?.map(|signal| signal.payload))
    }

    /// Asks a person and waits for the decision. `key` is what people name when they decide.
    ///
    /// # Errors
    ///
    /// Parked, cancelled, or the attempt is over. A no is a [`Decision`].
    pub fn request_approval(
        &self,
        key: &str,
        question: impl Into<Approval>,
    ) -> RunResult<Decision> {
        let question = question.into();
        let request = InputRequest {
            scope: self.0.scope.clone(),
            key: self.unique_key(key),
            kind: InputKind::Approval,
            message: question.message,
            data: question.data,
            timeout_seconds: question.expires_in.map(|time| time.as_secs_f64()),
            ..InputRequest::default()
        };
        Ok(self.0.call_waiting(&request)?.into())
    }

    /// Runs other agents as child runs, all at once, and returns how they ended, in the order given.
    ///
    /// # Errors
    ///
    /// Parked, cancelled, the attempt is over; and, unless the policy is to settle, a child's failure.
    pub fn delegate(
        &self,
        name: &str,
        children: Vec<Child>,
        policy: FailurePolicy,
    ) -> RunResult<Vec<ChildResult>> {
        let (scope, key) = (self.0.scope.clone(), self.unique_key(name));
        Ok(self
            .0
            .call_waiting(&Delegate {
                scope,
                key,
                children,
                policy,
            })?
            .results)
    }
}
