//! This program executed again, under a hidden name, for what cannot be done from within a running runtime.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{guardian, isolation, launcher};

/// Whether this program has shown that it can be its own helper.
static THIS_PROGRAM: AtomicBool = AtomicBool::new(false);

/// A program that starts agents and cleans up after the runtime: one whose `main` begins with [`helper_main`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    program: PathBuf,
}

impl Helper {
    /// A program whose `main` begins with [`helper_main`].
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
        }
    }

    /// This program, if its `main` has called [`helper_main`].
    #[must_use]
    pub fn this_program() -> Option<Self> {
        // The link is followed by the new process, which is this very program even after its file was replaced.
        let own = || Self::new("/proc/self/exe");
        THIS_PROGRAM.load(Ordering::Relaxed).then(own)
    }

    /// The helper with its hidden argument and an empty environment.
    pub(crate) fn command(&self, argument: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(argument).env_clear().stdin(Stdio::null());
        command
    }
}

/// Does a helper's work if this process was started for that, and returns its status.
///
/// Call it first thing in `main`, before there are threads, and return the status if there is one. From then on
/// [`NativeProcesses`](crate::NativeProcesses) uses this program as its own helper.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     if let Some(status) = adjutant_process::helper_main() {
///         return status;
///     }
///     // ... the program itself ...
///     std::process::ExitCode::SUCCESS
/// }
/// ```
#[must_use]
pub fn helper_main() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).take(2).collect();
    match arguments.as_slice() {
        [only] if only == launcher::LAUNCH => {
            close_inherited_files();
            Some(launcher::serve())
        }
        [only] if only == guardian::GUARD => {
            close_inherited_files();
            Some(guardian::guard())
        }
        [only] if only == isolation::PROBE => Some(isolation::tell_support()),
        _ => {
            THIS_PROGRAM.store(true, Ordering::Relaxed);
            None
        }
    }
}

/// Closes what the runtime's own parent has left open for all, such as the file of a lock: agents are not to have it, and
/// what outlives the runtime is not to hold it.
#[expect(
    unsafe_code,
    reason = "no safe function closes files that nobody here owns"
)]
fn close_inherited_files() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: this process has just begun, so that nothing in it owns a file yet but the three standard streams. On a kernel
    // before 5.9 the call fails and the files stay open.
    unsafe {
        libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0);
    }
}
