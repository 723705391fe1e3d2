//! What an agent's processes may use.

mod disk;
mod rlimits;
mod watch;

use std::{fmt, num::NonZeroU64, time::Duration};

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    disk::Disk,
    rlimits::Rlimits,
    watch::{Seen, Watch},
};
use crate::units::{ByteSize, maybe_duration};

/// Limits of one agent's processes, all of them together where nothing else is said. What is absent is not limited,
/// but for `core`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Processor time per time, in processors: 0.5 is half of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Processes and threads; processes only where there are no cgroups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<NonZeroU64>,
    /// Open files of each process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<NonZeroU64>,
    /// Size of each file that is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<ByteSize>,
    /// Bytes by which the folder that it runs in may grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
    /// Size of each core dump. Default 0: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<ByteSize>,
    /// Bytes on stdout and stderr together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<ByteSize>,
    /// Time from start to end.
    #[serde(with = "maybe_duration", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Time without a byte read or written on stdin, stdout or stderr.
    #[serde(with = "maybe_duration", skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
}

/// One of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitKind {
    /// [`Limits::memory`].
    Memory,
    /// [`Limits::cpu`].
    Cpu,
    /// [`Limits::pids`].
    Pids,
    /// [`Limits::files`].
    Files,
    /// [`Limits::file_size`].
    FileSize,
    /// [`Limits::disk`].
    Disk,
    /// [`Limits::core`].
    Core,
    /// [`Limits::output`].
    Output,
    /// [`Limits::duration`].
    Duration,
    /// [`Limits::idle`].
    Idle,
}

impl LimitKind {
    /// All limits.
    pub const ALL: [Self; 10] = [
        Self::Memory,
        Self::Cpu,
        Self::Pids,
        Self::Files,
        Self::FileSize,
        Self::Disk,
        Self::Core,
        Self::Output,
        Self::Duration,
        Self::Idle,
    ];

    /// The limit's name in a manifest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Files => "files",
            Self::FileSize => "file_size",
            Self::Disk => "disk",
            Self::Core => "core",
            Self::Output => "output",
            Self::Duration => "duration",
            Self::Idle => "idle",
        }
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Less memory than this is not enough for any process to start in.
const LEAST_MEMORY: ByteSize = ByteSize(1 << 20);

impl Limits {
    /// Whether a limit is set.
    #[must_use]
    pub const fn has(&self, kind: LimitKind) -> bool {
        match kind {
            LimitKind::Memory => self.memory.is_some(),
            LimitKind::Cpu => self.cpu.is_some(),
            LimitKind::Pids => self.pids.is_some(),
            LimitKind::Files => self.files.is_some(),
            LimitKind::FileSize => self.file_size.is_some(),
            LimitKind::Disk => self.disk.is_some(),
            LimitKind::Core => self.core.is_some(),
            LimitKind::Output => self.output.is_some(),
            LimitKind::Duration => self.duration.is_some(),
            LimitKind::Idle => self.idle.is_some(),
        }
    }

    /// The limit as a manifest has it, for messages.
    pub(crate) fn shown(&self, kind: LimitKind) -> String {
        let size = |size: Option<ByteSize>| size.map(|size| size.to_string());
        let time = |time: Option<Duration>| time.map(|time| format!("{time:?}"));
        let shown = match kind {
            LimitKind::Memory => size(self.memory),
            LimitKind::Cpu => self.cpu.map(|cpu| cpu.to_string()),
            LimitKind::Pids => self.pids.map(|pids| pids.to_string()),
            LimitKind::Files => self.files.map(|files| files.to_string()),
            LimitKind::FileSize => size(self.file_size),
            LimitKind::Disk => size(self.disk),
            LimitKind::Core => size(self.core),
            LimitKind::Output => size(self.output),
            LimitKind::Duration => time(self.duration),
            LimitKind::Idle => time(self.idle),
        };
        shown.unwrap_or_default()
    }

    /// Names what cannot be right, by field.
    pub(crate) fn check(&self, need: &mut impl FnMut(bool, &'static str, &str)) {
        need(
            self.memory.is_none_or(|memory| memory >= LEAST_MEMORY),
            "limits.memory",
            "must be at least 1MiB",
        );
        need(
            self.cpu.is_none_or(|cpu| (0.01..=1024.0).contains(&cpu)),
            "limits.cpu",
            "is a number of processors from 0.01 to 1024",
        );
        need(
            self.files.is_none_or(|files| files.get() >= 8),
            "limits.files",
            "must be at least 8",
        );
        let positive = "must be longer than 0";
        need(
            self.duration.is_none_or(|time| !time.is_zero()),
            "limits.duration",
            positive,
        );
        need(
            self.idle.is_none_or(|time| !time.is_zero()),
            "limits.idle",
            positive,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_the_name_of_its_field() {
        let fields = serde_json::json!({
            "memory": "1MiB", "cpu": 1, "pids": 1, "files": 9, "file_size": 1, "disk": 1, "core": 1, "output": 1,
            "duration": "1s", "idle": "1s",
        });
        let limits: Limits = serde_json::from_value(fields.clone()).unwrap();
        for kind in LimitKind::ALL {
            assert!(limits.has(kind) && !limits.shown(kind).is_empty(), "{kind}");
            assert!(fields.get(kind.as_str()).is_some(), "{kind}");
            assert!(!Limits::default().has(kind));
        }
    }
}
