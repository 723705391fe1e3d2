//! Waiting for a log to grow: looking and registering happen under one lock.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use adjutant_core::{Result, RunId};
use tokio::time::timeout;

use super::core::EventCore;

/// An event core behind a lock.
pub trait Shared: Send + Sync {
    /// Runs `f` under the lock.
    ///
    /// # Errors
    /// `Closed`.
    fn events<R>(&self, f: impl FnOnce(&mut EventCore) -> R) -> Result<R>;
}

struct Ticket<'a, S: Shared> {
    shared: &'a S,
    run: RunId,
    token: AtomicU64,
}

impl<S: Shared> Drop for Ticket<'_, S> {
    fn drop(&mut self) {
        let (run, token) = (self.run, *self.token.get_mut());
        if token != 0 {
            // A closed bus has no watchers any more.
            let _closed = self.shared.events(|core| core.unwatch(run, token));
        }
    }
}

/// [`EventBus::changed`](crate::EventBus::changed) over a shared core.
///
/// # Errors
/// `Closed`.
pub async fn changed<S: Shared>(shared: &S, run: RunId, after: u64, wait: Duration) -> Result<()> {
    if wait.is_zero() || shared.events(|core| core.last(run) > after)? {
        return Ok(());
    }
    let ticket = Ticket {
        shared,
        run,
        token: AtomicU64::new(0),
    };
    let grown = poll_fn(|cx| {
        let grown = shared.events(|core| {
            let mut token = ticket.token.load(Relaxed);
            let grown = core.last(run) > after || !core.watch(run, &mut token, cx.waker());
            ticket.token.store(token, Relaxed);
            grown
        });
        match grown {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    });
    timeout(wait, grown).await.unwrap_or(Ok(()))
}
