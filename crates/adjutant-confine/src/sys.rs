//! The few system calls that no library gives a safe name.

#![expect(
    unsafe_code,
    reason = "each function wraps one system call and says why that is sound"
)]

use std::{
    ffi::CString,
    io,
    mem::zeroed,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr::null,
};

use rustix::process::Pid;

fn check(result: impl Into<i64>) -> io::Result<i64> {
    let result = result.into();
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Continues in two processes: `None` in the new one, which lives in the new namespaces that `flags` name, and its number
/// in the old one.
///
/// The calling process must have a single thread: of several only this one would go on in the new process, and what the
/// others had locked would stay locked.
pub(crate) fn clone_into(flags: libc::c_int) -> io::Result<Option<Pid>> {
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    // SAFETY: without a stack of its own and without CLONE_VM the call behaves as fork does: the new process gets a copy of
    // everything. No argument is a pointer.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize)
    })?;
    Ok(i32::try_from(pid).ok().and_then(Pid::from_raw))
}

/// Ends this process at once: nothing is flushed and no destructor runs.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: the call takes no pointer and does not return.
    unsafe { libc::_exit(code) }
}

/// Adds `attributes` (`MOUNT_ATTR_…`) to the mount at `path`, and to all below it if `below`.
pub(crate) fn mount_setattr(path: &Path, attributes: u64, below: bool) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the structure is plain numbers, for which zero is a valid value.
    let mut request: libc::mount_attr = unsafe { zeroed() };
    request.attr_set = attributes;
    let flags = if below { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `path` ends in a zero byte, and `request` is of the size that is given; both live during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const request,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result).map(drop)
}

/// Lets all files but the standard streams close at the next exec.
pub(crate) fn close_the_rest_on_exec() -> io::Result<()> {
    // SAFETY: the call takes numbers and changes a flag that no one here relies on.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    check(result).map(drop)
}

/// Closes all files but the standard streams and this one.
pub(crate) fn close_all_but(kept: BorrowedFd<'_>) -> io::Result<()> {
    let kept = kept.as_raw_fd().unsigned_abs();
    for (first, last) in [(3, kept.saturating_sub(1)), (kept + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: the call takes numbers. The process that makes it goes on with the kept file alone and drops nothing
            // that owns one of the others.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
    }
    Ok(())
}

/// Leaves the keyring of the session that this process came from for an empty one.
pub(crate) fn leave_the_keys() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: no name, given as a null pointer, asks for an anonymous keyring.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            null::<libc::c_char>(),
        )
    };
    check(result).map(drop)
}

/// Brings up the loopback interface of this process's network namespace.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    let socket =
        check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    let socket = i32::try_from(socket).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the number was just given to us, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: the structure is plain numbers and a union of such, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is the structure that this ioctl reads, with a name that ends in a zero byte.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
        .map(drop)
}
