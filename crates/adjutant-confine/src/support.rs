//! What this machine enforces.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{error::Step, files, filter, spawn, view::View};

/// A part of confinement that some machines lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Part {
    /// Which files a process may change (Landlock).
    Files,
    /// Which processes and abstract sockets a process reaches (Landlock, Linux 6.12). Never needed: where it is missing,
    /// `workspace` lets an agent signal the other processes of its user.
    Scopes,
    /// A system of its own: user, mount, pid, ipc, uts and network namespaces.
    Namespaces,
    /// Which system calls a process may make (seccomp).
    Syscalls,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 4] = [Self::Files, Self::Scopes, Self::Namespaces, Self::Syscalls];

    /// What it is, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "file rules (Landlock)",
            Self::Scopes => "process scopes (Landlock)",
            Self::Namespaces => "namespaces",
            Self::Syscalls => "system call filter (seccomp)",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A part that this machine lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The part.
    pub part: Part,
    /// Why, and what to do about it.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {}: {}", self.part, self.why)
    }
}

/// What this machine enforces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Support {
    /// The parts that it lacks.
    pub missing: Vec<Missing>,
}

impl Support {
    /// Tries it all out. To be called in a process with a single thread; takes about two milliseconds.
    #[must_use]
    pub fn probe() -> Self {
        let why_not = |part| match part {
            Part::Files => files::why_no_rules(),
            Part::Scopes => files::why_no_scopes(),
            Part::Namespaces => why_no_namespaces(),
            Part::Syscalls => filter::why_not(),
        };
        let missing = |part| why_not(part).map(|why| Missing { part, why });
        Self {
            missing: Part::ALL.into_iter().filter_map(missing).collect(),
        }
    }

    /// Nothing at all, for one reason.
    #[must_use]
    pub fn none(why: &str) -> Self {
        let missing = |part| Missing {
            part,
            why: why.to_owned(),
        };
        Self {
            missing: Part::ALL.map(missing).into(),
        }
    }

    /// Whether a part is enforced.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        self.missing(part).is_none()
    }

    /// The part, if it is missing.
    #[must_use]
    pub fn missing(&self, part: Part) -> Option<&Missing> {
        self.missing.iter().find(|missing| missing.part == part)
    }
}

/// Makes a system of its own with nothing in it, and starts nothing there.
fn why_no_namespaces() -> Option<String> {
    let tried = spawn::spawn(&View::empty(), || Ok(()), || spawn::exit(0));
    match tried.and_then(|child| {
        child
            .wait()
            .map_err(|error| crate::Error::new(Step::Fork, error))
    }) {
        Ok(end) if end.code == Some(0) => None,
        Ok(end) => Some(format!("a trial ended with {end:?}")),
        Err(error) => Some(error.to_string()),
    }
}
