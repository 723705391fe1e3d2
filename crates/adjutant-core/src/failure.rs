//! How a failure is told and stored.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Json;

/// A failure as it is stored with a run, a step or a child's outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// A stable, short kind such as `tool_timeout` or `ValueError`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, for a person.
    pub message: String,
    /// Where it happened; for developers, never shown to end users.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stack: String,
    /// Whether another attempt may succeed.
    pub retriable: bool,
    /// Whatever else a program can use.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub details: Json,
}

/// The kind of a failure that leaves open whether the effect has happened: sent, but not answered.
pub const EFFECT_INDETERMINATE: &str = "effect_indeterminate";

impl ErrorInfo {
    /// Whether it is unknown if the effect has happened.
    #[must_use]
    pub fn is_indeterminate(&self) -> bool {
        self.kind == EFFECT_INDETERMINATE
    }

    /// A failure that another attempt may get over.
    #[must_use]
    pub fn retriable(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            stack: String::new(),
            retriable: true,
            details: Json::null(),
        }
    }

    /// A failure that trying again cannot help.
    #[must_use]
    pub fn permanent(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            retriable: false,
            ..Self::retriable(kind, message)
        }
    }

    /// The same failure with details for programs.
    #[must_use]
    pub fn with_details(self, details: impl Into<Json>) -> Self {
        Self {
            details: details.into(),
            ..self
        }
    }
}

impl fmt::Display for ErrorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for ErrorInfo {}
