//! The one writer: takes what has queued up, carries it all out in one transaction with one sync, and
//! answers when that is durable.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use adjutant_core::{Clock, Error, Result, RunId};
use adjutant_queue::AgentFilter;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    batch::{Batch, Rules},
    claim::{Lines, Taken, takes},
    db::Db,
    error::again,
    finish::{Outcome, distinct},
    request::{Answer, Claim, Request, Sweep, Turn, answer},
    slot::Cache,
    wake::{Hub, Topic},
    writes::Joined,
};

/// Requests that may wait for the writer; more callers wait until there is room.
pub(crate) const QUEUE: usize = 1024;

/// The most requests that share one transaction, so that nobody waits for too many others.
const GROUP: usize = 256;

/// Claims that may wait for work at a time; others are told at once that there is none.
const PARKED: usize = 4096;

/// How often the file is asked whether another process has changed it while somebody waits here. SQLite
/// tells nobody by itself; asking costs two thread hops and reads no page.
const LOOK_AROUND: Duration = Duration::from_millis(20);

pub(crate) struct Writer {
    pub db: Db,
    pub requests: mpsc::Receiver<Request>,
    pub hub: Arc<Hub>,
    pub clock: Arc<dyn Clock>,
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

    async fn transact(
        &mut self,
        group: Vec<Request>,
        round: &mut Round,
    ) -> Result<(Outcome, bool)> {
        let mut ids = Vec::new();
        group.iter().for_each(|request| request.runs(&mut ids));
        let now = self.clock.now();
        round.rest = group.into();
        let begun = Batch::begin(
            &mut self.db,
            &mut self.cache,
            self.rules,
            now,
            &ids,
            self.version,
        );
        let (mut batch, opened) = begun.await?;
        self.version = opened.version;
        preload(&mut batch, round.rest.make_contiguous()).await?;

        let forgotten = round.rest.iter().filter_map(|request| match request {
            Request::Forget(run, _) => Some(*run),
            _ => None,
        });
        let forgotten = distinct(forgotten);
        // All requests of a group overlap in time, so any order is right. This one lets claims see what
        // the others made ready, and deletes last.
        round.rest.make_contiguous().sort_by_key(Request::turn);
        if opened.foreign {
            self.parked.iter_mut().for_each(|claim| claim.dry = false);
        }
        while let Some(request) = round
            .rest
            .pop_front_if(|request| request.turn() < Turn::Claim)
        {
            let answer = batch.apply(request, &mut round.sweeps).await;
            round.answers.extend(answer);
            batch.failure()?;
        }
        claim_all(&mut batch, &mut self.parked, round).await?;
        let done = round.rest.is_empty() && round.sweeps.is_empty() && forgotten.is_empty();
        batch.flush(&mut self.joined, done).await?;
        if done {
            return Ok((batch.seal(Vec::new()), opened.foreign));
        }
        batch.forget_history(&forgotten).await?;
        let mut gone = Vec::new();
        while let Some(request) = round.rest.pop_front() {
            match request {
                Request::Trim(run, upto, reply) => {
                    round
                        .answers
                        .push(answer(reply, batch.trim(run, upto).await));
                }
                Request::Prune(policy, reply) => {
                    let pruned = batch.prune(&policy).await;
                    let count = pruned
                        .as_ref()
                        .map(|runs| u64::try_from(runs.len()).unwrap_or(0));
                    let count = count.map_err(again);
                    round.answers.push(answer(reply, count));
                    gone.extend(pruned.unwrap_or_default());
                }
                other => round.begun.push(other),
            }
            batch.failure()?;
        }
        if !round.sweeps.is_empty() {
            let due = batch.next_due().await?;
            for (reply, mut swept, now) in round.sweeps.drain(..) {
                swept.next_due = due;
                round.answers.push(answer(reply, Ok((swept, now))));
            }
        }
        batch.commit_rest().await?;
        Ok((batch.seal(gone), opened.foreign))
    }

    async fn roll_back(&mut self) {
        self.cache.clear();
        // There may be no transaction to end, and the failure that matters is known.
        let _none = self.db.run_once("rollback").await;
        let _known = self.db.take_failure();
        self.parked.iter_mut().for_each(|claim| claim.dry = false);
    }
}

enum Next {
    Request(Request),
    LookAround,
    Gone,
}

/// What came of a group so far.
#[derive(Default)]
struct Round {
    answers: Vec<Box<dyn Answer>>,
    /// Sweeps that still have to be told when something is due next.
    sweeps: Vec<Sweep>,
    /// Begun, and to be refused if the transaction fails.
    begun: Vec<Request>,
    /// Not begun.
    rest: VecDeque<Request>,
}

/// Loads what the requests need beside their own runs, a statement for all of each kind.
async fn preload(batch: &mut Batch<'_>, group: &[Request]) -> Result<()> {
    let mut keys = Vec::new();
    let mut steps = Vec::new();
    let mut parents = Vec::new();
    for request in group {
        request.keys(&mut keys);
        request.steps(&mut steps);
        if let Request::Commit(ready, _) = request
            && ready.commit.end.is_some()
            && let Ok(record) = batch.record(ready.commit.lease.run)
        {
            parents.extend(record.parent.as_ref().map(|link| link.run));
        }
    }
    if !keys.is_empty() {
        batch.load_keys(&keys).await?;
        let known: Vec<RunId> = batch.keys.values().flatten().copied().collect();
        batch.load(&known).await?;
    }
    if !parents.is_empty() {
        batch.load(&parents).await?;
    }
    batch.load_steps(&steps).await
}

/// Serves the claims: first those that wait, then the new ones.
async fn claim_all(
    batch: &mut Batch<'_>,
    parked: &mut VecDeque<Claim>,
    round: &mut Round,
) -> Result<()> {
    while let Some(Request::Claim(claim)) = round
        .rest
        .pop_front_if(|request| request.turn() == Turn::Claim)
    {
        parked.push_back(claim);
    }
    let mut lines = Lines::default();
    let mut taken: Vec<Vec<Taken>> = Vec::new();
    let now = Instant::now();
    let first = round.begun.len();
    for _ in 0..parked.len() {
        let Some(mut claim) = parked.pop_front() else {
            break;
        };
        if claim.reply.is_closed() {
            continue;
        }
        if claim.dry && !has_work(batch, &claim.request.agents) {
            parked.push_back(claim);
            continue;
        }
        batch.savepoint();
        let found = batch.claim(&claim.request, &mut lines, claim.dry).await;
        let nothing = found.as_ref().is_ok_and(Vec::is_empty);
        let patient = claim.until > now && claim.request.capacity > 0 && parked.len() < PARKED;
        if nothing && patient {
            claim.dry = true;
            parked.push_back(claim);
            continue;
        }
        round.begun.push(Request::Claim(claim));
        taken.push(found?);
    }
    let claimed = batch.hand_out(&taken).await?;
    for (request, claimed) in round.begun.drain(first..).zip(claimed) {
        if let Request::Claim(claim) = request {
            round.answers.push(answer(claim.reply, Ok(claimed)));
        }
    }
    Ok(())
}

/// Whether one of the batch's records is ready for these agents.
fn has_work(batch: &Batch<'_>, agents: &AgentFilter) -> bool {
    batch.ready.iter().any(|(_, run)| {
        batch
            .slots
            .get(run)
            .is_some_and(|slot| takes(agents, &slot.record.agent))
    })
}

/// Lives as long as anybody can ask; see [`Writer::run`].
pub(crate) type Requests = mpsc::Sender<Request>;

/// Times of waiting that end a claim's patience.
pub(crate) fn patience(wait: Duration) -> Instant {
    /// Longer waits are cut to this; whoever still wants work asks again.
    const LONGEST: Duration = Duration::from_secs(24 * 3600);
    Instant::now() + wait.min(LONGEST)
}
