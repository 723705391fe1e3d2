//! Environment variables that hold secrets: the manifest says where each is, and nobody else gets to see it.

mod redact;
mod variables;

pub(crate) use self::redact::{Needles, Redacted};
pub use self::variables::{Secrets, Variable, Variables};
