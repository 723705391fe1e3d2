//! The one writer: takes what has queued up, carries it all out in one transaction with one sync, and
//! answers when that is durable.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};

use adjutant_core::{Error, Result};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    batch::Rules,
    cache::Cache,
    changes::Outcome,
    reply::again,
    request::{Claim, Request},
    round::Round,
    storage::{Failure, Storage},
    store::Counters,
    wake::{Hub, Topic},
};

/// Requests that may wait for the writer; more callers wait until there is room.
pub(crate) const QUEUE: usize = 1024;

/// The most requests that share one transaction, so that nobody waits for too many others.
const GROUP: usize = 256;

/// How often a group is tried again that met another process's transaction, with pauses between.
const TRIES: u32 = 12;

/// The pause before the first of them; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_micros(200);

pub(crate) struct Writer<S> {
    pub storage: S,
    pub requests: mpsc::Receiver<Request>,
    /// For what the writer asks of itself.
    pub own: mpsc::WeakSender<Request>,
    pub hub: Arc<Hub>,
    pub counters: Arc<Counters>,
    pub rules: Rules,
    pub cache: Cache,
    pub parked: VecDeque<Claim>,
}

impl<S: Storage> Writer<S> {
    /// Works until everybody has gone or the store is closed.
    pub(crate) async fn run(mut self) {
        let mut group = Vec::new();
        let closed = loop {
            let next = self.next().await;
            match next {
                Next::Gone => break None,
                Next::LookAround => {
                    self.look_around().await;
                    continue;
                }
                Next::Ready => {
                    self.cache.refill();
                    self.commit(Vec::new()).await;
                    continue;
                }
                Next::Request(request) => group.push(request),
            }
            while group.len() < GROUP
                && let Ok(request) = self.requests.try_recv()
            {
                group.push(request);
            }
            let close = group
                .iter()
                .position(|request| matches!(request, Request::Close(_)));
            let rest = close.map(|at| group.split_off(at));
            self.commit(std::mem::take(&mut group)).await;
            if let Some(rest) = rest {
                break Some(rest);
            }
        };
        self.requests.close();
        let mut rest = closed.unwrap_or_default();
        // Also those that are just being put in.
        while let Some(request) = self.requests.recv().await {
            rest.push(request);
        }
        for claim in self.parked.drain(..) {
            let _gone = claim.reply.send(Err(Error::Closed));
        }
        self.hub.recent.clear();
        self.hub.wake_all();
        self.storage.close().await;
        for request in rest {
            match request {
                Request::Close(done) => {
                    let _gone = done.send(Ok(()));
                }
                other => other.refuse(&Error::Closed),
            }
        }
    }

    async fn next(&mut self) -> Next {
        let deadline = self.parked.iter().map(|claim| claim.until).min();
        let watched = self.hub.is_watched() || !self.parked.is_empty();
        let look = Instant::now() + S::LOOK_AROUND;
        let at = deadline.map_or(look, |deadline| deadline.min(look));
        tokio::select! {
            biased;
            request = self.requests.recv() => request.map_or(Next::Gone, Next::Request),
            () = self.hub.ready.notified(), if !self.parked.is_empty() => Next::Ready,
            () = sleep_until(at), if watched => Next::LookAround,
            () = self.hub.first.notified(), if !watched => Next::LookAround,
        }
    }

    /// Lets claims go whose time is over, and finds out whether another process has written.
    async fn look_around(&mut self) {
        let now = Instant::now();
        let mut waiting = VecDeque::with_capacity(self.parked.len());
        for claim in self.parked.drain(..) {
            if claim.until <= now {
                let _gone = claim.reply.send(Ok(Vec::new()));
            } else if !claim.reply.is_closed() {
                waiting.push_back(claim);
            }
        }
        self.parked = waiting;
        if self.storage.is_stale().await {
            self.commit(Vec::new()).await;
        }
    }

    /// Carries out a group of requests in one transaction, and answers them.
    async fn commit(&mut self, group: Vec<Request>) {
        let requests = u64::try_from(group.len()).unwrap_or(0);
        self.counters.requests.fetch_add(requests, Relaxed);
        let mut round = Round::default();
        if self.hub.more_ready.swap(false, SeqCst) {
            // Others' runs may go before those that are known here.
            self.cache.refill();
        }
        let heard = self.hub.recent.heard();
        let result = self.try_hard(group, &mut round).await;
        let failure = result.as_ref().err();
        for answer in round.answers {
            answer.deliver(failure);
        }
        if let Some(error) = failure {
            round
                .begun
                .into_iter()
                .chain(round.rest)
                .for_each(|request| request.refuse(error));
            for (reply, ..) in round.sweeps {
                let _gone = reply.send(Err(again(error)));
            }
        }
        let Ok((outcome, stale)) = result else {
            self.hub.recent.clear();
            self.hub.wake_all();
            return;
        };
        self.counters.commits.fetch_add(1, Relaxed);
        if stale {
            self.hub.recent.clear();
            self.hub.wake_all();
            return;
        }
        self.hub.recent.note(outcome.left, heard);
        self.hub.wake(Topic::Settled, &outcome.settled);
        self.hub.wake(Topic::Changed, &outcome.changed);
        if let Some(due) = outcome.due {
            self.hub.wake_due(due);
        }
    }

    /// Carries a group out, again if others were in the way.
    async fn try_hard(
        &mut self,
        group: Vec<Request>,
        round: &mut Round,
    ) -> Result<(Outcome, bool)> {
        let spare = S::MAY_CONFLICT.then(|| (group.clone(), self.parked.clone()));
        let mut group = group;
        let mut pause = FIRST_PAUSE;
        for tries in 1.. {
            let error = match self
                .transact(std::mem::take(&mut group), round, tries == 1)
                .await
            {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let conflict = match self.storage.failure() {
                Some(Failure::Conflict(_)) => true,
                Some(Failure::Broken(_)) => false,
                // What was read at different moments does not fit together; the commit would have told.
                None => true,
            };
            self.cache.clear();
            self.storage.roll_back().await;
            let Some((requests, parked)) = spare.as_ref().filter(|_| conflict && tries < TRIES)
            else {
                return Err(error);
            };
            self.counters.conflicts.fetch_add(1, Relaxed);
            *round = Round::default();
            self.parked = parked.clone();
            sleep(pause).await;
            pause *= 2;
            group = requests.clone();
        }
        Err(Error::Closed)
    }
}

enum Next {
    Request(Request),
    /// Another process has made runs ready.
    Ready,
    LookAround,
    Gone,
}

/// Lives as long as anybody can ask; see [`Writer::run`].
pub(crate) type Requests = mpsc::Sender<Request>;

/// Times of waiting that end a claim's patience.
pub(crate) fn patience(wait: Duration) -> Instant {
    /// Longer waits are cut to this; whoever still wants work asks again.
    const LONGEST: Duration = Duration::from_secs(24 * 3600);
    Instant::now() + wait.min(LONGEST)
}
