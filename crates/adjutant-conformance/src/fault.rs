//! Why a case did not pass.

use std::io;

/// What a case comes to when it does not pass.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A rule was broken.
    Broke(String),
    /// The program cannot show it, and why.
    Skip(String),
    /// The case itself killed the process, as planned.
    Killed,
}

pub(crate) type Check<T = ()> = Result<T, Fault>;

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Broke(error.to_string())
    }
}

impl From<adjutant_wire::Error> for Fault {
    fn from(error: adjutant_wire::Error) -> Self {
        Self::Broke(error.to_string())
    }
}

/// The rule is broken, in words.
pub(crate) fn broke<T>(why: impl Into<String>) -> Check<T> {
    Err(Fault::Broke(why.into()))
}

/// Fails the case unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return $crate::fault::broke(format!($($why)+));
        }
    };
}
pub(crate) use ensure;
