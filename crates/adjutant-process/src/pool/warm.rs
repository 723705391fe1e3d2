//! The processes of one agent that outlive their runs.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use adjutant_core::AgentError;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
};

use super::plan::{Plan, PoolConfig, Taken};
use crate::{agent::Template, wire::Peer};

/// Where an idle process is: in a task that looks after it.
struct Place {
    number: u64,
    /// Tells the task that the process is wanted.
    recall: oneshot::Sender<()>,
    back: oneshot::Receiver<Peer>,
}

/// What all tasks of a pool share.
struct Shared {
    template: Arc<Template>,
    plan: Mutex<Plan<Place>>,
    began: Instant,
    places: AtomicU64,
    /// There may be something for a run that waits.
    freed: Notify,
    /// There may be something to start or to end.
    changed: Notify,
}

/// Keeps processes between runs. Must be made within a runtime; ends with all idle processes when dropped.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    tending: JoinHandle<()>,
}

impl Pool {
    pub(crate) fn start(template: Arc<Template>, config: PoolConfig) -> Self {
        let shared = Arc::new(Shared {
            template,
            plan: Mutex::new(Plan::new(config)),
            began: Instant::now(),
            places: AtomicU64::new(0),
            freed: Notify::new(),
            changed: Notify::new(),
        });
        let tending = tokio::spawn(tend(Arc::clone(&shared)));
        Self { shared, tending }
    }

    /// A process for one run: a warm one, else a new one, else the first that comes free.
    ///
    /// # Errors
    /// When a new one cannot be started.
    pub(crate) async fn take(&self) -> Result<Loan, AgentError> {
        let mut wait = Wait {
            shared: &self.shared,
            flag: false,
        };
        loop {
            // Listens before it looks, so that nothing is missed in between.
            let mut freed = std::pin::pin!(self.shared.freed.notified());
            freed.as_mut().enable();
            let taken = {
                let now = self.shared.now();
                self.shared.plan().take(&mut wait.flag, now)
            };
            match taken {
                Taken::Nothing => freed.await,
                Taken::Room => {
                    let mut loan = self.loan(self.shared.now());
                    loan.peer = Some(self.shared.template.start().await?);
                    return Ok(loan);
                }
                Taken::Warm(place, born) => {
                    let mut loan = self.loan(born);
                    // One that has just ended is not there any more; its loan is given back.
                    let _ = place.recall.send(());
                    loan.peer = place.back.await.ok();
                    if loan.peer.is_some() {
                        return Ok(loan);
                    }
                }
            }
        }
    }

    fn loan(&self, born: Duration) -> Loan {
        // A process less may be idle now.
        self.shared.changed.notify_one();
        Loan {
            shared: Arc::clone(&self.shared),
            peer: None,
            born,
        }
    }

    /// Idle and busy processes.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let plan = self.shared.plan();
        (plan.idle_count(), plan.busy_count())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.tending.abort();
        drop(self.shared.plan().drain());
    }
}

/// A run that may be counted as one that waits, until it is dropped.
struct Wait<'a> {
    shared: &'a Shared,
    flag: bool,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.shared.plan().give_up(self.flag);
    }
}

/// A process that a run has. Dropped without [`Loan::give_back`], its room is free for another one.
pub(crate) struct Loan {
    shared: Arc<Shared>,
    peer: Option<Peer>,
    born: Duration,
}

impl Loan {
    /// The process; there is one until this is called.
    pub(crate) fn peer(&mut self) -> Option<Peer> {
        self.peer.take()
    }

    /// Whether the process may take another run after one more.
    pub(crate) fn keeps(&self, runs: u32) -> bool {
        let plan = self.shared.plan();
        plan.keeps(self.born, runs, self.shared.now())
    }

    /// Keeps the process for the next run.
    pub(crate) fn give_back(self, peer: Peer) {
        let (shared, born) = (Arc::clone(&self.shared), self.born);
        // Frees its room first, for an idle process takes up the same.
        drop(self);
        shared.shelve(peer, born);
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        drop(self.peer.take());
        self.shared.plan().free();
        self.shared.freed.notify_one();
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan<Place>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Puts a process where the next run finds it.
    fn shelve(self: &Arc<Self>, peer: Peer, born: Duration) {
        let (recall, recalled) = oneshot::channel();
        let (hand, back) = oneshot::channel();
        let number = self.places.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            number,
            recall,
            back,
        };
        tokio::spawn(look_after(
            peer,
            recalled,
            hand,
            number,
            Arc::downgrade(self),
        ));
        let now = self.now();
        self.plan().put(place, born, now);
        self.freed.notify_one();
        self.changed.notify_one();
    }
}

/// Keeps an eye on an idle process until it is wanted, or nobody can want it any more.
async fn look_after(
    mut peer: Peer,
    recalled: oneshot::Receiver<()>,
    hand: oneshot::Sender<Peer>,
    number: u64,
    shared: Weak<Shared>,
) {
    let template = shared.upgrade().map(|shared| Arc::clone(&shared.template));
    let Some(manifest) = template.as_ref().map(|template| &template.manifest) else {
        return;
    };
    let wanted = async {
        // An error means that its place was given up.
        let _ = recalled.await;
    };
    let rested = peer.rest(manifest.heartbeat, wanted).await;
    let Err(unfit) = rested else {
        if let Err(peer) = hand.send(peer) {
            peer.leave(manifest.stop_grace).await;
        }
        return;
    };
    tracing::debug!(instance = %peer.name, "no longer kept: {}", unfit.as_str());
    drop(peer);
    if let Some(shared) = shared.upgrade() {
        shared.plan().lost(|place| place.number == number);
        shared.freed.notify_one();
        shared.changed.notify_one();
    }
}

/// Ends what is old and starts what is missing, for as long as the pool lives.
async fn tend(shared: Arc<Shared>) {
    loop {
        let wake = {
            let mut plan = shared.plan();
            let now = shared.now();
            // Dropped, a place tells its task to let the process go.
            drop(plan.retire(now));
            for _ in 0..plan.warm_up(now) {
                tokio::spawn(start_ahead(Arc::downgrade(&shared)));
            }
            plan.next_wake(now).map(|at| at.saturating_sub(now))
        };
        let changed = shared.changed.notified();
        match wake {
            Some(wake) => {
                let _ = tokio::time::timeout(wake, changed).await;
            }
            None => changed.await,
        }
    }
}

/// Starts one process that no run has asked for yet.
async fn start_ahead(shared: Weak<Shared>) {
    let Some(template) = shared.upgrade().map(|shared| Arc::clone(&shared.template)) else {
        return;
    };
    let started = async {
        let mut peer = template.start().await?;
        peer.warm_up(&template.manifest).await?;
        Ok::<Peer, AgentError>(peer)
    };
    let started = started.await;
    let Some(shared) = shared.upgrade() else {
        return;
    };
    let now = shared.now();
    shared.plan().warmed(started.is_ok(), now);
    match started {
        Ok(peer) => shared.shelve(peer, now),
        Err(error) => {
            let agent = &template.manifest.name;
            tracing::warn!(%agent, error = %error.info().message, "a process could not be started ahead");
            shared.freed.notify_one();
            shared.changed.notify_one();
        }
    }
}
