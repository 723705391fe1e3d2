//! The helper's side: a process with one thread that forks whenever the runtime asks it to, and ends with the runtime.

use std::{
    io::{self, IoSliceMut, Write, stdin},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::ExitCode,
};

use rustix::{
    io::fcntl_dupfd_cloexec,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};

use super::child;

/// The hidden argument.
pub(crate) const LAUNCH: &str = "__launch";

/// Files that come with each request.
pub(super) const FILES: usize = 4;

/// What a copy of this process starts with.
pub(super) struct Files {
    /// The way to the runtime, for this one agent.
    pub(super) socket: UnixStream,
    /// The agent's standard streams.
    pub(super) streams: [OwnedFd; 3],
}

/// Serves the runtime at the other end of stdin until it is gone. Returns a second time in each copy, when that has
/// failed to become an agent or has nothing more to keep.
pub(crate) fn serve() -> ExitCode {
    let Ok(socket) = fcntl_dupfd_cloexec(stdin(), 3) else {
        return ExitCode::FAILURE;
    };
    let mut runtime = UnixStream::from(socket);
    while let Some(files) = receive(&runtime) {
        let answer = match fork() {
            Ok(0) => {
                drop(runtime);
                return child::launch(files);
            }
            Ok(pid) => pid,
            Err(error) => -error.raw_os_error().unwrap_or(1),
        };
        if runtime.write_all(&answer.to_le_bytes()).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// The next request; `None` when the runtime is gone.
fn receive(runtime: &UnixStream) -> Option<Files> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut byte)];
    recvmsg(runtime, slices, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let mut files = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    })?;
    Some(Files {
        socket: files.next()?.into(),
        streams: [files.next()?, files.next()?, files.next()?],
    })
}

/// Makes a copy of this process that is a child of the runtime, as this process is. The copy gets 0, this one a number.
#[expect(
    unsafe_code,
    reason = "there is no safe name for forking, and none at all for being the sibling of the copy"
)]
fn fork() -> io::Result<i32> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: the call takes no pointers: without a stack of its own the copy goes on here, on its own copy of this one.
    // This process has one thread, so nothing in the copy is locked or half done by a thread that it does not have.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0) };
    match i32::try_from(pid) {
        Ok(pid) if pid >= 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()),
    }
}
