//! Durable steps.

use std::{num::NonZeroU32, time::Duration};

use adjutant_wire::{StepBegin, StepDecision, StepEnd, StepTries};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    attempt::RunHandle,
    error::{AgentError, RunError, RunResult},
    keys::fingerprint,
};

/// How often a step is tried within one attempt of the run. The pauses hold the process; for long ones let the run fail
/// with a retriable error instead, whose pauses do not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Tries in all, the first included. Default 3.
    pub max_tries: NonZeroU32,
    /// Pause after the first failed try. Default 1 s.
    pub delay: Duration,
    /// Each further pause is this many times as long. Default 2.
    pub factor: f64,
    /// Longest pause. Default 60 s.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_tries: NonZeroU32::MIN.saturating_add(2),
            delay: Duration::from_secs(1),
            factor: 2.0,
            max_delay: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// One try.
    #[must_use]
    pub fn never() -> Self {
        Self {
            max_tries: NonZeroU32::MIN,
            ..Self::default()
        }
    }

    /// The pause after try `tries` (1 for the first) failed.
    #[must_use]
    pub fn delay_after(&self, tries: u32) -> Duration {
        let exponent = i32::try_from(tries.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.delay.as_secs_f64() * self.factor.max(0.0).powi(exponent);
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(self.max_delay)
            .min(self.max_delay)
    }
}

impl RunHandle {
    /// Does a piece of work once. In a later attempt its recorded result is returned and `work` is not called.
    ///
    /// The result goes through JSON. A crash between the work and the record repeats the work, so work with effects
    /// outside should be fit to be repeated.
    ///
    /// # Errors
    ///
    /// The failure of `work`, now or as recorded; or the attempt is over.
    pub fn step<T, F>(&self, name: &str, work: F) -> RunResult<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut() -> Result<T, AgentError>,
    {
        self.step_builder(name).run(work)
    }

    /// [`step`](Self::step) with an input whose change is noticed: a later attempt that comes with another input fails
    /// with `call_conflict` instead of using a result that does not belong to it.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step), and when the input is no JSON.
    pub fn step_with<I, T, F>(&self, name: &str, input: &I, mut work: F) -> RunResult<T>
    where
        I: Serialize + ?Sized,
        T: Serialize + DeserializeOwned,
        F: FnMut(&I) -> Result<T, AgentError>,
    {
        self.step_builder(name).input(input)?.run(|| work(input))
    }

    /// A step with an input, a kind or retries.
    pub fn step_builder(&self, name: &str) -> StepBuilder {
        StepBuilder::new(self.clone(), self.unique_key(name))
    }
}

/// A step being described.
#[must_use = "a step does nothing until it is run"]
#[derive(Debug)]
pub struct StepBuilder {
    run: RunHandle,
    key: String,
    input_hash: Option<String>,
    kind: Option<String>,
    retry: RetryPolicy,
}

impl StepBuilder {
    pub(crate) fn new(run: RunHandle, key: String) -> Self {
        Self {
            run,
            key,
            input_hash: None,
            kind: None,
            retry: RetryPolicy::never(),
        }
    }

    /// What goes into the step; see [`RunHandle::step_with`](crate::RunHandle::step_with).
    ///
    /// # Errors
    ///
    /// When it is no JSON.
    pub fn input<I: Serialize + ?Sized>(mut self, input: &I) -> RunResult<Self> {
        self.input_hash = Some(fingerprint(input)?);
        Ok(self)
    }

    /// What the step does, for people who watch: `model`, `tool`; default `code`.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Tries again after retriable failures.
    pub const fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Does the work, or returns its recorded result.
    ///
    /// # Errors
    ///
    /// The failure of `work` after its last try, now or as recorded; or the attempt is over.
    pub fn run<T, F>(mut self, work: F) -> RunResult<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut() -> Result<T, AgentError>,
    {
        let scope = self.run.0.scope.clone();
        let (key, input_hash, kind) = (self.key.clone(), self.input_hash.take(), self.kind.take());
        match self.run.0.call(&StepBegin {
            scope,
            key,
            input_hash,
            kind,
        })? {
            StepDecision::Replay { result } => self.read(result),
            StepDecision::Failed { error } => Err(AgentError::from_failure(error).into()),
            StepDecision::Execute { .. } => self.execute(work),
        }
    }

    fn read<T: DeserializeOwned>(&self, result: Value) -> RunResult<T> {
        let changed = |error| {
            let text = format!("the recorded result of step `{}`: {error}", self.key);
            AgentError::permanent("step_changed", text).into()
        };
        serde_json::from_value(result).map_err(changed)
    }

    fn execute<T: Serialize>(self, work: impl FnMut() -> Result<T, AgentError>) -> RunResult<T> {
        let max_tries = self.retry.max_tries.get();
        let Tried { tries, outcome } = self.try_often(work)?;
        let end = StepEnd {
            scope: self.run.0.scope.clone(),
            key: self.key,
            retry: (max_tries > 1).then_some(StepTries { tries, max_tries }),
            ..StepEnd::default()
        };
        match outcome {
            Ok((value, json)) => {
                self.run.0.call(&StepEnd {
                    result: Some(json),
                    ..end
                })?;
                Ok(value)
            }
            Err(error) => {
                self.run.0.call(&StepEnd {
                    error: Some(error.failure().clone()),
                    ..end
                })?;
                Err(error.into())
            }
        }
    }

    /// Tries until the policy has enough. The outer error means that a pause was cancelled.
    fn try_often<T: Serialize>(
        &self,
        mut work: impl FnMut() -> Result<T, AgentError>,
    ) -> RunResult<Tried<T>> {
        let mut tries = 1;
        loop {
            let outcome = work().and_then(|value| {
                let json = serde_json::to_value(&value)?;
                Ok((value, json))
            });
            match outcome {
                Err(error) if error.failure().retriable && tries < self.retry.max_tries.get() => {
                    if self.run.0.pause(self.retry.delay_after(tries)).is_err() {
                        return Err(RunError::Cancelled);
                    }
                    tries += 1;
                }
                outcome => return Ok(Tried { tries, outcome }),
            }
        }
    }
}

/// What came of a step's tries.
struct Tried<T> {
    tries: u32,
    /// Of the last one: the value, and its JSON.
    outcome: Result<(T, Value), AgentError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_their_limit() {
        let policy = RetryPolicy {
            max_delay: Duration::from_secs(5),
            ..RetryPolicy::default()
        };
        let pauses: Vec<_> = (1..=4)
            .map(|tries| policy.delay_after(tries).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 5]);
        assert_eq!(policy.delay_after(u32::MAX), policy.max_delay);
    }
}
