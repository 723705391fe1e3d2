//! Who waits for what. Registered under the same lock as the look that found nothing, so that no
//! wake-up can fall between the two, and taken out again when the wait ends, however it ends.

use std::{collections::BTreeMap, task::Waker};

use adjutant_core::{AgentKey, IdMap, RunId, Timestamp};
use tokio::sync::oneshot;

use crate::{AgentFilter, RunView};

/// A waiter's number; 0 before it is registered.
pub type Token = u64;

/// Where the waiter for a run's end gets it.
type Answer = oneshot::Sender<Box<RunView>>;

/// Calls to make once the lock is released: to wake under it would only make the woken wait again.
#[derive(Debug, Default)]
pub struct Wakes {
    tasks: Vec<Waker>,
    views: Vec<(Answer, Box<RunView>)>,
}

impl Wakes {
    /// Makes the calls.
    pub fn fire(self) {
        for task in self.tasks {
            task.wake();
        }
        for (waiter, view) in self.views {
            // A waiter that has gone needs no answer.
            let _gone = waiter.send(view);
        }
    }
}

/// The waiters of one queue.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    next: Token,
    claimers: BTreeMap<Token, (AgentFilter, Waker)>,
    sweepers: BTreeMap<Token, (Option<Timestamp>, Waker)>,
    settled: IdMap<RunId, Vec<(Token, Answer)>>,
    pub(super) wakes: Wakes,
}

impl Waiters {
    fn token(&mut self, token: &mut Token) -> Token {
        if *token == 0 {
            self.next += 1;
            *token = self.next;
        }
        *token
    }

    pub(super) fn park_claimer(&mut self, token: &mut Token, agents: &AgentFilter, waker: &Waker) {
        let token = self.token(token);
        if let Some((_, known)) = self.claimers.get_mut(&token) {
            known.clone_from(waker);
            return;
        }
        self.claimers.insert(token, (agents.clone(), waker.clone()));
    }

    pub(super) fn park_sweeper(
        &mut self,
        token: &mut Token,
        until: Option<Timestamp>,
        waker: &Waker,
    ) {
        let token = self.token(token);
        self.sweepers.insert(token, (until, waker.clone()));
    }

    pub(super) fn park_settled(&mut self, run: RunId) -> (Token, oneshot::Receiver<Box<RunView>>) {
        let token = self.token(&mut 0);
        let (sender, receiver) = oneshot::channel();
        self.settled.entry(run).or_default().push((token, sender));
        (token, receiver)
    }

    /// A run of this agent became ready: one claimer that takes such runs is enough.
    pub(super) fn ready(&mut self, agent: &AgentKey) {
        let takes = |filter: &AgentFilter| match filter {
            AgentFilter::Any => true,
            AgentFilter::Only(agents) => agents.contains(agent),
        };
        let found = self.claimers.iter().find(|(_, (filter, _))| takes(filter));
        if let Some(token) = found.map(|(token, _)| *token)
            && let Some((_, waker)) = self.claimers.remove(&token)
        {
            self.wakes.tasks.push(waker);
        }
    }

    /// Something is due at `at`: whoever sleeps longer than that has to look again.
    pub(super) fn due(&mut self, at: Timestamp) {
        if self
            .sweepers
            .values()
            .all(|(until, _)| until.is_some_and(|until| until <= at))
        {
            return;
        }
        for (_, waker) in std::mem::take(&mut self.sweepers).into_values() {
            self.wakes.tasks.push(waker);
        }
    }

    /// The run is settled: `view` is what its waiters get. They get it here and now because the run may
    /// be forgotten before they look.
    pub(super) fn settled(&mut self, run: RunId, view: impl Fn() -> RunView) {
        if self.settled.is_empty() {
            return;
        }
        for (_, waiter) in self.settled.remove(&run).into_iter().flatten() {
            self.wakes.views.push((waiter, Box::new(view())));
        }
    }

    pub(super) fn has_claimers(&self) -> bool {
        !self.claimers.is_empty()
    }

    /// Ends a claimer's wait. False when it had been woken already.
    pub(super) fn leave_claimer(&mut self, token: Token) -> bool {
        self.claimers.remove(&token).is_some()
    }

    /// Wakes one claimer for which `has_work` says that there is something to do.
    pub(super) fn pass_on(&mut self, has_work: impl Fn(&AgentFilter) -> bool) {
        let found = self
            .claimers
            .iter()
            .find(|(_, (filter, _))| has_work(filter));
        if let Some(token) = found.map(|(token, _)| *token)
            && let Some((_, waker)) = self.claimers.remove(&token)
        {
            self.wakes.tasks.push(waker);
        }
    }

    pub(super) fn leave_sweeper(&mut self, token: Token) {
        self.sweepers.remove(&token);
    }

    pub(super) fn leave_settled(&mut self, run: RunId, token: Token) {
        if let Some(waiters) = self.settled.get_mut(&run) {
            waiters.retain(|(known, _)| *known != token);
            if waiters.is_empty() {
                self.settled.remove(&run);
            }
        }
    }

    /// Wakes everybody: the queue closes.
    pub(super) fn all(&mut self) {
        let claimers = std::mem::take(&mut self.claimers).into_values();
        self.wakes.tasks.extend(claimers.map(|(_, waker)| waker));
        let sweepers = std::mem::take(&mut self.sweepers).into_values();
        self.wakes.tasks.extend(sweepers.map(|(_, waker)| waker));
        self.settled.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.claimers.len() + self.sweepers.len() + self.settled.len()
    }
}
