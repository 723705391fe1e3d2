//! What the process ends with: a number that scripts can rely on.

use adjutant::core::RunState;

/// How a command ended. The numbers are stable and listed in `docs/reference/cli.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked; for a run: it succeeded.
    Ok,
    /// It failed; for a run: it failed.
    Failed,
    /// The request or its input is not acceptable.
    Usage,
    /// The run was cancelled.
    Cancelled,
    /// The run's time was over.
    TimedOut,
    /// The run has not ended, and the command was told not to wait for it.
    Unfinished,
    /// The run was parked.
    Parked,
    /// The store cannot be used as it is: damaged, read-only, or made by a newer version.
    Store,
    /// Something is in the way that may be gone later: a full disk, a busy store.
    TryLater,
    /// Interrupted by the user; the run goes on when it is resumed.
    Interrupted,
    /// Whoever read the output stopped reading.
    BrokenPipe,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Cancelled => 3,
            Self::TimedOut => 4,
            Self::Unfinished => 5,
            Self::Parked => 6,
            Self::Store => 74,
            Self::TryLater => 75,
            Self::Interrupted => 130,
            Self::BrokenPipe => 141,
        }
    }

    /// The exit that tells how a run stands.
    pub const fn of(state: RunState) -> Self {
        match state {
            RunState::Succeeded => Self::Ok,
            RunState::Failed => Self::Failed,
            RunState::Cancelled => Self::Cancelled,
            RunState::TimedOut => Self::TimedOut,
            RunState::Parked => Self::Parked,
            _ => Self::Unfinished,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
