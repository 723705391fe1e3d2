//! Attempts to read and change what is not the agent's.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::FromRawFd,
        unix::{ffi::OsStrExt, fs::symlink},
    },
    path::Path,
    process::Command,
};

use crate::{Attempt, answer, facts::Facts};

pub const ALL: &[Attempt] = &[
    ("write outside", |facts| {
        fs::write(facts.outside.join("written"), "x")
    }),
    ("write through a symbolic link", |facts| {
        let link = facts.work.join("link");
        let _ = fs::remove_file(&link);
        symlink(facts.outside.join("written"), &link)?;
        fs::write(link, "x")
    }),
    ("write through a hard link", |facts| {
        let link = facts.work.join("hard");
        let _ = fs::remove_file(&link);
        fs::hard_link(facts.outside.join("secret"), &link)?;
        File::options().append(true).open(link).map(drop)
    }),
    ("write through dots", |facts| {
        fs::write(facts.work.join("../outside/written"), "x")
    }),
    ("truncate outside", |facts| {
        let path = facts.outside.join("written");
        File::options()
            .write(true)
            .truncate(true)
            .create(true)
            .open(path)
            .map(drop)
    }),
    ("rename outside", |facts| {
        let (from, to) = (facts.outside.join("secret"), facts.outside.join("renamed"));
        fs::rename(&from, &to)?;
        fs::rename(to, from)
    }),
    ("remove a folder outside", |facts| {
        let folder = facts.outside.join("folder");
        fs::create_dir(&folder)?;
        fs::remove_dir(folder)
    }),
    ("write through another process's root", |facts| {
        let root = format!("/proc/{}/root", facts.victim);
        fs::write(
            Path::new(&root)
                .join(inside(&facts.outside))
                .join("written"),
            "x",
        )
    }),
    ("write through another process's folder", |facts| {
        fs::write(format!("/proc/{}/cwd/written", facts.victim), "x")
    }),
    ("read through the first process's root", |facts| {
        read(
            &Path::new(&format!("/proc/{}/root", facts.first))
                .join(inside(&facts.outside))
                .join("secret"),
        )
    }),
    ("read a secret", |facts| read(&facts.outside.join("secret"))),
    ("read a secret in the home", |facts| {
        read(&facts.home.join("secret"))
    }),
    ("read a file that was left open", |facts| {
        let name = CString::new("secret")?;
        // SAFETY: the name ends in a zero byte.
        let file = answer(unsafe { libc::openat(facts.leaked, name.as_ptr(), libc::O_RDONLY) })?;
        // SAFETY: the number was just given to us.
        read_from(unsafe { File::from_raw_fd(file as i32) })
    }),
    ("read the passwords", |_| read(Path::new("/etc/shadow"))),
    ("read the host keys", |_| {
        fs::read_dir("/etc/security").map(drop)
    }),
    ("change the passwords", |_| open_to_write("/etc/passwd")),
    ("change the system's programs", |_| {
        open_to_write("/usr/bin/env")
    }),
    ("change the own program", |facts| {
        fs::write(facts.code.join("agent.yaml"), "isolation: open")
    }),
    ("write a kernel setting", |_| {
        open_to_write("/proc/sys/kernel/core_pattern")
    }),
    ("drop the machine's caches", |_| {
        open_to_write("/proc/sys/vm/drop_caches")
    }),
    ("write to sysfs", |_| {
        open_to_write("/sys/kernel/mm/transparent_hugepage/enabled")
    }),
    ("join another control group", |_| {
        fs::read_dir("/sys/fs/cgroup").map(drop)
    }),
    ("read the kernel's log", |_| {
        File::open("/dev/kmsg").map(drop)
    }),
    ("open the physical memory", |_| {
        File::open("/dev/mem").map(drop)
    }),
    ("make a character device", |facts| {
        make_device(facts, libc::S_IFCHR, libc::makedev(1, 1))
    }),
    ("make a block device", |facts| {
        make_device(facts, libc::S_IFBLK, libc::makedev(254, 0))
    }),
    ("run a program of another user", |facts| {
        let own = rustix::process::geteuid().as_raw().to_string();
        let shown = Command::new(facts.work.join("setuid"))
            .arg("user")
            .output()?;
        if String::from_utf8_lossy(&shown.stdout).trim() == own {
            Err(io::Error::from_raw_os_error(libc::EPERM))
        } else {
            Ok(())
        }
    }),
    ("open a file by its handle", |facts| {
        let file = File::open(&facts.work)?;
        let handle = [0_u64; 4];
        // SAFETY: the handle is larger than what its length, zero, says.
        answer(unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                std::os::fd::AsRawFd::as_raw_fd(&file),
                handle.as_ptr(),
                libc::O_RDONLY,
            )
        })
        .map(drop)
    }),
];

fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn read(path: &Path) -> io::Result<()> {
    read_from(File::open(path)?)
}

/// A file that shows nothing is as good as none.
fn read_from(mut file: File) -> io::Result<()> {
    match file.read(&mut [0; 16])? {
        0 => Err(io::Error::from_raw_os_error(libc::ENODATA)),
        _ => Ok(()),
    }
}

fn open_to_write(path: &str) -> io::Result<()> {
    File::options().write(true).open(path).map(drop)
}

fn make_device(facts: &Facts, kind: libc::mode_t, device: libc::dev_t) -> io::Result<()> {
    let path = facts.work.join("device");
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the name ends in a zero byte.
    answer(unsafe { libc::mknod(name.as_ptr(), kind | 0o600, device) })?;
    fs::remove_file(path)
}
