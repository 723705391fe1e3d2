//! Who waits for what. A waiter registers before it looks, so no wake-up can fall between the two.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst},
};

use adjutant_core::{IdMap, RunId, Timestamp};
use tokio::sync::Notify;

use crate::recent::Recent;

/// What can be waited for of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    /// It is settled.
    Settled = 0,
    /// It has another event.
    Changed = 1,
}

#[derive(Debug, Default)]
struct Entry {
    notify: Arc<Notify>,
    waiters: usize,
}

/// All waiters of one store in this process, but for claims: those wait in the writer.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    topics: [Mutex<IdMap<RunId, Entry>>; 2],
    waiting: AtomicUsize,
    /// Tells the writer that somebody has begun to wait.
    pub first: Notify,
    /// Tells the writer that another process has made runs ready.
    pub ready: Notify,
    /// It has, since the writer looked last.
    pub more_ready: AtomicBool,
    due: Notify,
    /// What need not be looked up.
    pub recent: Recent,
    /// The earliest time at which a waiting sweeper looks by itself.
    sweeps_at: AtomicI64,
}

/// For what an engine hears of other processes' writes.
#[derive(Debug, Clone)]
pub struct WakeUps(pub(crate) Arc<Hub>);

impl WakeUps {
    /// Runs have become ready.
    pub fn ready(&self) {
        self.0.more_ready.store(true, SeqCst);
        self.0.ready.notify_one();
    }

    /// These runs are settled.
    pub fn settled(&self, runs: &[RunId]) {
        self.0.recent.forget(runs);
        self.0.wake(Topic::Settled, runs);
    }

    /// These runs have new events.
    pub fn changed(&self, runs: &[RunId]) {
        self.0.wake(Topic::Changed, runs);
    }

    /// Something is due at this time.
    pub fn due(&self, at: Timestamp) {
        self.0.wake_due(at);
    }

    /// Anything may have happened.
    pub fn everything(&self) {
        self.ready();
        self.0.recent.clear();
        self.0.wake_all();
    }
}

/// A registered wait; dropping it ends it.
pub(crate) struct Ticket<'a> {
    hub: &'a Hub,
    place: Option<(Topic, RunId)>,
    pub notify: Arc<Notify>,
}

/// Somebody who sleeps until something is due.
pub(crate) struct Sweeper<'a> {
    hub: &'a Hub,
    _ticket: Ticket<'a>,
}

impl Sweeper<'_> {
    /// Called when something is due earlier than the sleeper looks.
    pub(crate) fn notify(&self) -> &Notify {
        &self.hub.due
    }

    /// It is going to look by itself at this time.
    pub(crate) fn sleeps_until(&self, at: Timestamp) {
        self.hub.sweeps_at.store(at.as_micros(), SeqCst);
    }
}

impl Drop for Sweeper<'_> {
    fn drop(&mut self) {
        // Others may have relied on this one to look first.
        self.sleeps_until(Timestamp::MAX);
        self.hub.due.notify_waiters();
    }
}

impl Hub {
    /// Begins to wait.
    pub(crate) fn register(&self, topic: Topic, run: RunId) -> Ticket<'_> {
        let mut entries = self.entries(topic);
        let entry = entries.entry(run).or_default();
        entry.waiters += 1;
        let notify = Arc::clone(&entry.notify);
        drop(entries);
        self.count_in();
        Ticket {
            hub: self,
            place: Some((topic, run)),
            notify,
        }
    }

    /// Notes that somebody waits for something that the topics do not cover.
    fn watch(&self) -> Ticket<'_> {
        self.count_in();
        Ticket {
            hub: self,
            place: None,
            notify: Arc::default(),
        }
    }

    /// Begins to wait for something to become due.
    pub(crate) fn sweeper(&self) -> Sweeper<'_> {
        Sweeper {
            hub: self,
            _ticket: self.watch(),
        }
    }

    fn count_in(&self) {
        if self.waiting.fetch_add(1, SeqCst) == 0 {
            self.first.notify_one();
        }
    }

    /// Whether anybody waits.
    pub(crate) fn is_watched(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Wakes those who wait for one of these runs.
    pub(crate) fn wake(&self, topic: Topic, runs: &[RunId]) {
        if runs.is_empty() {
            return;
        }
        let entries = self.entries(topic);
        if entries.is_empty() {
            return;
        }
        for run in runs {
            if let Some(entry) = entries.get(run) {
                entry.notify.notify_waiters();
            }
        }
    }

    /// Something is due at this time.
    pub(crate) fn wake_due(&self, at: Timestamp) {
        if at.as_micros() < self.sweeps_at.load(SeqCst) {
            self.due.notify_waiters();
        }
    }

    /// Wakes everybody: the file has changed in ways that are not known here, or the store closes.
    pub(crate) fn wake_all(&self) {
        for topic in [Topic::Settled, Topic::Changed] {
            for entry in self.entries(topic).values() {
                entry.notify.notify_waiters();
            }
        }
        self.due.notify_waiters();
    }

    fn entries(&self, topic: Topic) -> std::sync::MutexGuard<'_, IdMap<RunId, Entry>> {
        // No panic can leave the map half changed.
        self.topics[topic as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.hub.waiting.fetch_sub(1, SeqCst);
        let Some((topic, run)) = self.place else {
            return;
        };
        let mut entries = self.hub.entries(topic);
        if let Some(entry) = entries.get_mut(&run) {
            entry.waiters -= 1;
            if entry.waiters == 0 {
                entries.remove(&run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_wake_up_between_registering_and_waiting_is_not_lost() {
        let (hub, run) = (Hub::default(), RunId::new());
        let ticket = hub.register(Topic::Changed, run);
        let mut woken = std::pin::pin!(ticket.notify.notified());
        woken.as_mut().enable();
        hub.wake(Topic::Changed, &[run]);
        timeout(Duration::from_secs(20), woken).await.unwrap();
    }

    #[tokio::test]
    async fn a_wait_that_ends_leaves_nothing_behind() {
        let (hub, run) = (Hub::default(), RunId::new());
        let one = hub.register(Topic::Settled, run);
        let other = hub.register(Topic::Settled, run);
        drop(one);
        assert!(hub.is_watched());
        drop(other);
        drop(hub.sweeper());
        assert!(!hub.is_watched());
        assert!(hub.entries(Topic::Settled).is_empty());
    }

    #[tokio::test]
    async fn only_what_is_due_earlier_wakes_a_sweeper() {
        let hub = Hub::default();
        let sweeper = hub.sweeper();
        let mut woken = std::pin::pin!(sweeper.notify().notified());
        woken.as_mut().enable();
        sweeper.sleeps_until(Timestamp::from_micros(100));
        hub.wake_due(Timestamp::from_micros(100));
        assert!(futures_now(woken.as_mut()).is_none());
        hub.wake_due(Timestamp::from_micros(99));
        assert!(futures_now(woken).is_some());
    }

    /// What the future has now.
    fn futures_now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }
}
