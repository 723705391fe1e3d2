//! What can go wrong inside this crate.

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Failures of turning values into messages and back. What the *peer* reports is an [`RpcError`](crate::RpcError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value cannot be written as JSON, for example a map whose keys are not strings.
    #[error("encode {method}")]
    Encode {
        /// The message's method.
        method: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A peer's answer does not have the shape its method promises.
    #[error("read the answer to {method}")]
    Answer {
        /// The request's method.
        method: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether doing the same again may succeed: never, the same value has the same shape.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }
}
