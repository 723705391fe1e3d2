//! What a supervised process is doing.

use std::{fmt, time::Duration};

/// The state of one supervised process. Times are on the clock of whoever calls the [`Machine`](super::Machine).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It starts as soon as those are ready that it depends on.
    Waiting,
    /// It is started and not ready yet.
    Starting {
        /// When that takes too long.
        by: Duration,
    },
    /// It is ready, and perhaps busy.
    Up(Up),
    /// It has been ready and stands still.
    Paused(Up),
    /// It hangs, and is being ended in order to be started again.
    Unhealthy {
        /// What it failed.
        verdict: Verdict,
        /// When it is killed; `None` once it is.
        kill_at: Option<Duration>,
    },
    /// It is being ended because somebody wants that.
    Stopping {
        /// When it is killed; `None` once it is.
        kill_at: Option<Duration>,
    },
    /// It is to be restarted, after a pause.
    BackOff {
        /// The end of the pause.
        until: Duration,
    },
    /// It has ended by itself as it should, and is not to be restarted.
    Exited,
    /// It was stopped, or never started.
    Stopped,
    /// It will not be restarted unless somebody says so.
    Failed(Failure),
}

/// What is known of a process that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Up {
    /// When it became ready.
    pub since: Duration,
    /// When it was last heard of.
    pub heard: Duration,
    /// How many runs it works on.
    pub runs: u32,
    /// Whether it has finished a run before.
    pub served: bool,
}

/// What a living process failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It was not ready in time.
    StartTimeout,
    /// It was not heard of for too long.
    Silent,
    /// A health check says so.
    Sick,
}

/// Why a process is not restarted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// It failed, and its policy is not to restart it.
    Ended,
    /// It failed too many times in a row.
    Attempts,
    /// All of them together failed too often; this was the last one.
    Intensity,
    /// It cannot be started before something is installed or corrected.
    Start,
}

impl State {
    /// Whether there is, or may be, a process.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(
            self,
            Self::Starting { .. }
                | Self::Up(_)
                | Self::Paused(_)
                | Self::Unhealthy { .. }
                | Self::Stopping { .. }
        )
    }

    /// Whether the process is on its way out.
    #[must_use]
    pub const fn is_ending(&self) -> bool {
        matches!(self, Self::Unhealthy { .. } | Self::Stopping { .. })
    }

    /// Whether those that depend on it may start.
    #[must_use]
    pub const fn serves(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Paused(_) | Self::Exited)
    }

    /// Nothing will happen to it any more unless somebody says so.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self, Self::Exited | Self::Stopped | Self::Failed(_))
    }

    /// The state in one word, as it is shown and logged.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting { .. } => "starting",
            Self::Up(Up { runs: 1.., .. }) => "busy",
            Self::Up(Up { served: true, .. }) => "idle",
            Self::Up(_) => "ready",
            Self::Paused(_) => "paused",
            Self::Unhealthy { .. } => "unhealthy",
            Self::Stopping { .. } => "stopping",
            Self::BackOff { .. } => "back-off",
            Self::Exited => "exited",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartTimeout => "it was not ready in time",
            Self::Silent => "it was not heard of for too long",
            Self::Sick => "a health check failed",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "it failed and is not to be restarted",
            Self::Attempts => "it failed too many times in a row",
            Self::Intensity => "there were too many restarts in a short time",
            Self::Start => "it cannot be started",
        })
    }
}
