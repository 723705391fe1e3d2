//! The run state machine: the only way between two run states.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RunState {
    /// Queued: ready for a worker, delayed, or held back by its concurrency key.
    #[serde(alias = "queued")]
    Pending = 0,
    /// A worker holds the lease and drives it.
    Running = 1,
    /// Sleeping until a timer, a signal or its child runs wake it. Costs a row, no task.
    Waiting = 2,
    /// Waiting for a person's decision.
    InputRequired = 3,
    /// Stopped by an operator until resumed.
    Paused = 4,
    /// Ended: the agent returned a result.
    Succeeded = 5,
    /// Ended: the agent failed and no attempt is left.
    Failed = 6,
    /// Ended: somebody cancelled it.
    #[serde(alias = "canceled")]
    Cancelled = 7,
    /// Ended: it ran longer than it was allowed to.
    TimedOut = 8,
    /// Set aside after killing its workers too often; can be redriven.
    Parked = 9,
}

/// What happens to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// A worker took the lease.
    Claimed,
    /// The agent waits for a timer, a signal or child runs.
    Waited,
    /// The agent waits for a person.
    InputRequested,
    /// What it waited for has come.
    Woken,
    /// The attempt failed and another one is due.
    RetryScheduled,
    /// The worker gave the run back unfinished, to drain or to yield.
    Released,
    /// The worker fell silent for longer than its lease.
    LeaseExpired,
    /// An operator paused it.
    Paused,
    /// An operator let it go on.
    Resumed,
    /// It was set aside as poison.
    Parked,
    /// An operator put a parked run back.
    Redriven,
    /// The agent returned a result.
    Succeeded,
    /// The agent failed for good.
    Failed,
    /// The run was cancelled.
    Cancelled,
    /// The run's time was over.
    TimedOut,
}

/// A transition that the state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {state} run cannot be {transition}")]
pub struct IllegalTransition {
    /// The state it was in.
    pub state: RunState,
    /// What was asked of it.
    pub transition: Transition,
}

impl RunState {
    /// All states, in the order of their codes.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Running,
        Self::Waiting,
        Self::InputRequired,
        Self::Paused,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
        Self::Parked,
    ];

    /// The state after `transition`.
    ///
    /// # Errors
    /// [`IllegalTransition`] when this state does not allow it.
    pub fn apply(self, transition: Transition) -> Result<Self, IllegalTransition> {
        use Transition as T;
        match (self, transition) {
            (Self::Pending, T::Claimed) => Ok(Self::Running),

            (Self::Running, T::Waited) => Ok(Self::Waiting),
            (Self::Running, T::InputRequested) => Ok(Self::InputRequired),
            (Self::Running, T::RetryScheduled | T::Released | T::LeaseExpired) => Ok(Self::Pending),
            (Self::Running, T::Parked) => Ok(Self::Parked),
            (Self::Running, T::Succeeded) => Ok(Self::Succeeded),
            (Self::Running, T::Failed) => Ok(Self::Failed),
            (Self::Running, T::TimedOut) => Ok(Self::TimedOut),

            (Self::Waiting | Self::InputRequired, T::Woken) => Ok(Self::Pending),

            (Self::Pending | Self::Running | Self::Waiting | Self::InputRequired, T::Paused) => {
                Ok(Self::Paused)
            }
            (Self::Paused, T::Resumed) => Ok(Self::Pending),
            (Self::Parked, T::Redriven) => Ok(Self::Pending),

            (state, T::Cancelled) if !state.is_terminal() => Ok(Self::Cancelled),
            (state, transition) => Err(IllegalTransition { state, transition }),
        }
    }

    /// Whether the run has ended, for ever.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::TimedOut
        )
    }

    /// Whether nothing more happens to the run unless somebody asks for it: ended or parked.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        self.is_terminal() || matches!(self, Self::Parked)
    }

    /// The stable text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::InputRequired => "input_required",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Parked => "parked",
        }
    }

    /// The state with this stored code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The code to store; never changes its meaning.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl Transition {
    /// All transitions.
    pub const ALL: [Self; 15] = [
        Self::Claimed,
        Self::Waited,
        Self::InputRequested,
        Self::Woken,
        Self::RetryScheduled,
        Self::Released,
        Self::LeaseExpired,
        Self::Paused,
        Self::Resumed,
        Self::Parked,
        Self::Redriven,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// The word used in messages and diagrams.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Waited => "suspended",
            Self::InputRequested => "asked for input",
            Self::Woken => "woken",
            Self::RetryScheduled => "retried",
            Self::Released => "released",
            Self::LeaseExpired => "lease expired",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Parked => "parked",
            Self::Redriven => "redriven",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for RunState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "queued" => return Ok(Self::Pending),
            "canceled" => return Ok(Self::Cancelled),
            _ => {}
        }
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|state| state.as_str()).collect();
                format!(
                    "`{text}` is not a run state; the states are {}",
                    names.join(", ")
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole machine: each pair that is allowed, and nothing else.
    const ALLOWED: &[(RunState, Transition, RunState)] = {
        use RunState as S;
        use Transition as T;
        &[
            (S::Pending, T::Claimed, S::Running),
            (S::Pending, T::Paused, S::Paused),
            (S::Pending, T::Cancelled, S::Cancelled),
            (S::Running, T::Waited, S::Waiting),
            (S::Running, T::InputRequested, S::InputRequired),
            (S::Running, T::RetryScheduled, S::Pending),
            (S::Running, T::Released, S::Pending),
            (S::Running, T::LeaseExpired, S::Pending),
            (S::Running, T::Paused, S::Paused),
            (S::Running, T::Parked, S::Parked),
            (S::Running, T::Succeeded, S::Succeeded),
            (S::Running, T::Failed, S::Failed),
            (S::Running, T::Cancelled, S::Cancelled),
            (S::Running, T::TimedOut, S::TimedOut),
            (S::Waiting, T::Woken, S::Pending),
            (S::Waiting, T::Paused, S::Paused),
            (S::Waiting, T::Cancelled, S::Cancelled),
            (S::InputRequired, T::Woken, S::Pending),
            (S::InputRequired, T::Paused, S::Paused),
            (S::InputRequired, T::Cancelled, S::Cancelled),
            (S::Paused, T::Resumed, S::Pending),
            (S::Paused, T::Cancelled, S::Cancelled),
            (S::Parked, T::Redriven, S::Pending),
            (S::Parked, T::Cancelled, S::Cancelled),
        ]
    };

    #[test]
    fn every_pair_of_state_and_transition_is_decided() {
        for state in RunState::ALL {
            for transition in Transition::ALL {
                let expected = ALLOWED
                    .iter()
                    .find(|(from, by, _)| (*from, *by) == (state, transition))
                    .map(|(_, _, to)| *to);
                assert_eq!(
                    state.apply(transition).ok(),
                    expected,
                    "{state} + {transition}"
                );
            }
        }
    }

    #[test]
    fn a_terminal_state_is_never_left() {
        for state in RunState::ALL
            .into_iter()
            .filter(|state| state.is_terminal())
        {
            assert!(
                Transition::ALL
                    .into_iter()
                    .all(|by| state.apply(by).is_err()),
                "{state}"
            );
        }
    }

    #[test]
    fn codes_and_names_round_trip() {
        for state in RunState::ALL {
            assert_eq!(RunState::from_code(state.code()), Some(state));
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert_eq!("queued".parse(), Ok(RunState::Pending));
    }
}
