//! `step/*`: pieces of a run whose results are journaled.
//!
//! The agent asks before it acts and tells what came out; the host remembers. An attempt that comes after a crash or a
//! wait asks again and gets the answers back without doing the work twice.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    content::{AgentFailure, Empty, RunScope},
    dispatch::Call,
    method::Method,
};

/// May this step run, or is its result known? Agent → host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StepBegin {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// The step's name, unique in the run. A name used again gets `#2`, `#3`, … from the agent's library.
    pub key: String,
    /// Fingerprint of what goes into the step, opaque to the host. Another one than the journal's: -31012.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_hash: Option<String>,
    /// What the step does, for people: `code` (default), `model`, `tool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

impl Call for StepBegin {
    const METHOD: &'static str = Method::STEP_BEGIN;
    type Answer = StepDecision;
}

/// The host's word on a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum StepDecision {
    /// Done before: use this result.
    Replay {
        /// The journaled result.
        #[serde(default)]
        result: Value,
    },
    /// Do it now, then send `step/end`.
    Execute {
        /// The attempt of the run that does it, from 1; above 1, an earlier one may have done part of the work.
        #[serde(default = "first")]
        attempt: u32,
    },
    /// Failed for good before: fail the same way.
    Failed {
        /// The journaled failure.
        error: AgentFailure,
    },
}

const fn first() -> u32 {
    1
}

/// Journals a step's end, agent → host; durable when answered. Exactly one of `result` and `error` counts; with
/// neither the step succeeded with null.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepEnd {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// The step, as in `step/begin`.
    pub key: String,
    /// The result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The failure. One that is not retriable is final: later attempts get [`StepDecision::Failed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AgentFailure>,
    /// How often the agent's library tried, if it has a policy of its own. For the journal only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<StepTries>,
}

impl StepEnd {
    /// What the step came to.
    ///
    /// # Errors
    ///
    /// The step's failure, if it failed.
    pub fn outcome(self) -> Result<Value, AgentFailure> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.result.unwrap_or_default()),
        }
    }
}

impl Call for StepEnd {
    const METHOD: &'static str = Method::STEP_END;
    type Answer = Empty;
}

/// Tries of a step within one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StepTries {
    /// How often the step's code ran.
    pub tries: u32,
    /// How often it may run at most.
    pub max_tries: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decisions_look_as_documented() {
        let failure = AgentFailure {
            kind: "E".into(),
            message: "m".into(),
            ..AgentFailure::default()
        };
        let cases = [
            (
                StepDecision::Replay { result: json!(3) },
                json!({"state": "replay", "result": 3}),
            ),
            (
                StepDecision::Execute { attempt: 2 },
                json!({"state": "execute", "attempt": 2}),
            ),
            (
                StepDecision::Failed { error: failure },
                json!({"state": "failed", "error": {"type": "E", "message": "m", "retriable": false}}),
            ),
        ];
        for (decision, value) in cases {
            assert_eq!(serde_json::to_value(&decision).unwrap(), value);
            assert_eq!(
                serde_json::from_value::<StepDecision>(value).unwrap(),
                decision
            );
        }
    }

    #[test]
    fn a_step_without_result_and_error_succeeded_with_null() {
        assert_eq!(StepEnd::default().outcome(), Ok(Value::Null));
    }
}
