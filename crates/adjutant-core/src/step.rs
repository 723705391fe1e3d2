//! Journal records: what a run has already done.

use serde::{Deserialize, Serialize};

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
