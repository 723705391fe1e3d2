//! The one seam for agents.

use std::{any::Any, borrow::Borrow, fmt, future::Future, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorInfo, RetryAdvice, RunContext, RunResult};

/// An agent's name within a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgentKey(Arc<str>);

impl AgentKey {
    /// The key with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for AgentKey {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for AgentKey {
    fn from(text: String) -> Self {
        Self(Arc::from(text))
    }
}

impl Borrow<str> for AgentKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why an agent failed. Any error turns into one with `?`; it is retriable unless it says otherwise.
pub struct AgentError(Box<ErrorInfo>);

impl AgentError {
    /// A failure that another attempt may get over.
    #[must_use]
    pub fn retriable(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Box::new(ErrorInfo::retriable(kind, message)))
    }

    /// A failure that trying again cannot help.
    #[must_use]
    pub fn permanent(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Box::new(ErrorInfo::permanent(kind, message)))
    }

    /// The failure as it is stored.
    #[must_use]
    pub fn info(&self) -> &ErrorInfo {
        &self.0
    }

    /// The failure as it is stored.
    #[must_use]
    pub fn into_info(self) -> ErrorInfo {
        *self.0
    }
}

// `AgentError` itself is no `std::error::Error`, so that this conversion can cover all that are.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for AgentError {
    fn from(error: E) -> Self {
        let any: &dyn Any = &error;
        if let Some(info) = any.downcast_ref::<ErrorInfo>() {
            return Self(Box::new(info.clone()));
        }
        let message = chain(&error);
        let info = match any.downcast_ref::<Error>() {
            Some(error) if error.retry() == RetryAdvice::Never => {
                ErrorInfo::permanent(error.code().0, message)
            }
            Some(error) => ErrorInfo::retriable(error.code().0, message),
            None => ErrorInfo::retriable(short_type_name::<E>(), message),
        };
        Self(Box::new(info))
    }
}

/// `a::b::Name<c::D>` -> `Name`.
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
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Code that turns a run's input into a result. Contract with whoever drives it:
///
/// - `run` may be called again for the same run after a crash, a retry or a wait; what it did through
///   the context's steps is not done again, what it did beside them is.
/// - The future of `run` may be dropped at any await: the run is then waiting, drained, cancelled or
///   its lease is lost.
/// - A panic in any method is a failed attempt and harms no other run.
/// - Agents are shared between runs; what belongs to one run belongs in its context.
#[async_trait]
pub trait Agent: Send + Sync {
    /// The agent's name.
    fn key(&self) -> AgentKey;

    /// Does the work.
    ///
    /// # Errors
    /// Whatever keeps it from a result; see [`Agent::on_error`] for how it is classified.
    async fn run(&self, ctx: &RunContext) -> Result<RunResult, AgentError>;

    /// Called once when the run is to be cancelled, while `run` goes on, for at most the grace period.
    async fn cancel(&self, _ctx: &RunContext) {}

    /// Classifies an error of `run`; `None` takes the error as it is.
    async fn on_error(&self, _ctx: &RunContext, _error: &AgentError) -> Option<ErrorInfo> {
        None
    }
}

/// An agent made of a key and an async closure over an owned context.
pub struct AgentFn<F> {
    key: AgentKey,
    run: F,
}

impl<F, Fut> AgentFn<F>
where
    F: Fn(RunContext) -> Fut + Send + Sync,
    Fut: Future<Output = Result<RunResult, AgentError>> + Send,
{
    /// Names the closure.
    pub fn new(key: impl Into<AgentKey>, run: F) -> Self {
        Self {
            key: key.into(),
            run,
        }
    }
}

#[async_trait]
impl<F, Fut> Agent for AgentFn<F>
where
    F: Fn(RunContext) -> Fut + Send + Sync,
    Fut: Future<Output = Result<RunResult, AgentError>> + Send,
{
    fn key(&self) -> AgentKey {
        self.key.clone()
    }

    async fn run(&self, ctx: &RunContext) -> Result<RunResult, AgentError> {
        (self.run)(ctx.clone()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_retriable_failures_named_by_their_type() {
        let error = AgentError::from("x".parse::<i32>().unwrap_err());
        assert_eq!(error.info().kind, "ParseIntError");
        assert!(error.info().retriable);
    }

    #[test]
    fn an_error_info_passes_through_unchanged() {
        let info = ErrorInfo::permanent("bad_input", "no such file");
        assert_eq!(AgentError::from(info.clone()).into_info(), info);
    }
}
