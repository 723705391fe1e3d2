//! What the outside wants of a running attempt, as flags that can be waited for.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU8, Ordering},
};

use tokio::sync::{Notify, futures::Notified};

/// Flags of one attempt.
#[derive(Debug, Default)]
pub(crate) struct Control {
    flags: AtomicU8,
    reason: Mutex<Option<String>>,
    changed: Notify,
}

/// Somebody wants the run cancelled.
pub(crate) const CANCEL: u8 = 1;
/// Somebody wants the run paused.
pub(crate) const PAUSE: u8 = 2;
/// The lease is lost.
pub(crate) const LOST: u8 = 4;
/// The worker has to let go of the run.
pub(crate) const DRAIN: u8 = 8;

impl Control {
    pub(crate) fn set(&self, flag: u8) {
        if self.flags.fetch_or(flag, Ordering::AcqRel) & flag == 0 {
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn cancel(&self, reason: &str) {
        let mut slot = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert_with(|| reason.to_owned());
        drop(slot);
        self.set(CANCEL);
    }

    pub(crate) fn cancel_reason(&self) -> String {
        let slot = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        slot.clone().unwrap_or_default()
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    /// Wakes whoever waits, to look again.
    pub(crate) fn nudge(&self) {
        self.changed.notify_waiters();
    }

    /// Completes after the next change; enable it before looking, so that no change is missed.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Returns once `flag` is set.
    pub(crate) async fn wait_for(&self, flag: u8) {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.has(flag) {
                return;
            }
            changed.await;
        }
    }
}
