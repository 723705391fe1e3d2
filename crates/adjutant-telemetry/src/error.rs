//! What can go wrong before anything is traced. Afterwards nothing does: what fails is dropped and counted.

/// The result of setting up.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no sink.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration contradicts itself or lacks something. All problems at once.
    #[error("the telemetry configuration is not usable: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The program was built without what is asked for.
    #[error("this program was built without the feature `{0}`")]
    NotBuilt(&'static str),
    /// The exporter could not be made.
    #[error("failed to {action}")]
    Setup {
        /// What was attempted.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Whether the same call may succeed later: it will not.
    #[must_use]
    pub const fn retry(&self) -> adjutant_core::RetryAdvice {
        adjutant_core::RetryAdvice::Never
    }

    pub(crate) fn setup(
        action: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Setup {
            action,
            source: source.into(),
        }
    }
}
