//! The one writer: takes what has queued up, carries it all out in one transaction with one sync, and
//! answers when that is durable.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use adjutant_core::Error;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    batch::Rules,
    config::SqliteConfig,
    db::Db,
    error::again,
    request::{Claim, Request},
    round::Round,
    slot::Cache,
    wake::{Hub, Topic},
    writes::Joined,
};

/// Requests that may wait for the writer; more callers wait until there is room.
pub(crate) const QUEUE: usize = 1024;

/// The most requests that share one transaction, so that nobody waits for too many others.
const GROUP: usize = 256;

/// How often the file is asked whether another process has changed it while somebody waits here. SQLite
/// tells nobody by itself; asking costs two thread hops and reads no page.
const LOOK_AROUND: Duration = Duration::from_millis(20);

pub(crate) struct Writer {
    pub db: Db,
    pub config: SqliteConfig,
    pub requests: mpsc::Receiver<Request>,
    /// For what the writer asks of itself.
    pub own: mpsc::WeakSender<Request>,
    pub hub: Arc<Hub>,
    pub rules: Rules,
    pub cache: Cache,
    pub joined: Joined,
    pub parked: VecDeque<Claim>,
    /// The file's version after our last transaction; others' changes make it another one.
    pub version: i64,
}

impl Writer {
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
        self.hub.wake_all();
        // Nothing is lost if this fails: the next one to open the file reads the log.
        let _checkpointed = self.db.run_once("pragma wal_checkpoint(truncate)").await;
        self.db.close().await;
        for request in rest {
            match request {
                Request::Close(done) => {
                    let _gone = done.send(());
                }
                other => other.refuse(&Error::Closed),
            }
        }
    }

    async fn next(&mut self) -> Next {
        let deadline = self.parked.iter().map(|claim| claim.until).min();
        let watched = self.hub.is_watched() || !self.parked.is_empty();
        let look = Instant::now() + LOOK_AROUND;
        let at = deadline.map_or(look, |deadline| deadline.min(look));
        tokio::select! {
            biased;
            request = self.requests.recv() => request.map_or(Next::Gone, Next::Request),
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
        let version = self.db.version().await;
        if self.db.take_failure().is_some() || version.is_ok_and(|version| version != self.version)
        {
            self.commit(Vec::new()).await;
        }
    }

    /// Carries out a group of requests in one transaction, and answers them.
    async fn commit(&mut self, group: Vec<Request>) {
        self.db
            .counters
            .requests
            .fetch_add(u64::try_from(group.len()).unwrap_or(0), Relaxed);
        let mut round = Round::default();
        let result = self.transact(group, &mut round).await;
        let failure = result.as_ref().err();
        if failure.is_some() {
            self.roll_back().await;
        }
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
        let Ok((outcome, foreign)) = result else {
            self.hub.wake_all();
            return;
        };
        self.db.counters.commits.fetch_add(1, Relaxed);
        if foreign {
            self.hub.wake_all();
            return;
        }
        self.hub.wake(Topic::Settled, &outcome.settled);
        self.hub.wake(Topic::Changed, &outcome.changed);
        if let Some(due) = outcome.due {
            self.hub.wake_due(due);
        }
    }

    async fn roll_back(&mut self) {
        self.cache.clear();
        // There may be no transaction to end, and the failure that matters is known.
        let _none = self.db.run_once("rollback").await;
        if self.db.version().await.is_err() {
            // The connection itself is lost. If there is no other, the next group says why.
            if let Ok(mut db) = Db::writer(&self.config).await {
                db.counters = Arc::clone(&self.db.counters);
                self.db = db;
            }
        }
        let _known = self.db.take_failure();
        self.parked.iter_mut().for_each(|claim| claim.dry = false);
    }
}

enum Next {
    Request(Request),
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
