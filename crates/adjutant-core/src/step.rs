//! Journal records: what a run has already done.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ErrorInfo, Fingerprint, Json, Timestamp};

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The agent's own code.
    Code,
    /// A model call.
    Model,
    /// A tool call.
    Tool,
    /// A durable timer.
    Sleep,
    /// Waiting for a signal.
    Signal,
    /// Waiting for a person's decision.
    Approval,
    /// Child runs.
    Delegate,
}

impl StepKind {
    /// The stable text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Model => "model",
            Self::Tool => "tool",
            Self::Sleep => "sleep",
            Self::Signal => "signal",
            Self::Approval => "approval",
            Self::Delegate => "delegate",
        }
    }
}

/// How far a step came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StepOutcome {
    /// Begun: what a wait needs to find again after a restart, such as its deadline.
    Started {
        /// The wait's own data.
        memo: Json,
    },
    /// Done: replay returns the result and does not execute the step.
    Completed {
        /// The result.
        result: Json,
    },
    /// Failed for good: replay returns the same error.
    Failed {
        /// The error.
        error: ErrorInfo,
    },
}

/// One journaled step of a run, known by its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step's name, with `#2`, `#3`, … when the run uses the name again.
    pub key: String,
    /// What the step does.
    pub kind: StepKind,
    /// Fingerprint of the step's input; 0 when the agent named none.
    pub input: Fingerprint,
    /// How far it came.
    pub outcome: StepOutcome,
    /// Tries it took.
    pub attempts: u32,
    /// When the first try began.
    pub started_at: Timestamp,
    /// When this record was made.
    pub recorded_at: Timestamp,
}

/// What a step that may not be repeated records before its body begins. Without a result after it, nobody knows whether
/// the body has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "intent", rename_all = "snake_case")]
pub enum Intent {
    /// The body begins.
    Open,
    /// The body has certainly not happened; it may be executed.
    Withdrawn,
    /// A person has been asked what happened; the answer is a signal named [`Intent::signal`].
    Asked,
}

impl Intent {
    /// The signal that carries a person's [`Resolution`] of this step.
    #[must_use]
    pub fn signal(step_key: &str) -> String {
        format!("effect:{step_key}")
    }
}

/// What a person says about a step whose effect is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "resolution", rename_all = "snake_case", deny_unknown_fields)]
pub enum Resolution {
    /// It has happened, and this is its result.
    Done {
        /// The step's result.
        #[serde(default)]
        result: Value,
    },
    /// It has not happened, or may happen twice: execute it.
    Retry,
    /// It has failed.
    Fail {
        /// Why, for the agent.
        #[serde(default)]
        message: String,
    },
}
