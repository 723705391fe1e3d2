//! On what trees stand here: chosen once, by what is mounted, writable and able.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

use super::{
    Tree, cgroup,
    incarnation::Incarnation,
    mounts::Hierarchies,
    plain::{self, Plain},
    v1::{self, V1},
    v2::{self, V2},
};
use crate::{
    capabilities::{Enforcement, Ownership},
    limits::{LimitKind, Limits},
};

/// Numbers the trees of this program.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Makes trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ground {
    V2(v2::Base),
    V1(v1::Base),
    Plain,
}

impl Ground {
    /// The best there is, or the best of the kind that is wanted.
    pub(crate) fn find(wanted: Option<Ownership>) -> Option<Self> {
        let mounted = Hierarchies::read();
        let v2 = || mounted.v2.as_ref().and_then(v2::Base::find);
        let v1 = || v1::Base::find(&mounted);
        match wanted {
            Some(Ownership::CgroupV2) => v2().map(Self::V2),
            Some(Ownership::CgroupV1) => v1().map(Self::V1),
            Some(Ownership::Processes) => Some(Self::Plain),
            None => Some(choose(v2(), v1())),
        }
    }

    pub(crate) const fn ownership(&self) -> Ownership {
        match self {
            Self::V2(_) => Ownership::CgroupV2,
            Self::V1(_) => Ownership::CgroupV1,
            Self::Plain => Ownership::Processes,
        }
    }

    /// What holds a process to a limit here.
    pub(crate) fn enforcement(&self, kind: LimitKind) -> Enforcement {
        let controller = match kind {
            LimitKind::Memory => "memory",
            LimitKind::Cpu => "cpu",
            LimitKind::Pids => "pids",
            LimitKind::Files | LimitKind::FileSize | LimitKind::Core => return Enforcement::Rlimit,
            LimitKind::Disk => return Enforcement::Sampled,
            LimitKind::Output | LimitKind::Duration | LimitKind::Idle => {
                return Enforcement::Runtime;
            }
        };
        let has = match self {
            Self::V2(base) => base.has(controller),
            Self::V1(base) => {
                let folder = match kind {
                    LimitKind::Memory => &base.memory,
                    LimitKind::Cpu => &base.cpu,
                    _ => &base.pids,
                };
                folder.is_some()
            }
            Self::Plain => false,
        };
        match kind {
            _ if has => Enforcement::Cgroup,
            LimitKind::Cpu => Enforcement::None,
            _ => Enforcement::Sampled,
        }
    }

    /// A new tree and its name.
    pub(crate) fn tree(
        &self,
        own: &Incarnation,
        limits: &Limits,
    ) -> io::Result<(String, Box<dyn Tree>)> {
        let name = own.tree(NEXT.fetch_add(1, Ordering::Relaxed));
        let tree: Box<dyn Tree> = match self {
            Self::V2(base) => Box::new(V2::make(base, &name, limits)?),
            Self::V1(base) => Box::new(V1::make(base, &name, limits)?),
            Self::Plain => Box::new(Plain::new(&name)),
        };
        Ok((name, tree))
    }

    /// A new tree with a name of its own.
    pub(crate) fn named_tree(&self, name: &str, limits: &Limits) -> io::Result<Box<dyn Tree>> {
        Ok(match self {
            Self::V2(base) => Box::new(V2::make(base, name, limits)?),
            Self::V1(base) => Box::new(V1::make(base, name, limits)?),
            Self::Plain => Box::new(Plain::new(name)),
        })
    }

    /// A tree of this name that may be there.
    pub(crate) fn existing_tree(&self, name: &str) -> Box<dyn Tree> {
        match self {
            Self::V2(base) => Box::new(V2::existing(base.folder.join(name))),
            Self::V1(base) => Box::new(V1::existing(base, name)),
            Self::Plain => Box::new(Plain::new(name)),
        }
    }

    /// Trees that are there though `over` knows that their program has ended.
    fn lost(&self, over: impl Fn(&str) -> bool) -> Vec<Box<dyn Tree>> {
        match self {
            Self::V2(base) => {
                let names = cgroup::below(&base.folder)
                    .into_iter()
                    .filter(|name| over(name));
                names
                    .map(|name| Box::new(V2::existing(base.folder.join(name))) as Box<dyn Tree>)
                    .collect()
            }
            Self::V1(base) => {
                let names = base.trees().into_iter().filter(|name| over(name));
                names
                    .map(|name| Box::new(V1::existing(base, &name)) as Box<dyn Tree>)
                    .collect()
            }
            Self::Plain => Vec::new(),
        }
    }

    /// Ends what programs have left behind that are no more: one round. True when nothing was found.
    pub(crate) fn sweep(&self) -> bool {
        self.sweep_where(|name| Incarnation::of_tree(name).is_some_and(|whose| whose.is_over()))
    }

    /// Ends what one program has left behind: one round. True when nothing was found.
    pub(crate) fn sweep_of(&self, program: &Incarnation) -> bool {
        self.sweep_where(|name| Incarnation::of_tree(name).as_ref() == Some(program))
    }

    fn sweep_where(&self, over: impl Fn(&str) -> bool) -> bool {
        let lost = self.lost(&over);
        for tree in &lost {
            tree.kill();
            tree.remove();
        }
        // Their names are also in the environment of those that got out of the groups, or never were in one.
        plain::sweep(over) == 0 && lost.is_empty()
    }
}

/// Version 2 kills at one stroke; but what can limit is worth more.
fn choose(v2: Option<v2::Base>, v1: Option<v1::Base>) -> Ground {
    match (v2, v1) {
        (Some(v2), Some(v1)) if !v2.is_complete() && v1.memory.is_some() => Ground::V1(v1),
        (Some(v2), _) => Ground::V2(v2),
        (None, Some(v1)) => Ground::V1(v1),
        (None, None) => Ground::Plain,
    }
}
