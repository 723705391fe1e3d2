//! Trees without control groups: descendants are found by their parents.
//!
//! With a keeper that is everything: it is the first process and a *subreaper*, so that whoever loses its parent becomes
//! its child and never leaves. Without one (a program that does not re-execute itself) a tree is the descendants of the
//! first process, its process group, and whoever still carries the tree's name in the environment.

use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Tree, Usage, VARIABLE, usage_of};
use crate::procfs::{self, Snapshot, Stat};

/// Trees with more processes are stopped before they are killed, so that they cannot grow faster than they shrink.
const STOP_FIRST: usize = 4;

/// How often stopping is repeated while new processes turn up.
const STOP_ROUNDS: u32 = 20;

#[derive(Debug)]
pub(super) struct Plain {
    /// What the environment of the tree's processes says.
    name: String,
    first: OnceLock<(Stat, bool)>,
}

impl Plain {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            first: OnceLock::new(),
        }
    }

    /// Kills the first process's group in one call, which nothing in it can outrun by multiplying.
    fn kill_group(&self) {
        if let Some((first, false)) = self.first.get()
            && procfs::all()
                .iter()
                .any(|stat| stat.group == first.pid && stat.start >= first.start)
            && let Some(group) = Pid::from_raw(first.pid)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    fn living(&self) -> Vec<Stat> {
        self.living_among(&procfs::all())
    }

    fn living_among(&self, all: &[Stat]) -> Vec<Stat> {
        let Some((first, keeper)) = self.first.get() else {
            return Vec::new();
        };
        let mut living = family(first, *keeper, all);
        let is_kept = *keeper && all.iter().any(|now| now.is(first) && now.is_alive());
        if !is_kept {
            let later = all
                .iter()
                .filter(|stat| stat.start >= first.start && stat.is_alive());
            let marked = later
                .filter(|stat| procfs::variable(stat.pid, VARIABLE).as_ref() == Some(&self.name));
            living.extend(marked);
        }
        living.sort_unstable_by_key(|stat| stat.pid);
        living.dedup();
        living
    }
}

/// The first process's group, its descendants, and itself unless it is a keeper.
fn family(first: &Stat, keeper: bool, all: &[Stat]) -> Vec<Stat> {
    let mut living = Vec::new();
    // Nothing but the number is left of a process that has been reaped, and the number may be another's.
    if all.iter().any(|now| now.is(first)) {
        living.extend(procfs::descendants(first.pid, all));
    }
    if !keeper {
        let own = all
            .iter()
            .filter(|stat| stat.group == first.pid && stat.start >= first.start && stat.is_alive());
        living.extend(own);
    }
    living
}

impl Tree for Plain {
    fn entered(&self, first: Stat, keeper: bool) {
        let _ = self.first.set((first, keeper));
    }

    fn members(&self) -> Vec<i32> {
        self.living().iter().map(|stat| stat.pid).collect()
    }

    fn members_in(&self, now: &Snapshot) -> Vec<i32> {
        let living = self.living_among(now.all());
        living.iter().map(|stat| stat.pid).collect()
    }

    fn signal(&self, signals: &[Signal]) {
        procfs::signal(&self.living(), signals);
    }

    fn kill(&self) {
        self.kill_group();
        kill(|| self.living());
    }

    fn usage(&self) -> Usage {
        usage_of(&self.living())
    }

    fn remove(&self) -> bool {
        self.is_empty()
    }
}

/// Kills all that `living` names.
pub(crate) fn kill(living: impl Fn() -> Vec<Stat>) {
    let mut list = living();
    for _ in 0..STOP_ROUNDS {
        if list.len() <= STOP_FIRST {
            break;
        }
        procfs::signal(&list, &[Signal::STOP]);
        let now = living();
        let grows = now.len() > list.len();
        list = now;
        if !grows {
            break;
        }
    }
    procfs::signal(&list, &[Signal::KILL]);
}

/// Kills whoever belongs to a tree that `over` knows to have lost its program; how many were found.
pub(super) fn sweep(over: impl Fn(&str) -> bool) -> usize {
    let is_lost =
        |stat: &Stat| procfs::variable(stat.pid, VARIABLE).is_some_and(|name| over(&name));
    let lost = || -> Vec<Stat> {
        let all = procfs::all().into_iter();
        all.filter(|stat| stat.is_alive() && is_lost(stat))
            .collect()
    };
    let found = lost().len();
    if found > 0 {
        kill(lost);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, parent: i32, group: i32, start: u64) -> Stat {
        Stat {
            pid,
            state: b'S',
            parent,
            group,
            ticks: 0,
            start,
            pages: 0,
        }
    }

    fn pids(first: &Stat, keeper: bool, all: &[Stat]) -> Vec<i32> {
        let living = family(first, keeper, all);
        living.into_iter().map(|stat| stat.pid).collect()
    }

    #[test]
    fn a_number_that_was_given_again_has_no_family() {
        let first = stat(10, 1, 10, 100);
        let all = [stat(10, 1, 10, 999), stat(11, 10, 10, 1000)];
        assert_eq!(pids(&first, true, &all), [0; 0]);
    }

    #[test]
    fn a_group_outlives_its_leader_and_a_keeper_is_no_member() {
        let first = stat(10, 1, 10, 100);
        let all = [stat(11, 1, 10, 101), stat(12, 10, 12, 101)];
        assert_eq!(pids(&first, false, &all), [11]);
        let all = [stat(10, 1, 10, 100), stat(12, 10, 12, 101)];
        assert_eq!(pids(&first, true, &all), [12]);
        assert_eq!(pids(&first, false, &all), [12, 10]);
    }
}
