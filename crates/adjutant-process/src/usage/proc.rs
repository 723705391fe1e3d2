//! What `/proc` tells of a process tree's use.

use std::{collections::HashMap, fs};

use crate::procfs::Stat;

/// What a tree's processes use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Found {
    pub(super) rss_bytes: u64,
    /// The most that any of them had.
    pub(super) peak_bytes: u64,
    pub(super) open_files: u64,
    pub(super) threads: u64,
    pub(super) processes: u64,
    /// Processor time with that of reaped children, in ticks.
    pub(super) ticks: u64,
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
}

/// Adds up what is told of the living, and remembers what was told of those that have ended.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Bytes read and written, by number and start time.
    living: HashMap<(i32, u64), (u64, u64)>,
    ended: (u64, u64),
    ticks: u64,
}

impl Ledger {
    pub(super) fn look(&mut self, members: &[i32]) -> Found {
        let mut found = Found::default();
        let mut living = HashMap::with_capacity(members.len());
        for (stat, reaped) in members.iter().filter_map(|pid| stat(*pid)) {
            let status = Status::of(stat.pid);
            found.rss_bytes += status.rss_bytes;
            found.peak_bytes = found.peak_bytes.max(status.peak_bytes);
            found.threads += status.threads;
            found.processes += 1;
            found.open_files += open_files(stat.pid);
            found.ticks += stat.ticks + reaped;
            living.insert((stat.pid, stat.start), storage(stat.pid));
        }
        for (process, bytes) in &self.living {
            if !living.contains_key(process) {
                self.ended.0 += bytes.0;
                self.ended.1 += bytes.1;
            }
        }
        found.read_bytes = self.ended.0 + living.values().map(|bytes| bytes.0).sum::<u64>();
        found.written_bytes = self.ended.1 + living.values().map(|bytes| bytes.1).sum::<u64>();
        self.living = living;
        // A process may leave the tree with its time, and time does not run backwards.
        self.ticks = self.ticks.max(found.ticks);
        found.ticks = self.ticks;
        found
    }
}

/// A living process, and the ticks of its reaped children.
fn stat(pid: i32) -> Option<(Stat, u64)> {
    let stat = Stat::of(pid).filter(Stat::is_alive)?;
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = line.rsplit_once(')')?;
    // Fields 16 and 17 of the manual, of which the first here is number 3.
    let fields = rest.split_ascii_whitespace().skip(13).take(2);
    Some((
        stat,
        fields.filter_map(|field| field.parse::<u64>().ok()).sum(),
    ))
}

#[derive(Debug, Default)]
struct Status {
    rss_bytes: u64,
    peak_bytes: u64,
    threads: u64,
}

impl Status {
    fn of(pid: i32) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        Self {
            rss_bytes: field(&text, "VmRSS:") * 1024,
            peak_bytes: field(&text, "VmHWM:") * 1024,
            threads: field(&text, "Threads:"),
        }
    }
}

/// The number behind a name; zero when it is not told.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn open_files(pid: i32) -> u64 {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    entries.map_or(0, |entries| entries.count() as u64)
}

fn storage(pid: i32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    (field(&text, "read_bytes:"), field(&text, "write_bytes:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told_as_proc_tells_it() {
        let own = std::process::id().cast_signed();
        let held: Vec<std::fs::File> = (0..50)
            .map(|_| std::fs::File::open("/proc/self/stat").unwrap())
            .collect();
        // More than what comes and goes by itself.
        let memory = std::hint::black_box(vec![1_u8; 64 * 1024 * 1024]);
        let found = Ledger::default().look(&[own]);
        let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let rss = field(&text, "Rss:") * 1024;
        let error = found.rss_bytes.abs_diff(rss) as f64 / rss as f64;
        assert!(error < 0.05, "{} instead of {rss}", found.rss_bytes);
        assert!(found.peak_bytes >= memory.len() as u64);
        assert!(found.open_files >= held.len() as u64 && found.open_files < 200);
        assert!(found.processes == 1 && found.threads >= 1);
    }

    #[test]
    fn who_has_ended_still_counts() {
        let mut ledger = Ledger {
            living: HashMap::from([((-1, 7), (10, 20))]),
            ended: (1, 2),
            ticks: 5,
        };
        for _ in 0..2 {
            let found = ledger.look(&[]);
            assert_eq!((found.read_bytes, found.written_bytes), (11, 22));
            assert_eq!((found.ticks, found.processes), (5, 0));
        }
    }
}
