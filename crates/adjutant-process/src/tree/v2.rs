//! Control groups, version 2: one folder a tree, and one file to kill it with.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{Access, access},
    process::Signal,
};
use serde::{Deserialize, Serialize};

use super::{Tree, Usage, cgroup, incarnation::Incarnation, mounts::Hierarchy, usage_of};
use crate::{
    limits::{LimitKind, Limits},
    procfs::Stat,
};

/// What limits need.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// The name of the group that this program moves to when its own has to become the parent of others.
const MAIN: &str = "adjutant-main";

/// The length of time over which a share of the processors is measured, in microseconds.
pub(super) const CPU_PERIOD_MICROS: u64 = 100_000;

/// A group below which trees can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    pub(super) folder: PathBuf,
    controllers: Vec<String>,
}

impl Base {
    /// The best place: the own group, else the top of the hierarchy.
    pub(super) fn find(hierarchy: &Hierarchy) -> Option<Self> {
        let own = match hierarchy.own.file_name() {
            Some(name) if name == MAIN => hierarchy.own.parent()?,
            _ => &hierarchy.own,
        };
        let own = Self::at(own);
        if own.as_ref().is_some_and(Self::is_complete) {
            return own;
        }
        let top = Self::at(&hierarchy.top);
        match (own, top) {
            (Some(own), Some(top)) if top.controllers.len() > own.controllers.len() => Some(top),
            (own, top) => own.or(top),
        }
    }

    fn at(folder: &Path) -> Option<Self> {
        access(folder.join("cgroup.procs"), Access::WRITE_OK).ok()?;
        let probe = folder.join(Incarnation::current().tree(u64::MAX));
        fs::create_dir(&probe).ok()?;
        // Linux 5.14 and later.
        let can_kill = probe.join("cgroup.kill").exists();
        cgroup::remove(&probe);
        can_kill.then(|| Self {
            folder: folder.to_owned(),
            controllers: enable(folder),
        })
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.controllers.len() == CONTROLLERS.len()
    }
}

/// Hands the controllers on to the groups below, as far as that works, and returns which are.
fn enable(folder: &Path) -> Vec<String> {
    let on = |controller: &&str| {
        cgroup::write(folder, "cgroup.subtree_control", &format!("+{controller}"))
    };
    let offered = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    let offered: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|wanted| offered.split_whitespace().any(|name| name == *wanted))
        .collect();
    let refused = offered.iter().any(|controller| on(controller).is_err());
    if refused && make_way(folder) {
        for controller in &offered {
            let _ = on(controller);
        }
    }
    let enabled = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
    CONTROLLERS
        .into_iter()
        .filter(|wanted| enabled.split_whitespace().any(|name| name == *wanted))
        .map(str::to_owned)
        .collect()
}

/// A group with processes hands on nothing. When this program is the only one in there, it moves down.
fn make_way(folder: &Path) -> bool {
    let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    if list.trim() != std::process::id().to_string() {
        return false;
    }
    let main = folder.join(MAIN);
    (main.exists() || cgroup::make(&main).is_ok())
        && cgroup::write(&main, "cgroup.procs", "0").is_ok()
}

/// One tree.
#[derive(Debug)]
pub(super) struct V2 {
    group: PathBuf,
    controllers: Vec<String>,
}

impl V2 {
    pub(super) fn make(base: &Base, name: &str, limits: &Limits) -> io::Result<Self> {
        let tree = Self {
            group: base.folder.join(name),
            controllers: base.controllers.clone(),
        };
        cgroup::make(&tree.group)?;
        let limited = tree.limit(limits);
        if limited.is_err() {
            tree.remove();
        }
        limited.map(|()| tree)
    }

    /// A tree that is there.
    pub(super) fn existing(group: PathBuf) -> Self {
        Self {
            group,
            controllers: Vec::new(),
        }
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        let set = |file, value: String| cgroup::write(&self.group, file, &value);
        if let Some(memory) = limits.memory.filter(|_| self.has("memory")) {
            set("memory.max", memory.0.to_string())?;
            // Not there without swap.
            let _ = set("memory.swap.max", "0".to_owned());
            set("memory.oom.group", "1".to_owned())?;
        }
        if let Some(cpu) = limits.cpu.filter(|_| self.has("cpu")) {
            set("cpu.max", format!("{} {CPU_PERIOD_MICROS}", quota(cpu)))?;
        }
        if let Some(pids) = limits.pids.filter(|_| self.has("pids")) {
            set("pids.max", pids.to_string())?;
        }
        Ok(())
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// Microseconds of processor time in each period; the kernel takes no less than 1000.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number of processors is checked to be between 0.01 and 1024"
)]
pub(super) fn quota(cpu: f64) -> u64 {
    ((cpu * CPU_PERIOD_MICROS as f64) as u64).max(1000)
}

impl Tree for V2 {
    fn entrances(&self) -> Vec<PathBuf> {
        vec![self.group.join("cgroup.procs")]
    }

    fn entered(&self, _first: Stat, _keeper: bool) {}

    fn members(&self) -> Vec<i32> {
        cgroup::members(&self.group)
    }

    fn is_empty(&self) -> bool {
        // No such file: no such group.
        cgroup::entry(&self.group.join("cgroup.events"), "populated") != Some(1)
    }

    fn signal(&self, signals: &[Signal]) {
        cgroup::signal(|| self.members(), signals);
    }

    fn freeze(&self, frozen: bool) {
        let written = cgroup::write(&self.group, "cgroup.freeze", if frozen { "1" } else { "0" });
        if let Err(error) = written {
            tracing::debug!(%error, "a group was not frozen; its processes are told");
            self.signal(&[if frozen { Signal::STOP } else { Signal::CONT }]);
        }
    }

    fn kill(&self) {
        let _ = cgroup::write(&self.group, "cgroup.kill", "1");
    }

    fn usage(&self) -> Usage {
        let counted = usage_of(&cgroup::stats(&self.members()));
        let micros = cgroup::entry(&self.group.join("cpu.stat"), "usage_usec");
        Usage {
            memory: cgroup::number(&self.group, "memory.current").unwrap_or(counted.memory),
            cpu: micros.map_or(counted.cpu, Duration::from_micros),
            pids: cgroup::number(&self.group, "pids.current").unwrap_or(counted.pids),
        }
    }

    fn cpu(&self) -> Option<Duration> {
        let micros = cgroup::entry(&self.group.join("cpu.stat"), "usage_usec")?;
        Some(Duration::from_micros(micros))
    }

    fn struck(&self) -> Option<LimitKind> {
        let file = |name| Some(self.group.join(name));
        cgroup::struck(file("memory.events"), file("pids.events"))
    }

    fn remove(&self) -> bool {
        cgroup::remove(&self.group)
    }
}
