//! What goes into a run and what comes out.

use serde::{Deserialize, Serialize};

use crate::{ConversationId, ErrorInfo, Json, Message, RunState, Usage};

/// A run's input: messages, data, or both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunInput {
    /// The conversation so far.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// Structured input.
    #[serde(skip_serializing_if = "Json::is_null")]
    pub data: Json,
    /// Settings for this run.
    #[serde(skip_serializing_if = "Json::is_null")]
    pub params: Json,
    /// The conversation that the run belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
}

impl RunInput {
    /// Input of one user message.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            messages: vec![Message::user(text)],
            ..Self::default()
        }
    }

    /// Structured input.
    #[must_use]
    pub fn data(data: impl Into<Json>) -> Self {
        Self {
            data: data.into(),
            ..Self::default()
        }
    }
}

/// Something large that a run made, by reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name within the run.
    pub name: String,
    /// Where it is: a path or a URL.
    pub uri: String,
    /// Such as `text/markdown`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "mimeType")]
    pub mime_type: Option<String>,
}

/// What an agent returns.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunResult {
    /// The result.
    #[serde(rename = "output", alias = "final_output")]
    pub final_output: Json,
    /// The messages that the run added.
    #[serde(
        rename = "messages",
        alias = "final_messages",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub final_messages: Vec<Message>,
    /// What it used.
    pub usage: Usage,
    /// What it made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
}

impl RunResult {
    /// A result without messages.
    #[must_use]
    pub fn output(output: impl Into<Json>) -> Self {
        Self {
            final_output: output.into(),
            ..Self::default()
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// With a result.
    Succeeded(RunResult),
    /// With a failure.
    Failed {
        /// Why.
        error: ErrorInfo,
    },
    /// By request.
    Cancelled {
        /// Who or what asked for it.
        reason: String,
    },
    /// Because its time was over.
    TimedOut {
        /// The time it was given, in seconds.
        timeout_seconds: f64,
    },
}

impl Outcome {
    /// The state that the outcome leads to.
    #[must_use]
    pub const fn state(&self) -> RunState {
        match self {
            Self::Succeeded(_) => RunState::Succeeded,
            Self::Failed { .. } => RunState::Failed,
            Self::Cancelled { .. } => RunState::Cancelled,
            Self::TimedOut { .. } => RunState::TimedOut,
        }
    }
}
