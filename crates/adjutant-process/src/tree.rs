//! Process trees: an agent's process with all that comes of it, however it tries to get away.
//!
//! Three ways of owning a tree share one small trait. Control groups of version 2 and 1 hold every descendant by
//! themselves; without them descendants are found by their parents, see [`plain`].

mod cgroup;
mod ground;
mod incarnation;
mod mounts;
mod plain;
mod v1;
mod v2;

use std::{fmt, path::PathBuf, time::Duration};

use rustix::process::Signal;

pub(crate) use self::{
    ground::Ground,
    incarnation::{Incarnation, VARIABLE},
    plain::kill as kill_processes,
};
use crate::{
    limits::LimitKind,
    procfs::{Snapshot, Stat},
};

/// Kills who was started in a tree of this name and has left it.
pub(crate) fn sweep_named(name: &str) {
    plain::sweep(|found| found == name);
}

/// One process tree. Contract:
///
/// - Whatever a process of the tree starts is in the tree.
/// - `kill` may be called from any thread, any number of times, and repeating it empties the tree.
pub(crate) trait Tree: Send + Sync + fmt::Debug {
    /// Files into which a process writes `0` to enter with all it starts from then on.
    fn entrances(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Tells which process is the first one. With `keeper`, the first one is no agent: it looks after the tree, gets no
    /// signals, and ends when the tree has.
    fn entered(&self, first: Stat, keeper: bool);

    /// Numbers of the living processes.
    fn members(&self) -> Vec<i32>;

    /// The same for who looks at many trees at once.
    fn members_in(&self, _now: &Snapshot) -> Vec<i32> {
        self.members()
    }

    /// Whether no process is alive.
    fn is_empty(&self) -> bool {
        self.members().is_empty()
    }

    /// Sends signals to every process, one after the other.
    fn signal(&self, signals: &[Signal]);

    /// Lets every process stand still, or go on. Thawed, a tree that was never frozen is as before.
    fn freeze(&self, frozen: bool) {
        self.signal(&[if frozen { Signal::STOP } else { Signal::CONT }]);
    }

    /// Kills every process; one round.
    fn kill(&self);

    /// What the tree uses now; what has ended may be missing from the times.
    fn usage(&self) -> Usage;

    /// Processor time of all that has ever been in the tree, where the kernel counts it.
    fn cpu(&self) -> Option<Duration> {
        None
    }

    /// The limit for which the kernel has killed a process of this tree, or refused it another one, if it has.
    fn struck(&self) -> Option<LimitKind> {
        None
    }

    /// Removes what the tree has needed; false when it is not empty yet.
    fn remove(&self) -> bool;
}

/// What a tree uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// Processor time of all its processes.
    pub(crate) cpu: Duration,
    /// Number of processes, or of threads too where the kernel counts those.
    pub(crate) pids: u64,
}

/// Memory and time as the processes' own records add up.
fn usage_of(stats: &[Stat]) -> Usage {
    let ticks: u64 = stats.iter().map(|stat| stat.ticks).sum();
    let pages: u64 = stats.iter().map(|stat| stat.pages).sum();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Usage {
        memory: pages * rustix::param::page_size() as u64,
        cpu: Duration::from_millis(ticks * 1000 / per_second),
        pids: stats.len() as u64,
    }
}
