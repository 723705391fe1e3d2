//! Builds the root that a view describes, and enters it.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::{
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
        mount_change, unmount,
    },
    process::{chdir, pivot_root},
};

use crate::{
    error::{At, Result, Step, With},
    sys,
    view::{SETTINGS, SYSTEM, Shown, TEMP, View},
};

/// A folder that is on every system. It is covered for a moment, in this namespace only.
const STAGE: &str = "/tmp";

/// The root that there was, while the new one is built.
const OLD: &str = "/old";

/// The new root.
const NEW: &str = "/new";

/// Most that temporary files take. They are held in memory and count as the agent's.
const MAX_TEMP_BYTES: u64 = 256 << 20;

/// Most that the new root's own folders take.
const MAX_ROOT_BYTES: u64 = 4 << 20;

/// What nothing that is shown can be used for: getting rights by executing, and reaching devices.
const TAME: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Devices that any process may use.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];

/// What `/proc` tells about the machine rather than about processes, to those who are root.
const HIDDEN: &[&str] = &["kcore", "keys", "kmsg"];

/// Makes the root of this process, which is the first one in its namespaces, the one of the view.
pub(crate) fn enter(view: &View) -> Result<()> {
    stage().at(Step::Root)?;
    for folder in SYSTEM.iter().chain(SETTINGS) {
        mirror(Path::new(folder)).at(Step::Show).with(*folder)?;
    }
    devices().at(Step::Devices)?;
    proc()?;
    folders_of_its_own(view).at(Step::Root)?;
    for shown in &view.shown {
        show(shown).at(Step::Show).with(&shown.source)?;
    }
    leave_the_old_root().at(Step::Enter)
}

/// Moves to an empty root with the old one below it.
fn stage() -> io::Result<()> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    memory(Path::new(STAGE), MAX_ROOT_BYTES, "755")?;
    chdir(STAGE)?;
    fs::create_dir("old")?;
    fs::create_dir("new")?;
    pivot_root(".", "old")?;
    chdir("/")?;
    memory(Path::new(NEW), MAX_ROOT_BYTES, "755")
}

/// Mounts an empty folder that is held in memory.
fn memory(at: &Path, bytes: u64, mode: &str) -> io::Result<()> {
    let options = CString::new(format!("size={bytes},mode={mode}"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", at, "tmpfs", flags, options.as_c_str())?;
    Ok(())
}

fn old(path: &Path) -> PathBuf {
    below(OLD, path)
}

fn new(path: &Path) -> PathBuf {
    below(NEW, path)
}

fn below(root: &str, path: &Path) -> PathBuf {
    Path::new(root).join(path.strip_prefix("/").unwrap_or(path))
}

/// Shows a part of the system where it is, if there is one; a symbolic link is copied.
fn mirror(path: &Path) -> io::Result<()> {
    let (from, to) = (old(path), new(path));
    let Ok(found) = from.symlink_metadata() else {
        return Ok(());
    };
    if found.is_symlink() {
        make_parents(&to)?;
        return symlink(fs::read_link(&from)?, &to);
    }
    make_place(&to, found.is_dir())?;
    bind(&from, &to, TAME | libc::MOUNT_ATTR_RDONLY)
}

fn show(shown: &Shown) -> io::Result<()> {
    let (from, to) = (old(&shown.source), new(&shown.target));
    make_place(&to, from.symlink_metadata()?.is_dir())?;
    let read_only = if shown.writable {
        0
    } else {
        libc::MOUNT_ATTR_RDONLY
    };
    bind(&from, &to, TAME | read_only)
}

/// Shows `from` at `to` with all that is mounted below it.
fn bind(from: &Path, to: &Path, attributes: u64) -> io::Result<()> {
    mount_bind_recursive(from, to)?;
    sys::mount_setattr(to, attributes, true)
}

/// Makes something to mount on.
fn make_place(at: &Path, folder: bool) -> io::Result<()> {
    if at.symlink_metadata().is_ok() {
        return Ok(());
    }
    make_parents(at)?;
    if folder {
        fs::create_dir(at)
    } else {
        File::create(at).map(drop)
    }
}

fn make_parents(at: &Path) -> io::Result<()> {
    at.parent().map_or(Ok(()), fs::create_dir_all)
}

/// Makes `/dev` with the devices that every program expects, and terminals of its own.
fn devices() -> io::Result<()> {
    let dev = new(Path::new("/dev"));
    fs::create_dir(&dev)?;
    for name in DEVICES {
        let at = dev.join(name);
        File::create(&at)?;
        mount_bind(old(Path::new("/dev")).join(name), &at)?;
        sys::mount_setattr(
            &at,
            libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC,
            false,
        )?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))?;
    }
    fs::create_dir(dev.join("shm"))?;
    memory(&dev.join("shm"), MAX_TEMP_BYTES, "1777")?;
    fs::create_dir(dev.join("pts"))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let options = c"newinstance,ptmxmode=0666,mode=620";
    mount("devpts", dev.join("pts"), "devpts", flags, options)?;
    Ok(())
}

/// Makes `/proc` of the own processes. It is read-only, because root may write to it without any capability; before that
/// the further nesting of namespaces is forbidden through it.
fn proc() -> Result<()> {
    let proc = new(Path::new("/proc"));
    fs::create_dir(&proc).at(Step::Proc)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", &proc, "proc", flags, None).at(Step::Proc)?;
    fs::write(proc.join("sys/user/max_user_namespaces"), "0").at(Step::Nesting)?;
    for name in HIDDEN {
        let at = proc.join(name);
        if at.exists() {
            mount_bind(new(Path::new("/dev/null")), &at).at(Step::Proc)?;
        }
    }
    sys::mount_setattr(&proc, libc::MOUNT_ATTR_RDONLY, false).at(Step::Proc)
}

fn folders_of_its_own(view: &View) -> io::Result<()> {
    let temp = new(Path::new(TEMP));
    fs::create_dir(&temp)?;
    memory(&temp, MAX_TEMP_BYTES, "1777")?;
    fs::create_dir(new(Path::new("/var")))?;
    symlink(TEMP, new(Path::new("/var/tmp")))?;
    if let Some(home) = &view.home {
        let home = new(home);
        make_place(&home, true)?;
        memory(&home, MAX_TEMP_BYTES, "700")?;
    }
    Ok(())
}

fn leave_the_old_root() -> io::Result<()> {
    sys::mount_setattr(Path::new(NEW), libc::MOUNT_ATTR_RDONLY, false)?;
    unmount(OLD, UnmountFlags::DETACH)?;
    chdir(NEW)?;
    // The stage comes to lie on top of the new root at the same place, and is taken off from there.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    Ok(())
}
