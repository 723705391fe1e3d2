//! What a supervisor is told, and what it says.

use std::time::Duration;

use super::{policy::RestartPolicy, state::State};

/// What has to be known of a process to supervise it.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Its name among those that are supervised together.
    pub name: String,
    /// Who has to be ready before it starts, and goes down after it.
    pub depends_on: Vec<String>,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Longest time from start to ready.
    pub start_timeout: Duration,
    /// Time from the request to end until it is killed.
    pub stop_timeout: Duration,
    /// Longest silence while it is ready; `None` when nothing is expected of it.
    pub heartbeat: Option<Duration>,
    /// Whether it was stopped by hand in an earlier life.
    pub stopped: bool,
}

impl Child {
    /// With defaults: restarts on failure, 30 s to start, 10 s to stop, nothing expected in between.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            depends_on: Vec::new(),
            restart: RestartPolicy::default(),
            start_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(10),
            heartbeat: None,
            stopped: false,
        }
    }
}

/// Something that happened. What is said of a process carries its generation, so that old news does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Start all, but for those that are to stay stopped.
    StartAll,
    /// Stop all; those first on whom nobody depends.
    StopAll,
    /// Start one, and forget its failures.
    Start(String),
    /// Stop one.
    Stop(String),
    /// Stop one, if it runs, and start it.
    Restart(String),
    /// Let one stand still.
    Pause(String),
    /// Let it go on.
    Resume(String),
    /// About one process.
    Process(String, u64, Happened),
    /// Time has passed.
    Tick,
}

/// What one process did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happened {
    /// It can do its work now.
    Ready,
    /// It gave a sign of life.
    Heartbeat,
    /// It took a run.
    RunStarted,
    /// It finished one.
    RunEnded,
    /// A health check failed.
    Sick,
    /// It ended by itself or as it was told; `clean` with status 0.
    Exited {
        /// Whether that was success.
        clean: bool,
    },
    /// There is no process; `lasting` when trying again cannot help.
    NotStarted {
        /// Whether something has to be corrected first.
        lasting: bool,
    },
}

/// Something to do. Actions about one process have its generation, see [`Event::Process`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Start a process.
    Start(String, u64),
    /// Ask it to end.
    Stop(String, u64),
    /// End it.
    Kill(String, u64),
    /// Let it stand still.
    Pause(String, u64),
    /// Let it go on.
    Resume(String, u64),
    /// Say that a state has changed.
    Tell(String, State),
}
