//! The seam between agents and whatever runs their processes.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use adjutant_confine::Isolation;
use async_trait::async_trait;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    environment::Environment,
    error::Result,
    limits::{LimitKind, Limits},
    procfs::Snapshot,
    usage::Observer,
};

/// What to start.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessSpec {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments, without the program itself.
    pub args: Vec<String>,
    /// The folder to run in.
    pub dir: PathBuf,
    /// Its whole environment; nothing else is inherited.
    pub env: Environment,
    /// What it may use, with all its descendants.
    pub limits: Limits,
    /// What it may see, change and reach.
    pub isolation: Isolation,
}

/// Starts processes and owns all that comes of them. Contract:
///
/// - Dropping a [`Process`] ends the process and all its descendants at once, wherever the drop happens.
/// - When a process has ended, by itself or not, none of its descendants goes on.
/// - No process outlives the program that started it.
#[async_trait]
pub trait ProcessManager: Send + Sync {
    /// Starts a process. Dropping the future before it is ready leaves nothing behind.
    async fn spawn(&self, spec: ProcessSpec) -> Result<Spawned>;
}

/// A process that has just started, and the other ends of its standard streams.
pub struct Spawned {
    /// The process. Dropping it ends it.
    pub process: Box<dyn Process>,
    /// What the process reads.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// What the process writes.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// What the process logs.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
}

/// One live process with its descendants.
#[async_trait]
pub trait Process: Send {
    /// The operating system's number for it, for logs.
    fn id(&self) -> u32;

    /// Returns how the process ended, once it has; again and again. Dropping the future loses nothing.
    async fn wait(&mut self) -> Result<ExitReason>;

    /// Asks the process and its descendants to end (TERM).
    fn terminate(&mut self);

    /// Ends the process and its descendants at once (KILL).
    fn kill(&mut self);

    /// Lets the process and its descendants stand still until [`Process::resume`]; what they hold they keep.
    fn pause(&mut self) {}

    /// Lets them go on.
    fn resume(&mut self) {}

    /// Who hears what the process says and does; nobody, unless somebody wants to.
    fn observer(&self) -> Observer {
        Observer::default()
    }

    /// What counts the process's tree; `None` when its descendants have to be found by their parents.
    fn probe(&self) -> Option<Arc<dyn Probe>> {
        None
    }

    /// Whether other runs have the same process, so that its end is not this run's to bring about.
    fn is_shared(&self) -> bool {
        false
    }

    /// Ends the process: TERM, `grace` to comply, KILL. Close its stdin before.
    async fn stop(&mut self, cause: StopCause, grace: Duration) -> Result<ExitReason> {
        self.terminate();
        let reason = match tokio::time::timeout(grace, self.wait()).await {
            Ok(reason) => reason?,
            Err(_) => {
                self.kill();
                self.wait().await?
            }
        };
        Ok(match reason {
            // That came first.
            ExitReason::Oom | ExitReason::Limit(_) => reason,
            _ => ExitReason::Stopped(cause),
        })
    }
}

/// Counts a process tree.
pub trait Probe: Send + Sync {
    /// Numbers of the living processes; `now` has all of the machine, for those who have to look through them.
    fn members(&self, now: &Snapshot) -> Vec<i32>;

    /// Processor time of all that has ever been in it, where somebody counts that.
    fn cpu(&self) -> Option<Duration>;
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExitReason {
    /// By itself, with a status.
    Exited(i32),
    /// By a signal from elsewhere.
    Signal(i32),
    /// It, or one of its descendants, used up the memory it may use.
    Oom,
    /// It, or one of its descendants, went over another limit.
    Limit(LimitKind),
    /// By us.
    Stopped(StopCause),
    /// Nobody saw how: it was started by a program that has died since.
    Unseen,
}

/// Why we ended a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopCause {
    /// Its work was done.
    Finished,
    /// The run was cancelled.
    Cancelled,
    /// It was silent, or slow to start.
    Unresponsive,
    /// It broke the protocol or a limit.
    Misbehaved,
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with status {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::Oom => f.write_str("was ended because its memory was used up"),
            Self::Limit(kind) => write!(f, "was ended by its limit `{kind}`"),
            Self::Stopped(_) => f.write_str("was stopped"),
            Self::Unseen => f.write_str("ended, and nobody saw how"),
        }
    }
}
