//! When a process is over a limit that the kernel does not keep. Decides only; others look and act.

use std::time::Duration;

use super::{LimitKind, Limits, disk::DISK_SAMPLING};
use crate::{
    capabilities::{Enforcement, Ownership},
    tree::{Ground, Usage},
};

/// Time between two looks at what a tree uses.
pub(crate) const SAMPLING: Duration = Duration::from_millis(50);

/// Time between two looks for processes that the kernel has killed for want of memory.
const STRIKES: Duration = Duration::from_millis(200);

/// The limits of one process that have to be watched.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Watch {
    duration: Option<Duration>,
    idle: Option<Duration>,
    memory: Option<u64>,
    pids: Option<u64>,
    disk: Option<u64>,
    /// Whether the kernel may kill one process of a tree and leave the others.
    strikes: bool,
}

/// What is known of a process at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Since its start.
    pub(crate) age: Duration,
    /// Since the last byte in or out.
    pub(crate) idle: Duration,
    /// What it uses, if [`Watch::samples`].
    pub(crate) usage: Usage,
    /// Bytes by which its folder has grown.
    pub(crate) disk: u64,
    /// Whether the kernel has killed some of it for want of memory, if [`Watch::looks_for_strikes`].
    pub(crate) struck: bool,
}

impl Watch {
    pub(crate) fn new(limits: &Limits, ground: &Ground) -> Self {
        let sampled = |kind| ground.enforcement(kind) == Enforcement::Sampled;
        let memory = limits.memory.filter(|_| sampled(LimitKind::Memory));
        let pids = limits.pids.filter(|_| sampled(LimitKind::Pids));
        Self {
            duration: limits.duration,
            idle: limits.idle,
            memory: memory.map(|memory| memory.0 as u64),
            pids: pids.map(std::num::NonZero::get),
            disk: limits.disk.map(|disk| disk.0 as u64),
            strikes: limits.memory.is_some() && ground.ownership() == Ownership::CgroupV1,
        }
    }

    /// Whether it has to be known what the tree uses.
    pub(crate) const fn samples(&self) -> bool {
        self.memory.is_some() || self.pids.is_some()
    }

    pub(crate) const fn looks_for_strikes(&self) -> bool {
        self.strikes
    }

    /// The limit that it is over.
    pub(crate) fn verdict(&self, seen: &Seen) -> Option<LimitKind> {
        let over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
        let late =
            |limit: Option<Duration>, time: Duration| limit.is_some_and(|limit| time >= limit);
        if seen.struck || over(self.memory, seen.usage.memory) {
            Some(LimitKind::Memory)
        } else if over(self.pids, seen.usage.pids) {
            Some(LimitKind::Pids)
        } else if over(self.disk, seen.disk) {
            Some(LimitKind::Disk)
        } else if late(self.duration, seen.age) {
            Some(LimitKind::Duration)
        } else if late(self.idle, seen.idle) {
            Some(LimitKind::Idle)
        } else {
            None
        }
    }

    /// When to look again, from now; `None`: never.
    pub(crate) fn next_look(&self, seen: &Seen) -> Option<Duration> {
        let left = |limit: Option<Duration>, time| Some(limit?.saturating_sub(time));
        let looks = [
            left(self.duration, seen.age),
            left(self.idle, seen.idle),
            self.samples().then_some(SAMPLING),
            self.strikes.then_some(STRIKES),
            self.disk.map(|_| DISK_SAMPLING),
        ];
        looks.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_to_watch_needs_no_look() {
        let watch = Watch::default();
        let seen = Seen {
            age: SECOND * 1_000_000,
            ..Seen::default()
        };
        assert_eq!((watch.verdict(&seen), watch.next_look(&seen)), (None, None));
    }

    #[test]
    fn time_is_up_when_it_is_and_not_before() {
        let watch = Watch {
            duration: Some(SECOND * 10),
            idle: Some(SECOND * 2),
            ..Watch::default()
        };
        let at = |age, idle| Seen {
            age: SECOND * age,
            idle: SECOND * idle,
            ..Seen::default()
        };
        let verdict = |age, idle| watch.verdict(&at(age, idle));
        assert_eq!(verdict(9, 1), None);
        assert_eq!(watch.next_look(&at(9, 0)), Some(SECOND));
        assert_eq!(watch.next_look(&at(3, 1)), Some(SECOND));
        assert_eq!(verdict(10, 0), Some(LimitKind::Duration));
        assert_eq!(verdict(5, 2), Some(LimitKind::Idle));
    }

    #[test]
    fn what_is_sampled_is_looked_at_often() {
        let watch = Watch {
            memory: Some(100),
            pids: Some(2),
            ..Watch::default()
        };
        let using = |memory, pids| Seen {
            usage: Usage {
                memory,
                pids,
                ..Usage::default()
            },
            ..Seen::default()
        };
        assert_eq!(watch.next_look(&using(1, 1)), Some(SAMPLING));
        assert_eq!(watch.verdict(&using(100, 2)), None);
        assert_eq!(watch.verdict(&using(101, 2)), Some(LimitKind::Memory));
        assert_eq!(watch.verdict(&using(100, 3)), Some(LimitKind::Pids));
    }

    #[test]
    fn a_folder_is_looked_at_now_and_then() {
        let watch = Watch {
            disk: Some(100),
            ..Watch::default()
        };
        let grown = |disk| Seen {
            disk,
            ..Seen::default()
        };
        assert_eq!(watch.verdict(&grown(100)), None);
        assert_eq!(watch.next_look(&grown(100)), Some(DISK_SAMPLING));
        assert_eq!(watch.verdict(&grown(101)), Some(LimitKind::Disk));
    }
}
