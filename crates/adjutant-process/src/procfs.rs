//! What `/proc` tells of processes.

use std::{cell::OnceCell, fs};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    pub(crate) state: u8,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    /// Processor time, in ticks.
    pub(crate) ticks: u64,
    /// When it started, in ticks since boot. Together with the number it names one process for ever.
    pub(crate) start: u64,
    /// Resident memory, in pages.
    pub(crate) pages: u64,
}

impl Stat {
    /// Reads a line of `/proc/PID/stat`.
    fn parse(line: &str) -> Option<Self> {
        // The name in parentheses may hold anything, parentheses and spaces too.
        let (head, rest) = line.rsplit_once(')')?;
        let pid = head.split_once(' ')?.0.parse().ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The manual counts from 1, and its field 3, the state, is the first of these.
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |at: usize| field(at)?.parse::<u64>().ok();
        Some(Self {
            pid,
            state: *field(3)?.as_bytes().first()?,
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            ticks: number(14)? + number(15)?,
            start: number(22)?,
            pages: number(24)?,
        })
    }

    /// The process of a number, while there is one.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Whether this is the same process, at another time.
    pub(crate) const fn is(&self, other: &Self) -> bool {
        self.pid == other.pid && self.start == other.start
    }

    /// Whether it can still do anything; one that only waits to be reaped cannot.
    pub(crate) const fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Sends signals to processes, and to none that has got one of the numbers meanwhile.
pub(crate) fn signal(processes: &[Stat], signals: &[Signal]) {
    for process in processes {
        let handle = Pid::from_raw(process.pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let Some(Ok(handle)) = handle else { continue };
        // The handle stays with the process that it was opened for; this looks whether that is the right one.
        if Stat::of(process.pid).is_some_and(|now| now.start == process.start) {
            for signal in signals {
                let _ = pidfd_send_signal(&handle, *signal);
            }
        }
    }
}

/// Numbers of all processes.
fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// All processes at one time, read when they are asked for first.
#[derive(Debug, Default)]
pub struct Snapshot {
    all: OnceCell<Vec<Stat>>,
}

impl Snapshot {
    pub(crate) fn all(&self) -> &[Stat] {
        self.all.get_or_init(all)
    }
}

/// All processes.
pub(crate) fn all() -> Vec<Stat> {
    pids().into_iter().filter_map(Stat::of).collect()
}

/// The living processes below `root`, without itself.
pub(crate) fn descendants(root: i32, all: &[Stat]) -> Vec<Stat> {
    let mut found: Vec<Stat> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for stat in all.iter().filter(|stat| stat.parent == parent) {
            parents.push(stat.pid);
            found.push(*stat);
        }
    }
    found.retain(Stat::is_alive);
    found
}

/// The value of a variable that a process was started with; `None` also where that may not be read.
pub(crate) fn variable(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut entries = environment.split(|byte| *byte == 0);
    let value =
        entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(value.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, parent: i32) -> Stat {
        Stat {
            pid,
            state: b'S',
            parent,
            group: pid,
            ticks: 0,
            start: 1,
            pages: 0,
        }
    }

    #[test]
    fn a_name_may_hold_anything() {
        let line = "7 (a) S (b) R 3 4 5 0 -1 4194304 1 2 3 4 10 20 0 0 20 0 1 0 999 4096 55 18446744073709551615";
        let read = Stat::parse(line).unwrap();
        assert_eq!(
            (read.pid, read.state, read.parent, read.group),
            (7, b'R', 3, 4)
        );
        assert_eq!((read.ticks, read.start, read.pages), (30, 999, 55));
        assert_eq!(Stat::parse("7 (a) S"), None);
    }

    #[test]
    fn descendants_are_all_below_and_nobody_else() {
        let mut all = vec![stat(1, 0), stat(5, 1), stat(6, 5), stat(7, 6), stat(8, 1)];
        all[2].state = b'Z';
        let pids: Vec<i32> = descendants(5, &all).iter().map(|stat| stat.pid).collect();
        assert_eq!(pids, [7]);
    }

    #[test]
    fn this_process_is_alive_and_knows_its_parent() {
        let own = Stat::of(std::process::id().cast_signed()).unwrap();
        assert!(own.is_alive() && own.parent > 0 && own.pages > 0);
        assert!(all().contains(&Stat { ..own }) || all().iter().any(|stat| stat.pid == own.pid));
    }
}
