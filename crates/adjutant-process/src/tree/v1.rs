//! Control groups, version 1: a folder in each controller's hierarchy. The freezer's holds the tree; the others are made
//! for the limits that need them.

use std::{io, path::PathBuf, thread, time::Duration};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::{Tree, Usage, cgroup, incarnation::Incarnation, mounts::Hierarchies, usage_of};
use crate::{
    limits::{LimitKind, Limits},
    procfs::Stat,
    tree::v2::{CPU_PERIOD_MICROS, quota},
};

/// How often and how long `kill` waits for the processes to freeze.
const FREEZE_LOOKS: u32 = 20;
const FREEZE_PAUSE: Duration = Duration::from_micros(250);

/// Groups below which trees can be made, by controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    pub(super) freezer: PathBuf,
    pub(super) memory: Option<PathBuf>,
    pub(super) cpu: Option<PathBuf>,
    pub(super) pids: Option<PathBuf>,
}

impl Base {
    /// The own group of each controller, where it can be used.
    pub(super) fn find(hierarchies: &Hierarchies) -> Option<Self> {
        let usable = |own: PathBuf| {
            let probe = own.join(Incarnation::current().tree(u64::MAX));
            cgroup::make(&probe).ok()?;
            cgroup::remove(&probe).then_some(own)
        };
        let own =
            |hierarchy: &Option<super::mounts::Hierarchy>| usable(hierarchy.as_ref()?.own.clone());
        Some(Self {
            freezer: own(&hierarchies.freezer)?,
            memory: own(&hierarchies.memory),
            cpu: own(&hierarchies.cpu),
            pids: own(&hierarchies.pids),
        })
    }

    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        let limits = [&self.memory, &self.cpu, &self.pids];
        [&self.freezer]
            .into_iter()
            .chain(limits.into_iter().flatten())
    }

    /// Names of all trees, whoever made them.
    pub(super) fn trees(&self) -> Vec<String> {
        let mut names: Vec<String> = self.all().flat_map(|base| cgroup::below(base)).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// One tree.
#[derive(Debug)]
pub(super) struct V1 {
    freezer: PathBuf,
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    pids: Option<PathBuf>,
}

impl V1 {
    pub(super) fn make(base: &Base, name: &str, limits: &Limits) -> io::Result<Self> {
        let needed = |base: &Option<PathBuf>, kind| {
            let base = base.as_ref().filter(|_| limits.has(kind));
            base.map(|base| base.join(name))
        };
        let tree = Self {
            freezer: base.freezer.join(name),
            memory: needed(&base.memory, LimitKind::Memory),
            cpu: needed(&base.cpu, LimitKind::Cpu),
            pids: needed(&base.pids, LimitKind::Pids),
        };
        let made = tree.groups().try_for_each(|group| cgroup::make(group));
        let limited = made.and_then(|()| tree.limit(limits));
        if limited.is_err() {
            tree.remove();
        }
        limited.map(|()| tree)
    }

    /// A tree that is there.
    pub(super) fn existing(base: &Base, name: &str) -> Self {
        let group =
            |base: &Option<PathBuf>| Some(base.as_ref()?.join(name)).filter(|group| group.exists());
        Self {
            freezer: base.freezer.join(name),
            memory: group(&base.memory),
            cpu: group(&base.cpu),
            pids: group(&base.pids),
        }
    }

    fn groups(&self) -> impl Iterator<Item = &PathBuf> {
        let limits = [&self.memory, &self.cpu, &self.pids];
        [&self.freezer]
            .into_iter()
            .chain(limits.into_iter().flatten())
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        if let (Some(memory), Some(group)) = (limits.memory, &self.memory) {
            let bytes = memory.0.to_string();
            cgroup::write(group, "memory.limit_in_bytes", &bytes)?;
            // Not there when swap is not counted.
            let _ = cgroup::write(group, "memory.memsw.limit_in_bytes", &bytes);
        }
        if let (Some(cpu), Some(group)) = (limits.cpu, &self.cpu) {
            cgroup::write(group, "cpu.cfs_period_us", &CPU_PERIOD_MICROS.to_string())?;
            cgroup::write(group, "cpu.cfs_quota_us", &quota(cpu).to_string())?;
        }
        if let (Some(pids), Some(group)) = (limits.pids, &self.pids) {
            cgroup::write(group, "pids.max", &pids.to_string())?;
        }
        Ok(())
    }

    /// Stops all processes where they are, so that none can start another while they are counted.
    fn freeze(&self) {
        if cgroup::write(&self.freezer, "freezer.state", "FROZEN").is_err() {
            return;
        }
        for _ in 0..FREEZE_LOOKS {
            let state = std::fs::read_to_string(self.freezer.join("freezer.state"));
            if state.is_ok_and(|state| state.trim() != "FREEZING") {
                return;
            }
            thread::sleep(FREEZE_PAUSE);
        }
    }

    fn thaw(&self) {
        let _ = cgroup::write(&self.freezer, "freezer.state", "THAWED");
    }
}

impl Tree for V1 {
    fn entrances(&self) -> Vec<PathBuf> {
        self.groups()
            .map(|group| group.join("cgroup.procs"))
            .collect()
    }

    fn entered(&self, _first: Stat, _keeper: bool) {}

    fn members(&self) -> Vec<i32> {
        // A process may have been moved out of one hierarchy, but hardly out of all.
        let mut members: Vec<i32> = self
            .groups()
            .flat_map(|group| cgroup::members(group))
            .collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    fn signal(&self, signals: &[Signal]) {
        cgroup::signal(|| self.members(), signals);
    }

    fn kill(&self) {
        if self.is_empty() {
            return;
        }
        self.freeze();
        self.signal(&[Signal::KILL]);
        self.thaw();
    }

    fn usage(&self) -> Usage {
        let counted = usage_of(&cgroup::stats(&self.members()));
        let memory = self.memory.as_ref();
        Usage {
            memory: memory
                .and_then(|group| cgroup::number(group, "memory.usage_in_bytes"))
                .unwrap_or(counted.memory),
            ..counted
        }
    }

    fn cpu(&self) -> Option<Duration> {
        // Usually mounted together with what limits it.
        let nanos = cgroup::number(self.cpu.as_ref()?, "cpuacct.usage")?;
        Some(Duration::from_nanos(nanos))
    }

    fn struck(&self) -> Option<LimitKind> {
        cgroup::struck(
            self.memory
                .as_ref()
                .map(|group| group.join("memory.oom_control")),
            self.pids.as_ref().map(|group| group.join("pids.events")),
        )
    }

    fn remove(&self) -> bool {
        // Not with `all`: each group goes that can.
        self.groups().filter(|group| !cgroup::remove(group)).count() == 0
    }
}
