//! What this machine lets us do with processes, for people to read before they rely on it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    limits::LimitKind,
    native::NativeOptions,
    tree::Ground,
};

/// How a process tree is owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ownership {
    /// By a control group, version 2.
    CgroupV2,
    /// By control groups, version 1.
    CgroupV1,
    /// By looking through the machine's processes; used where control groups are not there or not ours to write.
    Processes,
}

/// What holds a process to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Enforcement {
    /// The kernel, for the whole tree.
    Cgroup,
    /// The kernel, for each process.
    Rlimit,
    /// The runtime, which sees every byte and the clock.
    Runtime,
    /// The runtime, which looks now and then (at memory and processes twenty times a second, at folders once) and ends the
    /// tree; a short burst may go over the limit, and what multiplies fast may do harm before it is seen.
    Sampled,
    /// Nothing: an agent with this limit is refused.
    None,
}

/// How processes are owned and limited here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// How trees are owned.
    pub ownership: Ownership,
    /// Whether processes are started by a helper, which can confine itself first and outlives the runtime. Without, what
    /// leaves its process group may survive a runtime that is killed.
    pub helper: bool,
    /// What enforces each limit.
    pub limits: Vec<(LimitKind, Enforcement)>,
}

impl Capabilities {
    /// What [`NativeProcesses`](crate::NativeProcesses) with these options could do here. Only looks: nothing is started.
    ///
    /// # Errors
    /// When the wanted kind of ownership is not to be had.
    pub fn look(options: &NativeOptions) -> Result<Self> {
        let ground = Ground::find(options.ownership).ok_or(Error::NoOwnership {
            ownership: options.ownership.unwrap_or(Ownership::Processes),
        })?;
        Ok(Self::of(&ground, options.helper.is_some()))
    }

    pub(crate) fn of(ground: &Ground, helper: bool) -> Self {
        let enforced = |kind| (kind, ground.enforcement(kind));
        Self {
            ownership: ground.ownership(),
            helper,
            limits: LimitKind::ALL.into_iter().map(enforced).collect(),
        }
    }

    /// What enforces a limit.
    #[must_use]
    pub fn enforcement(&self, kind: LimitKind) -> Enforcement {
        let found = self.limits.iter().find(|(known, _)| *known == kind);
        found.map_or(Enforcement::None, |(_, enforcement)| *enforcement)
    }
}

impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CgroupV2 => "control groups (v2)",
            Self::CgroupV1 => "control groups (v1)",
            Self::Processes => "process list",
        })
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroup => "kernel, whole tree",
            Self::Rlimit => "kernel, each process",
            Self::Runtime => "runtime, exact",
            Self::Sampled => "runtime, sampled",
            Self::None => "not enforced; refused",
        })
    }
}

/// One line for ownership and one for each limit.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let helper = if self.helper { "with" } else { "without" };
        write!(
            f,
            "processes are owned by {}, {helper} a helper",
            self.ownership
        )?;
        for (kind, enforcement) in &self.limits {
            write!(f, "\n{kind}: {enforcement}")?;
        }
        Ok(())
    }
}
