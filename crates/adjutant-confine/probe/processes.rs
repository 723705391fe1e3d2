//! Attempts to reach other processes, and to get more rights.

use std::{fs, io, path::Path, ptr::null_mut};

use crate::{Attempt, answer};

pub const ALL: &[Attempt] = &[
    ("see another process", |facts| {
        fs::metadata(format!("/proc/{}", facts.victim)).map(drop)
    }),
    ("read another process's environment", |facts| {
        fs::read(format!("/proc/{}/environ", facts.victim)).map(drop)
    }),
    ("read the first process's environment", |facts| {
        fs::read(format!("/proc/{}/environ", facts.first)).map(drop)
    }),
    ("open the first process's memory", |facts| {
        fs::File::open(format!("/proc/{}/mem", facts.first)).map(drop)
    }),
    ("open the first process's files", |facts| {
        fs::read_link(format!("/proc/{}/fd/0", facts.first)).map(drop)
    }),
    ("signal another process", |facts| {
        // SAFETY: the call takes numbers only; signal 0 does nothing.
        answer(unsafe { libc::kill(facts.victim, 0) }).map(drop)
    }),
    ("hold another process", |facts| {
        // SAFETY: the call takes numbers only.
        answer(unsafe { libc::syscall(libc::SYS_pidfd_open, facts.victim, 0) }).map(drop)
    }),
    ("trace another process", |facts| trace(facts.victim)),
    ("trace the first process", |facts| trace(facts.first)),
    ("read another process's memory", |facts| {
        let mut byte = 0_u8;
        let here = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        // The place is where nothing is: who may look is told so (EFAULT).
        let there = libc::iovec {
            iov_base: std::ptr::dangling_mut::<libc::c_void>(),
            iov_len: 1,
        };
        // SAFETY: one byte is read into a variable that lives during the call.
        answer(unsafe {
            libc::process_vm_readv(facts.victim, &raw const here, 1, &raw const there, 1, 0) as i64
        })
        .map(drop)
    }),
    ("enter another process's network", |facts| {
        enter(&format!("/proc/{}/ns/net", facts.victim))
    }),
    ("enter the first process's mounts", |facts| {
        enter(&format!("/proc/{}/ns/mnt", facts.first))
    }),
    ("make a user namespace", |_| unshare(libc::CLONE_NEWUSER)),
    ("make a mount namespace", |_| unshare(libc::CLONE_NEWNS)),
    ("make a network namespace", |_| unshare(libc::CLONE_NEWNET)),
    ("clone into a user namespace", |_| {
        let flags = i64::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
        // SAFETY: as fork; the child ends at once.
        let pid = answer(unsafe {
            libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize)
        })?;
        end_child(pid)
    }),
    ("clone into a user namespace the new way", |_| {
        let request = [
            libc::CLONE_NEWUSER as u64,
            0,
            0,
            0,
            libc::SIGCHLD as u64,
            0,
            0,
            0,
        ];
        // SAFETY: as fork; the child ends at once. The request is of the size that is given.
        let pid = answer(unsafe {
            libc::syscall(libc::SYS_clone3, request.as_ptr(), size_of_val(&request))
        })?;
        end_child(pid)
    }),
    ("become another user", |_| {
        // SAFETY: the call takes numbers only.
        answer(unsafe { libc::setresuid(12_345, 12_345, 12_345) }).map(drop)
    }),
    ("join another group", |_| {
        let group: libc::gid_t = 0;
        // SAFETY: one group is given and one is read.
        answer(unsafe { libc::setgroups(1, &raw const group) }).map(drop)
    }),
    ("take a capability", |_| {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        let mut sets = capabilities(None)?;
        sets.permitted |= CapabilitySet::SYS_ADMIN;
        sets.effective |= CapabilitySet::SYS_ADMIN;
        Ok(set_capabilities(None, sets)?)
    }),
    ("take more than its share of the processor", |_| {
        // SAFETY: the call takes numbers only.
        answer(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -5) }).map(drop)
    }),
    ("use the keys of the session", |_| {
        const GET_KEYRING_ID: i32 = 0;
        const SESSION: i32 = -3;
        // SAFETY: the call takes numbers only.
        answer(unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION, 1) }).map(drop)
    }),
    ("add a key", |_| {
        let (kind, name, content) = (c"user", c"adjutant-probe", b"x");
        const PROCESS_KEYRING: i32 = -2;
        // SAFETY: strings end in a zero byte, and the content has the length that is given.
        answer(unsafe {
            libc::syscall(
                libc::SYS_add_key,
                kind.as_ptr(),
                name.as_ptr(),
                content.as_ptr(),
                content.len(),
                PROCESS_KEYRING,
            )
        })
        .map(drop)
    }),
];

/// Traces a process without stopping it. It is let go when this process ends.
fn trace(pid: i32) -> io::Result<()> {
    // SAFETY: no pointer is given that would be followed.
    let traced = unsafe {
        libc::ptrace(
            libc::PTRACE_SEIZE,
            pid,
            null_mut::<libc::c_void>(),
            null_mut::<libc::c_void>(),
        )
    };
    answer(traced).map(drop)
}

fn enter(namespace: &str) -> io::Result<()> {
    let file = fs::File::open(Path::new(namespace))?;
    // SAFETY: the call takes numbers only.
    answer(unsafe { libc::setns(std::os::fd::AsRawFd::as_raw_fd(&file), 0) }).map(drop)
}

fn unshare(flag: i32) -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    answer(unsafe { libc::unshare(flag) }).map(drop)
}

fn end_child(pid: i64) -> io::Result<()> {
    if pid == 0 {
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) }
    }
    // SAFETY: no status is asked for.
    answer(unsafe { libc::waitpid(pid as i32, null_mut(), 0) }).map(drop)
}
