//! The first process of a tree, a child of this program: waited for, and reaped whoever else has gone.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, waitid},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Status or signal.
pub(super) type End = (Option<i32>, Option<i32>);

/// A file that stands for a child of this program. Until it is reaped, its number is nobody else's.
#[derive(Debug)]
pub(super) struct First {
    pub(super) pid: i32,
    handle: OwnedFd,
}

impl First {
    /// The child of a number. On failure there is no such child any more.
    pub(super) fn of(pid: i32) -> io::Result<Self> {
        let number = Pid::from_raw(pid).ok_or(Errno::INVAL)?;
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(handle) => Ok(Self { pid, handle }),
            Err(error) => {
                abandon(pid);
                Err(error.into())
            }
        }
    }

    /// A process that is no child of this program: it can be watched, but nobody tells how it ended.
    pub(super) fn stranger(pid: i32) -> io::Result<Self> {
        let number = Pid::from_raw(pid).ok_or(Errno::INVAL)?;
        let handle = pidfd_open(number, PidfdFlags::empty())?;
        Ok(Self { pid, handle })
    }

    /// How it ended, if it has; told once, and `None` for ever after.
    pub(super) fn end(&self) -> io::Result<Option<End>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.handle.as_fd()), options)?;
        let end = |status: rustix::process::WaitIdStatus| {
            (status.exit_status(), status.terminating_signal())
        };
        Ok(status.map(end))
    }

    /// Reaps it; false as long as it lives.
    pub(super) fn reap(&self) -> bool {
        !matches!(self.end(), Ok(None))
    }

    /// What becomes ready when it has ended. Must be called within a runtime.
    #[expect(
        unsafe_code,
        reason = "tokio leaves it to its callers that the file stays open"
    )]
    pub(super) fn watch(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let handle = self.handle.try_clone()?;
        // SAFETY: an `OwnedFd` is one open file until it is dropped, and names it by the same number all the time.
        let watched = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) };
        Ok(watched?)
    }
}

/// Ends and reaps a child that cannot be made use of.
pub(crate) fn abandon(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
    }
}
