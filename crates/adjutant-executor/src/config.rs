//! A runner's settings.

use std::{num::NonZeroU32, time::Duration};

use adjutant_core::{AgentKey, RetryPolicy};

/// Settings of an [`AgentRunner`](crate::AgentRunner).
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerConfig {
    /// Names the worker in logs; its id is unique per incarnation in any case. Default `worker`.
    pub name: String,
    /// Runs driven at the same time, at least 1. Default 8.
    pub concurrency: usize,
    /// Longest time for one execution of a run that names none itself. Default 300 s.
    pub run_timeout: Duration,
    /// Time between heartbeats; a cancellation reaches the agent within one. Default 30 s, and at most
    /// half of `lease_ttl`.
    pub heartbeat_interval: Duration,
    /// Silence after which a run is given to another worker. Default 60 s.
    pub lease_ttl: Duration,
    /// Attempts in all for runs that are submitted with [`AgentRunner::retry_policy`]. Default 3.
    ///
    /// [`AgentRunner::retry_policy`]: crate::AgentRunner::retry_policy
    pub max_retries: u32,
    /// Base of the exponential back-off in seconds. Default 2.
    pub retry_backoff_base: f64,
    /// Longest back-off. Default 300 s.
    pub retry_backoff_max: Duration,
    /// How long a cancelled run may tidy up before it is aborted. Default 10 s.
    pub cancel_grace: Duration,
    /// How long a stopping worker waits for its runs before it gives them back. Default 30 s.
    pub drain_grace: Duration,
    /// Take only these agents' runs; `None` takes those of all registered agents.
    pub only: Option<Vec<AgentKey>>,
    /// Take runs of unknown agents too, to fail them with `unknown_agent`. For stores that no other kind
    /// of worker shares. Default false.
    pub fail_unknown_agents: bool,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self {
            name: "worker".to_owned(),
            concurrency: 8,
            run_timeout: Duration::from_secs(300),
            heartbeat_interval: Duration::from_secs(30),
            lease_ttl: Duration::from_secs(60),
            max_retries: 3,
            retry_backoff_base: 2.0,
            retry_backoff_max: Duration::from_secs(300),
            cancel_grace: Duration::from_secs(10),
            drain_grace: Duration::from_secs(30),
            only: None,
            fail_unknown_agents: false,
        }
    }
}

/// Settings that cannot work, all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid runner settings: {}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

impl RunnerConfig {
    /// Reports everything that is wrong at once.
    ///
    /// # Errors
    /// [`ConfigError`] with one line per problem.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: &str| {
            if !holds {
                problems.push(problem.to_owned());
            }
        };
        require(self.concurrency > 0, "concurrency must be at least 1");
        require(
            self.max_retries > 0,
            "max_retries counts all attempts and must be at least 1",
        );
        require(
            !self.run_timeout.is_zero(),
            "run_timeout must be longer than zero",
        );
        require(
            !self.heartbeat_interval.is_zero(),
            "heartbeat_interval must be longer than zero",
        );
        require(
            self.heartbeat_interval * 2 <= self.lease_ttl,
            "heartbeat_interval must be at most half of lease_ttl",
        );
        require(
            self.retry_backoff_base >= 0.0 && self.retry_backoff_base.is_finite(),
            "retry_backoff_base must be zero or more",
        );
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError(problems))
        }
    }

    /// The retry policy that these settings describe.
    #[must_use]
    pub fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            max_attempts: NonZeroU32::new(self.max_retries).unwrap_or(NonZeroU32::MIN),
            backoff_base: self.retry_backoff_base,
            max_delay: self.retry_backoff_max,
            ..RetryPolicy::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(RunnerConfig::default().validate(), Ok(()));
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let config = RunnerConfig {
            concurrency: 0,
            max_retries: 0,
            heartbeat_interval: Duration::from_secs(60),
            ..RunnerConfig::default()
        };
        assert_eq!(config.validate().unwrap_err().0.len(), 3);
    }
}
