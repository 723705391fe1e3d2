//! Why a run's code stops.

use std::{any::Any, fmt};

use adjutant_wire::{AgentFailure, ErrorCode, RpcError};
use serde_json::Value;

/// Result of what an agent's code calls on its run.
pub type RunResult<T> = Result<T, RunError>;

/// Why a call on a run does not return a value. Pass it on with `?`; only [`RunError::Agent`] is the agent's to handle.
///
/// Neither this nor [`AgentError`] implements `std::error::Error`, so that `?` can turn every error that does into them.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// Something failed: the agent's code, a step, a child, a refused call.
    Agent(AgentError),
    /// The run has to wait; a later attempt goes on. Everything the run is asked from here on says the same.
    Parked,
    /// The run is to be cancelled, and the call was one that waits.
    Cancelled,
    /// The attempt is over: its lease or the runtime is gone. Nothing that it does counts any more.
    Stopped(RpcError),
}

impl RunError {
    /// What an error answer to a call means for the run.
    pub(crate) fn from_answer(error: RpcError) -> Self {
        match error.kind() {
            Some(ErrorCode::Park) => Self::Parked,
            Some(ErrorCode::Cancelled) => Self::Cancelled,
            Some(ErrorCode::Fenced | ErrorCode::UnknownRun | ErrorCode::ProcessGone) => {
                Self::Stopped(error)
            }
            _ => Self::Agent(AgentError::from_failure(error.into())),
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(error) => error.fmt(f),
            Self::Parked => f.write_str("the run waits for a later attempt"),
            Self::Cancelled => f.write_str("the run is cancelled"),
            Self::Stopped(error) => write!(f, "the attempt is over: {error}"),
        }
    }
}

impl From<AgentError> for RunError {
    fn from(error: AgentError) -> Self {
        Self::Agent(error)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for RunError {
    fn from(error: E) -> Self {
        Self::Agent(AgentError::from(error))
    }
}

/// A failure of an agent's code. Any error turns into one with `?`; it is retriable unless it says otherwise.
pub struct AgentError(Box<AgentFailure>);

impl AgentError {
    /// A failure that another try may get over. `kind` is a stable, short name such as `rate_limited`.
    #[must_use]
    pub fn retriable(kind: impl Into<String>, message: impl Into<String>) -> Self {
        let (kind, message) = (kind.into(), message.into());
        Self(Box::new(AgentFailure {
            kind,
            message,
            retriable: true,
            details: None,
        }))
    }

    /// A failure that trying again cannot help.
    #[must_use]
    pub fn permanent(kind: impl Into<String>, message: impl Into<String>) -> Self {
        let mut error = Self::retriable(kind, message);
        error.0.retriable = false;
        error
    }

    /// The same failure with details for programs.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.0.details = Some(Box::new(details));
        self
    }

    pub(crate) fn from_failure(failure: AgentFailure) -> Self {
        Self(Box::new(failure))
    }

    /// The failure as it goes over the wire.
    #[must_use]
    pub fn failure(&self) -> &AgentFailure {
        &self.0
    }

    /// The failure as it goes over the wire.
    #[must_use]
    pub fn into_failure(self) -> AgentFailure {
        *self.0
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for AgentError {
    fn from(error: E) -> Self {
        if let Some(failure) = (&error as &dyn Any).downcast_ref::<AgentFailure>() {
            return Self::from_failure(failure.clone());
        }
        Self::retriable(short_type_name::<E>(), chain(&error))
    }
}

/// `a::b::Name<c::D>` → `Name`.
fn short_type_name<T>() -> &'static str {
    let full = std::any::type_name::<T>();
    let path = full.split('<').next().unwrap_or(full);
    path.rsplit("::").next().unwrap_or(path)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl fmt::Debug for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_error_becomes_a_retriable_failure_named_by_its_type() {
        let error = AgentError::from("x".parse::<i32>().unwrap_err());
        assert_eq!(error.failure().kind, "ParseIntError");
        assert!(error.failure().retriable);
    }

    #[test]
    fn answers_that_end_the_attempt_are_told_from_failures() {
        let error = |code| RunError::from_answer(RpcError::new(code, "x"));
        assert!(matches!(error(ErrorCode::Park), RunError::Parked));
        assert!(matches!(error(ErrorCode::Fenced), RunError::Stopped(_)));
        assert!(matches!(error(ErrorCode::Cancelled), RunError::Cancelled));
        let RunError::Agent(failure) = error(ErrorCode::Budget) else {
            panic!("another kind")
        };
        assert_eq!(
            (failure.failure().kind.as_str(), failure.failure().retriable),
            ("budget", false)
        );
    }
}
