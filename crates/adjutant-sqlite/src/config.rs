//! How a store is opened.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use adjutant_core::{Clock, Limits, SystemClock};
use adjutant_state::DEFAULT_CHECKPOINTS_KEPT;

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// Loss of power: every group of writes is synced before anyone is answered.
    #[default]
    Full,
    /// Death of the process. A loss of power may take the last moments, and never leaves a half-written group.
    Normal,
    /// Death of the process. A loss of power may damage the file. For tests.
    Off,
}

impl Synchronous {
    pub(crate) const fn pragma(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
            Self::Off => "OFF",
        }
    }
}

/// How a store is set up.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// The database file; SQLite keeps `-wal` and `-shm` files beside it.
    pub path: PathBuf,
    /// What an acknowledged write survives. Default: a loss of power.
    pub synchronous: Synchronous,
    /// Where the time comes from. Default: the wall clock.
    pub clock: Arc<dyn Clock>,
    /// What it takes at most.
    pub limits: Limits,
    /// Connections for reading. Default 2.
    pub readers: NonZeroUsize,
    /// How long to wait for another process that is writing. Default 5 s.
    pub busy_timeout: Duration,
    /// Checkpoints kept per run, at least 1. Default [`DEFAULT_CHECKPOINTS_KEPT`].
    pub checkpoints_kept: usize,
    /// Whether to make the file when there is none. Default true.
    pub create_if_missing: bool,
    /// Upper bound of the file in pages of 4 KiB; `None` for none. A store at its bound answers `StorageFull`.
    pub max_pages: Option<u32>,
}

impl SqliteConfig {
    /// A store in this file, with defaults.
    #[must_use]
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            synchronous: Synchronous::default(),
            clock: Arc::new(SystemClock),
            limits: Limits::default(),
            readers: NonZeroUsize::MIN.saturating_add(1),
            busy_timeout: Duration::from_secs(5),
            checkpoints_kept: DEFAULT_CHECKPOINTS_KEPT,
            create_if_missing: true,
            max_pages: None,
        }
    }

    pub(crate) fn location(&self) -> String {
        self.path.display().to_string()
    }
}
