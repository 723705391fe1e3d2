//! The scripts. Each runs as a whole or not at all, and finds its keys under the one that it is given.

use std::sync::LazyLock;

/// A script and the name under which servers keep it.
pub(crate) struct Script {
    pub text: &'static str,
    sha: LazyLock<String>,
}

impl Script {
    pub(crate) fn sha(&self) -> &str {
        &self.sha
    }
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        $($(#[$doc])* pub(crate) static $name: Script = Script {
            text: include_str!(concat!("lua/", $file)),
            sha: LazyLock::new(|| {
                redis::Script::new(include_str!(concat!("lua/", $file))).get_hash().to_owned()
            }),
        };)*
    };
}

scripts! {
    /// Writes what a transaction has decided, if what it has read is still so.
    COMMIT = "commit.lua";
    /// Several reads as of one moment.
    LOOK = "look.lua";
    /// Which of these steps are recorded, without what they hold.
    STEPS = "steps.lua";
    /// The head of the line.
    READY = "ready.lua";
    /// A run's events from a number on.
    EVENTS = "events.lua";
    /// Tries all commands of the others.
    PROBE = "probe.lua";
    /// Runs by filter, newest first.
    LIST = "list.lua";
    /// What there is of runs, to be compared with what their records say.
    CHECK = "check.lua";
    /// Whether the numbers of runs agree, and the age of the oldest.
    TOTALS = "totals.lua";
}
