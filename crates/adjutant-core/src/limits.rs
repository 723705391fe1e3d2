//! How large payloads may be.

use crate::{Error, Json, Result};

/// Upper bounds on what a store takes, in bytes. Checked at the door, before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A run's input, metadata included. Default 1 MiB.
    pub input: usize,
    /// A run's result. Default 4 MiB.
    pub output: usize,
    /// A step's result. Default 4 MiB.
    pub step: usize,
    /// A checkpoint. Default 16 MiB.
    pub checkpoint: usize,
    /// An event's payload. Default 256 KiB.
    pub event: usize,
    /// A signal's payload. Default 256 KiB.
    pub signal: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1024;
        Self {
            input: 1024 * KIB,
            output: 4096 * KIB,
            step: 4096 * KIB,
            checkpoint: 16_384 * KIB,
            event: 256 * KIB,
            signal: 256 * KIB,
        }
    }
}

impl Limits {
    /// Refuses `json` when it is longer than `limit`; `what` names it in the error.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn check(what: &'static str, json: &Json, limit: usize) -> Result<()> {
        if json.len() > limit {
            return Err(Error::TooLarge {
                what,
                bytes: json.len(),
                limit,
            });
        }
        Ok(())
    }
}
