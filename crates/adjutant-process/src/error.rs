//! What can go wrong with processes.

use std::{io, path::PathBuf};

use adjutant_core::AgentError;

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
    /// The operating system refused to start the process.
    #[error("failed to start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
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
        !matches!(self, Self::ProgramNotFound { .. } | Self::NoFolder { .. })
    }

    /// The failure's stable kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ProgramNotFound { .. } => "program_not_found",
            Self::NoFolder { .. } => "folder_not_found",
            Self::Start { .. } | Self::Spawner { .. } => "process_start_failed",
            Self::Wait { .. } => "process_wait_failed",
        }
    }

    /// The failure as a run stores it.
    pub(crate) fn into_agent_error(self) -> AgentError {
        let mut message = self.to_string();
        if let Some(source) = std::error::Error::source(&self) {
            message = format!("{message}: {source}");
        }
        if self.retryable() {
            AgentError::retriable(self.kind(), message)
        } else {
            AgentError::permanent(self.kind(), message)
        }
    }
}
