//! What both versions of control groups have in common: folders with small files.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{limits::LimitKind, procfs::Stat};

/// Writes one value.
pub(super) fn write(group: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = group.join(file);
    fs::write(&path, value).map_err(|error| {
        let why = format!("{}: {error}", path.display());
        io::Error::new(error.kind(), why)
    })
}

/// Makes a group.
pub(super) fn make(group: &Path) -> io::Result<()> {
    fs::create_dir(group).map_err(|error| {
        let why = format!("{}: {error}", group.display());
        io::Error::new(error.kind(), why)
    })
}

/// Reads a number, such as `memory.current`.
pub(super) fn number(group: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(group.join(file))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Reads one number of a table, such as `oom_kill` in `memory.events`.
pub(super) fn entry(file: &Path, key: &str) -> Option<u64> {
    let table = fs::read_to_string(file).ok()?;
    table.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

/// The limit for which the kernel has done something to a tree, as these two tables tell.
pub(super) fn struck(memory: Option<PathBuf>, pids: Option<PathBuf>) -> Option<LimitKind> {
    let counts = |file: Option<PathBuf>, key| file.and_then(|file| entry(&file, key)) > Some(0);
    if counts(memory, "oom_kill") {
        Some(LimitKind::Memory)
    } else {
        counts(pids, "max").then_some(LimitKind::Pids)
    }
}

/// The processes in a group and the groups below it.
pub(super) fn members(group: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    visit(group, &mut |group| {
        let list = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        found.extend(list.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    });
    found
}

/// What is known of processes.
pub(super) fn stats(members: &[i32]) -> Vec<Stat> {
    members.iter().filter_map(|pid| Stat::of(*pid)).collect()
}

/// Sends signals to the processes that `members` names, and to none that has got one of the numbers meanwhile.
pub(super) fn signal(members: impl Fn() -> Vec<i32>, signals: &[Signal]) {
    let handles: Vec<_> = members().into_iter().filter_map(open).collect();
    // A handle stays with the process it was opened for; one whose number is still in the list is the right one.
    let still = members();
    for (_, handle) in handles.iter().filter(|(pid, _)| still.contains(pid)) {
        for signal in signals {
            let _ = pidfd_send_signal(handle, *signal);
        }
    }
}

fn open(pid: i32) -> Option<(i32, OwnedFd)> {
    let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty());
    Some((pid, handle.ok()?))
}

/// Removes a group and the groups below it; false when something in there is alive.
pub(super) fn remove(group: &Path) -> bool {
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {}
        _ => return true,
    }
    // It may have groups of its own, which an agent with enough rights can make.
    visit(group, &mut |group| {
        let _ = fs::remove_dir(group);
    });
    !group.exists()
}

/// Calls `act` for all groups below and then for the group itself.
fn visit(group: &Path, act: &mut dyn FnMut(&Path)) {
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in below {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), act);
        }
    }
    act(group);
}

/// Names of the groups directly below.
pub(super) fn below(group: &Path) -> Vec<String> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
