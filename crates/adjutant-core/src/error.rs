//! What the contracts answer when they cannot do what was asked.

use std::time::Duration;

use crate::{IllegalTransition, RunId};

/// The result of a contract's call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAdvice {
    /// The same call will fail again.
    Never,
    /// The same call may succeed after this time.
    After(Duration),
}

/// The error of every storage contract.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such run.
    #[error("there is no run {0}")]
    RunNotFound(RunId),
    /// The lease was taken over, expired or ended; nothing was written.
    #[error("the lease on {run} (epoch {epoch}) is lost")]
    LeaseLost {
        /// The run.
        run: RunId,
        /// The epoch of the stale lease.
        epoch: u64,
    },
    /// An idempotency key or id came back with another request.
    #[error("{what} was used before for a different request")]
    Conflict {
        /// Which key or id.
        what: String,
    },
    /// The run's state does not allow it.
    #[error("run {run}: {source}")]
    Illegal {
        /// The run.
        run: RunId,
        /// State and transition.
        source: IllegalTransition,
    },
    /// A field of the request is not acceptable.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field, as the caller knows it.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A payload is over its limit.
    #[error("{what} is {bytes} bytes; the limit is {limit} bytes")]
    TooLarge {
        /// Which payload.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Events before this number have been pruned.
    #[error("events of {run} before number {first} have been pruned")]
    Pruned {
        /// The run.
        run: RunId,
        /// The first number that is still there.
        first: u64,
    },
    /// The store was made by a newer version of this software.
    #[error("the store has schema version {found}, this program knows versions up to {known}")]
    SchemaTooNew {
        /// The store's version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The store cannot be written.
    #[error("the store at {location} is read-only")]
    ReadOnly {
        /// Which store.
        location: String,
    },
    /// The disk or quota is full; what was acknowledged before is safe.
    #[error("no space is left for the store at {location}")]
    StorageFull {
        /// Which store.
        location: String,
    },
    /// The stored data contradicts itself.
    #[error("the store at {location} is damaged: {problem}")]
    Corrupt {
        /// Which store.
        location: String,
        /// What was found.
        problem: String,
    },
    /// The store is closing down or has closed.
    #[error("the store is closed")]
    Closed,
    /// The backend failed in another way.
    #[error("failed to {action}")]
    Backend {
        /// What was attempted.
        action: &'static str,
        /// Whether the same call may succeed later.
        transient: bool,
        /// The backend's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The stable name of an error, with a page under `docs/reference/errors/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub &'static str);

impl Error {
    /// Whether to retry.
    #[must_use]
    pub fn retry(&self) -> RetryAdvice {
        match self {
            Self::StorageFull { .. } => RetryAdvice::After(Duration::from_secs(5)),
            Self::Backend {
                transient: true, ..
            } => RetryAdvice::After(Duration::from_millis(100)),
            _ => RetryAdvice::Never,
        }
    }

    /// The stable name.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode(match self {
            Self::RunNotFound(_) => "run_not_found",
            Self::LeaseLost { .. } => "lease_lost",
            Self::Conflict { .. } => "conflict",
            Self::Illegal { .. } => "illegal_transition",
            Self::Invalid { .. } => "invalid_request",
            Self::TooLarge { .. } => "payload_too_large",
            Self::Pruned { .. } => "events_pruned",
            Self::SchemaTooNew { .. } => "schema_too_new",
            Self::ReadOnly { .. } => "store_read_only",
            Self::StorageFull { .. } => "storage_full",
            Self::Corrupt { .. } => "store_corrupt",
            Self::Closed => "store_closed",
            Self::Backend { .. } => "backend",
        })
    }
}
