//! What can go wrong with processes.

use std::{io, path::PathBuf};

use adjutant_core::AgentError;

use crate::{capabilities::Ownership, launcher::Step, limits::LimitKind, supervise::OrderError};

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Failures of starting and watching processes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program of a command does not exist or may not be executed.
    #[error("{problem}")]
    ProgramNotFound {
        /// The program as the manifest names it.
        program: String,
        /// Where it was looked for, and what to do about it.
        problem: String,
    },
    /// The folder that a process is to run in does not exist.
    #[error("the folder {} does not exist", dir.display())]
    NoFolder {
        /// The folder.
        dir: PathBuf,
    },
    /// A variable's value is not where the manifest says.
    #[error("`env.{variable}`: {problem}")]
    Secret {
        /// The variable.
        variable: String,
        /// Why, without the value.
        problem: String,
    },
    /// There are as many instances as there may be.
    #[error("{most} instances {of} are running, and there may be no more: see `{setting}`")]
    TooManyInstances {
        /// How many there may be.
        most: usize,
        /// Of whom, such as ``of `triage` ``.
        of: String,
        /// What to raise.
        setting: &'static str,
    },
    /// Services cannot be put in order.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A supervised process did not get ready.
    #[error("{name} did not get ready: {why}")]
    NotReady {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// There is no supervised process of this name.
    #[error("there is no instance {name}")]
    NoInstance {
        /// The name.
        name: String,
    },
    /// The supervisor has ended.
    #[error("the supervisor has ended")]
    SupervisorGone,
    /// The operating system refused to start the process.
    #[error("failed to start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process could not be prepared for its program.
    #[error("failed to {step}")]
    Confine {
        /// What failed.
        step: Step,
        /// Why.
        source: io::Error,
    },
    /// What the manifest asks for cannot be enforced here.
    #[error("`isolation: {profile}`: {source}")]
    Isolation {
        /// The profile.
        profile: adjutant_confine::Profile,
        /// Why, and what to do about it.
        source: adjutant_confine::Refused,
    },
    /// The process could not be confined.
    #[error("the process could not be confined: {source}")]
    Unconfined {
        /// The step that failed, and what to do about it.
        source: adjutant_confine::Error,
    },
    /// The work folder could not be made.
    #[error("failed to make the work folder {}", dir.display())]
    WorkFolder {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing can hold a process to this limit here.
    #[error(
        "`limits.{kind}` is {limit}, but nothing here can enforce it: {ownership} own the processes; give the runtime \
         control groups that it may write (systemd: `Delegate=yes`), or leave the limit out"
    )]
    NotEnforceable {
        /// The limit.
        kind: LimitKind,
        /// Its value.
        limit: String,
        /// How trees are owned here.
        ownership: Ownership,
    },
    /// The wanted kind of ownership is not to be had.
    #[error("{ownership} cannot be used here")]
    NoOwnership {
        /// What was wanted.
        ownership: Ownership,
    },
    /// A process tree could not be made.
    #[error("failed to make a process tree")]
    Tree {
        /// Why.
        source: io::Error,
    },
    /// The thread that starts processes is gone.
    #[error("failed to reach the thread that starts processes")]
    Spawner {
        /// Why.
        source: io::Error,
    },
    /// A process cannot be watched.
    #[error("failed to wait for process {pid}")]
    Wait {
        /// The process.
        pid: u32,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// Whether trying again may help: not when something has to be installed or corrected first.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        !matches!(
            self,
            Self::ProgramNotFound { .. }
                | Self::NoFolder { .. }
                | Self::Secret { .. }
                | Self::Order(_)
                | Self::NoInstance { .. }
                | Self::Isolation { .. }
                | Self::Unconfined { .. }
                | Self::NotEnforceable { .. }
                | Self::NoOwnership { .. }
        )
    }

    /// The failure's stable kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ProgramNotFound { .. } => "program_not_found",
            Self::NoFolder { .. } => "folder_not_found",
            Self::Secret { .. } => "secret_not_found",
            Self::TooManyInstances { .. } => "too_many_instances",
            Self::Order(_) => "services_out_of_order",
            Self::NotReady { .. } => "not_ready",
            Self::NoInstance { .. } => "instance_not_found",
            Self::SupervisorGone => "supervisor_gone",
            Self::Isolation { .. } | Self::Unconfined { .. } => "isolation_unavailable",
            Self::NotEnforceable { .. } => "limit_not_enforceable",
            Self::NoOwnership { .. } => "ownership_unavailable",
            Self::Start { .. }
            | Self::Confine { .. }
            | Self::Tree { .. }
            | Self::WorkFolder { .. }
            | Self::Spawner { .. } => "process_start_failed",
            Self::Wait { .. } => "process_wait_failed",
        }
    }

    /// What happened and why, in one line.
    pub(crate) fn told(&self) -> String {
        // These say why themselves.
        let whole = matches!(self, Self::Isolation { .. } | Self::Unconfined { .. });
        match std::error::Error::source(self).filter(|_| !whole) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    /// The failure as a run stores it.
    pub(crate) fn into_agent_error(self) -> AgentError {
        let message = self.told();
        if self.retryable() {
            AgentError::retriable(self.kind(), message)
        } else {
            AgentError::permanent(self.kind(), message)
        }
    }
}
