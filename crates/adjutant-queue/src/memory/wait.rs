//! The contract's calls over a shared core, with their waits: looking and registering happen under one
//! lock, and the clock is read again after every wake-up.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Poll, Waker},
    time::Duration,
};

use adjutant_core::{Clock, Error, Result, RunId};
use tokio::time::{Instant, timeout};

use super::core::{QueueCore, RunLog};
use crate::{ClaimRequest, Claimed, RunView, Swept};

/// A queue core behind a lock, with its clock and its log.
pub trait Shared: Send + Sync {
    /// Runs `f` under the lock; what it leaves to do is done after the lock is released. Whoever needs
    /// the time reads the clock there, so that times follow the order of the changes.
    ///
    /// # Errors
    /// `Closed`.
    fn enter<R>(
        &self,
        f: impl FnOnce(&mut QueueCore, &mut dyn RunLog, &dyn Clock) -> R,
    ) -> Result<R>;
}

/// A registered wait, taken out again when it is dropped.
struct Ticket<'a, S: Shared, F: Fn(&mut QueueCore)> {
    shared: &'a S,
    leave: Option<F>,
}

impl<S: Shared, F: Fn(&mut QueueCore)> Drop for Ticket<'_, S, F> {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            // A closed queue has no waiters any more.
            let _closed = self.shared.enter(|core, _, _| leave(core));
        }
    }
}

/// [`RunQueue::claim`](crate::RunQueue::claim) over a shared core.
///
/// # Errors
/// `Closed`.
pub async fn claim<S: Shared>(shared: &S, request: ClaimRequest) -> Result<Vec<Claimed>> {
    let at_once = shared.enter(|core, log, clock| core.claim(&request, clock.now(), log))??;
    if !at_once.is_empty() || request.wait.is_zero() || request.capacity == 0 {
        return Ok(at_once);
    }
    // The token outlives the future, which may be dropped while a wake-up is on its way to it: then
    // that wake-up belongs to somebody else.
    let token = AtomicU64::new(0);
    let mut ticket = Ticket {
        shared,
        leave: Some(|core: &mut QueueCore| core.leave_claim(token.load(Relaxed))),
    };
    let claimed = waiting(request.wait, |waker| {
        shared.enter(|core, log, clock| {
            let claimed = core.claim(&request, clock.now(), log)?;
            if claimed.is_empty() {
                let mut known = token.load(Relaxed);
                core.waiters
                    .park_claimer(&mut known, &request.agents, waker);
                token.store(known, Relaxed);
                return Ok(None);
            }
            Ok(Some(claimed))
        })?
    })
    .await?;
    if claimed.is_some() {
        ticket.leave = None;
    }
    Ok(claimed.unwrap_or_default())
}

/// [`RunQueue::sweep`](crate::RunQueue::sweep) over a shared core.
///
/// # Errors
/// `Closed`.
pub async fn sweep<S: Shared>(shared: &S, limit: usize, wait: Duration) -> Result<Swept> {
    let started = Instant::now();
    let token = AtomicU64::new(0);
    let _ticket = Ticket {
        shared,
        leave: Some(|core: &mut QueueCore| core.waiters.leave_sweeper(token.load(Relaxed))),
    };
    loop {
        let left = wait.saturating_sub(started.elapsed());
        let (swept, now) = poll_fn(|cx| {
            Poll::Ready(shared.enter(|core, log, clock| {
                let now = clock.now();
                let swept = core.sweep(limit, now, log)?;
                if swept.is_idle() && !left.is_zero() {
                    let mut known = token.load(Relaxed);
                    core.waiters
                        .park_sweeper(&mut known, swept.next_due, cx.waker());
                    token.store(known, Relaxed);
                }
                Ok((swept, now))
            }))
        })
        .await??;
        if !swept.is_idle() || left.is_zero() {
            return Ok(swept);
        }
        let nap = swept.next_due.map_or(left, |due| due.since(now).min(left));
        woken_or_after(nap).await;
    }
}

/// [`RunLookup::settled`](crate::RunLookup::settled) over a shared core.
///
/// # Errors
/// `RunNotFound`, `Closed`.
pub async fn settled<S: Shared>(shared: &S, run: RunId, wait: Duration) -> Result<RunView> {
    // Boxed, because a view is large and every wait would have room for several of them.
    let look = shared.enter(|core, _, _| {
        let entry = core.runs.get(&run).ok_or(Error::RunNotFound(run))?;
        if entry.record.state.is_settled() || wait.is_zero() {
            return Ok(Err(Box::new(entry.view())));
        }
        Ok(Ok(core.waiters.park_settled(run)))
    })??;
    let (token, end) = match look {
        Ok(registered) => registered,
        Err(view) => return Ok(*view),
    };
    let mut ticket = Ticket {
        shared,
        leave: Some(|core: &mut QueueCore| core.waiters.leave_settled(run, token)),
    };
    if let Ok(Ok(view)) = timeout(wait, end).await {
        ticket.leave = None;
        return Ok(*view);
    }
    // Time is over, or the run was taken away: then say how it stands.
    shared
        .enter(|core, _, _| core.view(run))?
        .ok_or(Error::RunNotFound(run))
}

/// Polls `look` whenever its waker is called, until it finds something or `wait` is over.
async fn waiting<T>(
    wait: Duration,
    mut look: impl FnMut(&Waker) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let looking = poll_fn(|cx| match look(cx.waker()) {
        Ok(None) => Poll::Pending,
        Ok(Some(found)) => Poll::Ready(Ok(Some(found))),
        Err(error) => Poll::Ready(Err(error)),
    });
    timeout(wait, looking).await.unwrap_or(Ok(None))
}

/// Returns when the task is polled again, which a registered waker brings about, or after `nap`.
async fn woken_or_after(nap: Duration) {
    let mut polled = false;
    let woken = poll_fn(|_| match std::mem::replace(&mut polled, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    // Both ends mean the same: look again.
    let _elapsed = timeout(nap, woken).await;
}
