//! What can go wrong.

use std::{io, path::PathBuf};

/// The result of what can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why logs cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be used.
    #[error("use {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread that writes could not be started.
    #[error("start the thread that writes logs")]
    Thread {
        /// Why.
        source: io::Error,
    },
    /// The address of a Fluentd is none.
    #[error("read `{text}` as the address of a Fluentd: write tcp://HOST:PORT or unix:///PATH")]
    Address {
        /// What was given.
        text: String,
    },
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
