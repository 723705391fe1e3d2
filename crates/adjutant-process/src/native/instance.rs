//! One running process with what is known of it; shared by its owner, its streams and the thread that watches.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::first::First;
use crate::{
    limits::{Disk, LimitKind, Limits, Seen, Watch},
    port::{ExitReason, Probe},
    procfs::Snapshot,
    tree::{Ground, Tree, Usage},
};

/// The signal for a file that has grown too large.
const SIGXFSZ: i32 = 25;

/// A process tree under its limits.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) tree: Box<dyn Tree>,
    first: First,
    limits: Limits,
    watch: Watch,
    started: Instant,
    /// When the last byte went in or out, in milliseconds from the start.
    active: AtomicU64,
    /// Bytes that have come out.
    output: AtomicU64,
    /// Its folder, when that may grow no more than so much.
    disk: Option<Mutex<Disk>>,
    /// The limit that it has gone over.
    over: OnceLock<LimitKind>,
}

impl Instance {
    pub(super) fn new(
        tree: Box<dyn Tree>,
        first: First,
        limits: Limits,
        disk: Option<Disk>,
        ground: &Ground,
    ) -> Self {
        Self {
            tree,
            first,
            watch: Watch::new(&limits, ground),
            limits,
            started: Instant::now(),
            active: AtomicU64::new(0),
            output: AtomicU64::new(0),
            disk: disk.map(Mutex::new),
            over: OnceLock::new(),
        }
    }

    /// The tree's first process.
    pub(super) const fn first(&self) -> &First {
        &self.first
    }

    /// Notes that a byte went in or out.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active.store(now, Ordering::Relaxed);
    }

    /// Takes in bytes that came out; false when they are too many.
    pub(crate) fn take_output(&self, bytes: usize) -> bool {
        self.touch();
        let before = self.output.fetch_add(bytes as u64, Ordering::Relaxed);
        let within = |limit: u64| before + bytes as u64 <= limit;
        if self
            .limits
            .output
            .is_none_or(|limit| within(limit.0 as u64))
        {
            return true;
        }
        self.end_for(LimitKind::Output);
        false
    }

    fn end_for(&self, kind: LimitKind) {
        if self.over.set(kind).is_ok() {
            tracing::debug!(limit = %kind, "a process is over a limit");
        }
        self.tree.kill();
    }

    /// Ends the tree if it is over a limit, and returns when to look again, from now.
    pub(crate) fn look(&self) -> Option<Duration> {
        let age = self.started.elapsed();
        let active = Duration::from_millis(self.active.load(Ordering::Relaxed));
        let samples = self.watch.samples();
        let seen = Seen {
            age,
            idle: age.saturating_sub(active),
            usage: if samples {
                self.tree.usage()
            } else {
                Usage::default()
            },
            disk: self.grown(),
            struck: self.watch.looks_for_strikes() && self.tree.struck() == Some(LimitKind::Memory),
        };
        if let Some(kind) = self.watch.verdict(&seen) {
            self.end_for(kind);
            return None;
        }
        self.watch.next_look(&seen)
    }

    /// Bytes by which its folder has grown, if that is limited.
    fn grown(&self) -> u64 {
        let disk = self.disk.as_ref().map(Mutex::lock);
        disk.map_or(0, |disk| {
            let mut disk = disk.unwrap_or_else(PoisonError::into_inner);
            disk.grown(Instant::now())
        })
    }

    /// How it ended, given the first process's status. To be called before the tree is removed.
    pub(crate) fn reason(&self, code: Option<i32>, signal: Option<i32>) -> ExitReason {
        if let Some(over) = self.over.get() {
            return over_limit(*over);
        }
        let clean = code == Some(0);
        if let Some(kind) = self.tree.struck().filter(|_| !clean) {
            return over_limit(kind);
        }
        match (code, signal) {
            (Some(code), _) => ExitReason::Exited(code),
            (None, Some(SIGXFSZ)) if self.limits.file_size.is_some() => {
                ExitReason::Limit(LimitKind::FileSize)
            }
            (None, signal) => ExitReason::Signal(signal.unwrap_or_default()),
        }
    }
}

impl Probe for Instance {
    fn members(&self, now: &Snapshot) -> Vec<i32> {
        self.tree.members_in(now)
    }

    fn cpu(&self) -> Option<Duration> {
        self.tree.cpu()
    }
}

const fn over_limit(kind: LimitKind) -> ExitReason {
    match kind {
        LimitKind::Memory => ExitReason::Oom,
        kind => ExitReason::Limit(kind),
    }
}
