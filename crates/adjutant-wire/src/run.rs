//! `run/*`: an attempt from start to end, and what is heard of it meanwhile.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    checkpoint::Checkpoint,
    content::{RunInput, RunMessage, RunOutput, RunScope, TokenUsage},
    dispatch::{Call, Notice},
    method::Method,
};

/// Starts an attempt, host → agent. Stays open until the attempt ends. Failure of the agent's code is the error answer
/// -31000, see [`AgentFailure`](crate::AgentFailure).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunStart {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// Which agent of the program.
    #[serde(default)]
    pub agent: String,
    /// The conversation that the run belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What to work on.
    #[serde(default)]
    pub input: RunInput,
    /// Settings from whoever submitted the run.
    #[serde(default)]
    pub params: Value,
    /// Labels from whoever submitted the run.
    #[serde(default)]
    pub metadata: Value,
    /// The latest state that an earlier attempt saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// Answers of people by request key, for agents that returned `input_required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Map<String, Value>>,
    /// When the run must be over, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// What is left of the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<RunBudget>,
    /// Variables for programs that work on this attempt, such as the address and token of an endpoint for model calls. A
    /// process that was started for the attempt has them in its environment as well.
    #[serde(default, skip_serializing_if = "RunEnvironment::is_empty")]
    pub environment: RunEnvironment,
    /// Trace context and reverse-domain extensions.
    #[serde(rename = "_meta", default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Map<String, Value>>,
}

impl Call for RunStart {
    const METHOD: &'static str = Method::RUN_START;
    type Answer = RunResult;
}

/// Variables of one attempt, by name. `Debug` shows the names only, because values may be secrets.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct RunEnvironment(BTreeMap<String, String>);

impl RunEnvironment {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A variable's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All variables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter();
        all.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl FromIterator<(String, String)> for RunEnvironment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl fmt::Debug for RunEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What is left of a budget; absent means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RunBudget {
    /// Tokens, both ways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd: Option<f64>,
    /// Tool calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
}

/// The answer to `run/start`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// Why the attempt ended.
    pub stop_reason: StopReason,
    /// What came out.
    #[serde(default)]
    pub output: RunOutput,
    /// What it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TokenUsage>,
    /// For `input_required` and `yield`: the state to begin the next attempt with, kept like a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Value>,
    /// For `input_required`: what to ask, by key, `{kind, message, schema?}` each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_requests: Option<Map<String, Value>>,
    /// For `yield`: when to start the next attempt, RFC 3339; absent when a parked call says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_at: Option<String>,
}

impl RunResult {
    /// The end of an attempt that has to wait: `{stopReason: "yield"}`.
    #[must_use]
    pub fn yielded() -> Self {
        Self {
            stop_reason: StopReason::Yield,
            ..Self::default()
        }
    }
}

/// Why an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The agent is done.
    #[default]
    EndTurn,
    /// A model ran into its token limit.
    MaxTokens,
    /// The agent ran into its own limit of turns.
    MaxTurns,
    /// The agent or its model declines.
    Refusal,
    /// The answer to `run/cancel`.
    Cancelled,
    /// A person has to answer first, see [`RunResult::input_requests`].
    InputRequired,
    /// The run has to wait; a new attempt continues it later.
    Yield,
}

/// Something observable, agent → host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunEvent {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// From 1, one more each time within an attempt; the host drops repeats.
    pub seq: u64,
    /// A dotted name such as `assistant.message`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The content.
    #[serde(default)]
    pub data: Value,
}

impl Notice for RunEvent {
    const METHOD: &'static str = Method::RUN_EVENT;
}

/// Still working, agent → host. Any other message about the run says so too.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunHeartbeat {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// How far the run is, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// What it is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Notice for RunHeartbeat {
    const METHOD: &'static str = Method::RUN_HEARTBEAT;
}

/// Asks a run to stop, host → agent. The answer is `run/start`'s own, with `cancelled`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RunCancel {
    /// The run.
    pub run_id: String,
    /// Which attempt of it; absent means the one that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
    /// How long the agent has, in milliseconds, before it is killed or fenced.
    #[serde(default)]
    pub grace_ms: u64,
}

impl Notice for RunCancel {
    const METHOD: &'static str = Method::RUN_CANCEL;
}

/// More messages for a run under way, host → agent; only to an agent that said `steer`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunSteer {
    /// The attempt.
    #[serde(flatten)]
    pub scope: RunScope,
    /// What is said, oldest first. The agent takes it up when it next looks.
    pub messages: Vec<RunMessage>,
}

impl Notice for RunSteer {
    const METHOD: &'static str = Method::RUN_STEER;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_attempt_is_given_is_not_shown_in_debug_output() {
        let given = [("OPENAI_API_KEY".to_owned(), "s3cret".to_owned())];
        let start = RunStart {
            environment: given.into_iter().collect(),
            ..RunStart::default()
        };
        let shown = format!("{start:?}");
        assert!(shown.contains("OPENAI_API_KEY") && !shown.contains("s3cret"));
    }
}
