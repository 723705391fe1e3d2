//! What can go wrong, and what to do about it.

use std::{fmt, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::support::Missing;

/// Result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A step that failed. It travels from the confined process to the one that started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("failed to {step}{}: {}; {}", place(.path), io::Error::from_raw_os_error(*.errno), .step.fix())]
pub struct Error {
    /// What was to be done.
    pub step: Step,
    /// The operating system's number for what went wrong.
    pub errno: i32,
    /// The file that it was about, if any.
    pub path: Option<PathBuf>,
}

fn place(path: &Option<PathBuf>) -> String {
    path.as_ref()
        .map(|path| format!(" ({})", path.display()))
        .unwrap_or_default()
}

impl Error {
    pub(crate) fn new(step: Step, error: impl Into<io::Error>) -> Self {
        let errno = error.into().raw_os_error().unwrap_or(libc::EIO);
        Self {
            step,
            errno,
            path: None,
        }
    }

    /// What the operating system said.
    #[must_use]
    pub fn io(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

/// Makes errors of a step.
pub(crate) trait At<T> {
    /// Says which step it was that failed.
    fn at(self, step: Step) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, step: Step) -> Result<T> {
        self.map_err(|error| Error::new(step, error))
    }
}

/// Names the file that a step failed with.
pub(crate) trait With<T> {
    /// Adds the file.
    fn with(self, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> With<T> for Result<T> {
    fn with(self, path: impl Into<PathBuf>) -> Self {
        self.map_err(|mut error| {
            error.path = Some(path.into());
            error
        })
    }
}

/// The steps of confining a process, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// Making namespaces.
    Namespaces,
    /// Naming users and groups within them.
    Users,
    /// Naming the host.
    Host,
    /// Bringing up the loopback interface.
    Loopback,
    /// Making an empty root.
    Root,
    /// Showing a file or folder.
    Show,
    /// Making `/dev`.
    Devices,
    /// Making `/proc`.
    Proc,
    /// Entering the new root.
    Enter,
    /// Forbidding further namespaces.
    Nesting,
    /// Starting the process below the first one of its namespace.
    Fork,
    /// Closing files that were left open.
    Leftovers,
    /// Leaving the session's keys behind.
    Keys,
    /// Giving up capabilities.
    Capabilities,
    /// Giving up the way to new rights.
    NoNewPrivs,
    /// Restricting files.
    Files,
    /// Restricting system calls.
    Syscalls,
    /// Executing the program.
    Exec,
}

impl Step {
    /// What a person can do about it.
    #[must_use]
    pub const fn fix(self) -> &'static str {
        match self {
            Self::Namespaces | Self::Users => {
                "allow user namespaces (sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone, \
                 kernel.apparmor_restrict_unprivileged_userns; in a container, its seccomp profile), or choose \
                 `isolation: workspace`"
            }
            Self::Root | Self::Enter | Self::Devices => {
                "in a container, allow mounting within user namespaces, or choose `isolation: workspace`"
            }
            Self::Proc => {
                "in a container, unmask /proc (Docker: --security-opt systempaths=unconfined), or choose `isolation: \
                 workspace`"
            }
            Self::Show => "check that it exists and that the runtime's user may reach it",
            Self::Files => {
                "boot Linux 6.2 or newer with `landlock` among the `lsm=` modules, or choose `isolation: open`"
            }
            Self::Syscalls => {
                "use a kernel with CONFIG_SECCOMP_FILTER on x86-64 or arm64, or choose `isolation: workspace`"
            }
            Self::Exec => "check the program and its interpreter, and that the profile shows both",
            Self::Host
            | Self::Loopback
            | Self::Nesting
            | Self::Fork
            | Self::Leftovers
            | Self::Keys
            | Self::Capabilities
            | Self::NoNewPrivs => "see what `agent doctor` says about isolation",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "make namespaces",
            Self::Users => "name the users of the namespace",
            Self::Host => "name the host",
            Self::Loopback => "bring up the loopback interface",
            Self::Root => "make an empty root",
            Self::Show => "show a file or folder",
            Self::Devices => "make /dev",
            Self::Proc => "make /proc",
            Self::Enter => "enter the new root",
            Self::Nesting => "forbid further namespaces",
            Self::Fork => "start a process in the namespace",
            Self::Leftovers => "close what was left open",
            Self::Keys => "leave the session's keys behind",
            Self::Capabilities => "give up capabilities",
            Self::NoNewPrivs => "give up the way to new rights",
            Self::Files => "restrict access to files",
            Self::Syscalls => "restrict system calls",
            Self::Exec => "execute the program",
        })
    }
}

/// What was asked for cannot be enforced here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// This machine lacks something that the profile needs.
    #[error(
        "this machine cannot enforce it: {}; to go without, allow it to be degraded (--allow-degraded)",
        list(.0)
    )]
    Missing(Vec<Missing>),
    /// The wish contradicts itself.
    #[error("{0}")]
    Contradiction(String),
    /// A file or folder cannot be shown.
    #[error("{} cannot be shown to the agent: {why}", path.display())]
    Place {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

fn list(missing: &[Missing]) -> String {
    let each: Vec<String> = missing.iter().map(ToString::to_string).collect();
    each.join("; ")
}
