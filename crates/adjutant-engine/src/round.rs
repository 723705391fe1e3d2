//! One group of requests from begin to commit.

use std::collections::VecDeque;

use adjutant_core::{Result, RunId};
use tokio::{sync::mpsc::WeakSender, time::Instant};

use crate::{
    batch::Batch,
    changes::Outcome,
    claim::{Lines, Taken},
    ledger,
    reply::{Answer, again, answer, hand_over},
    request::{Claim, Request, Sweep, Turn},
    storage::Storage,
    writer::Writer,
};

/// Claims that may wait for work at a time; others are told at once that there is none.
const PARKED: usize = 4096;

/// What came of a group so far.
#[derive(Default)]
pub(crate) struct Round {
    pub answers: Vec<Box<dyn Answer>>,
    /// Sweeps that still have to be told when something is due next.
    pub sweeps: Vec<Sweep>,
    /// Begun, and to be refused if the transaction fails.
    pub begun: Vec<Request>,
    /// Not begun.
    pub rest: VecDeque<Request>,
}

/// Loads what the requests need beside their own runs, a statement for all of each kind.
async fn preload<S: Storage>(batch: &mut Batch<'_, S>, group: &[Request]) -> Result<()> {
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
async fn claim_all<S: Storage>(
    batch: &mut Batch<'_, S>,
    parked: &mut VecDeque<Claim>,
    round: &mut Round,
    own: &WeakSender<Request>,
) -> Result<()> {
    while let Some(Request::Claim(claim)) = round
        .rest
        .pop_front_if(|request| request.turn() == Turn::Claim)
    {
        parked.push_back(claim);
    }
    let mut lines = Lines::wanted_by(parked.iter().map(|claim| &claim.request));
    let mut taken: Vec<Vec<Taken>> = Vec::new();
    let now = Instant::now();
    let first = round.begun.len();
    for _ in 0..parked.len() {
        let Some(claim) = parked.pop_front() else {
            break;
        };
        if claim.reply.is_closed() {
            continue;
        }
        batch.savepoint();
        let mut found = batch.claim(&claim.request, &mut lines).await;
        if found.as_ref().is_ok_and(Vec::is_empty) {
            if claim.until > now && claim.request.capacity > 0 && parked.len() < PARKED {
                parked.push_back(claim);
                continue;
            }
            // Whoever asks once wants to know of others' runs too.
            batch.cache.refill();
            found = batch.claim(&claim.request, &mut lines).await;
        }
        round.begun.push(Request::Claim(claim));
        taken.push(found?);
    }
    batch.note_drained(lines);
    let claimed = batch.hand_out(&taken).await?;
    for (request, claimed) in round.begun.drain(first..).zip(claimed) {
        if let Request::Claim(claim) = request {
            round
                .answers
                .push(hand_over(claim.reply, claimed, own.clone()));
        }
    }
    Ok(())
}

impl<S: Storage> Writer<S> {
    /// Carries out a group in one transaction. What has an answer is in `round` afterwards, as is what has
    /// none because of the error.
    pub(crate) async fn transact(
        &mut self,
        group: Vec<Request>,
        round: &mut Round,
        first: bool,
    ) -> Result<(Outcome, bool)> {
        let (mut ids, mut new) = (Vec::new(), Vec::new());
        group.iter().for_each(|request| request.runs(&mut ids));
        group.iter().for_each(|request| request.new_runs(&mut new));
        // Runs to be made are hardly ever there. If one is, its write meets a conflict, and the next try looks.
        if !first {
            ids.append(&mut new);
        }
        round.rest = group.into();
        let rules = self.rules.clone();
        let begun = Batch::begin(&mut self.storage, &mut self.cache, rules, &ids, &new);
        let (mut batch, stale) = begun.await?;
        preload(&mut batch, round.rest.make_contiguous()).await?;

        let forgotten = round.rest.iter().filter_map(|request| match request {
            Request::Forget(run, _) => Some(*run),
            _ => None,
        });
        let mut forgotten: Vec<RunId> = forgotten.collect();
        forgotten.sort_unstable();
        forgotten.dedup();
        // All requests of a group overlap in time, so any order is right. This one lets claims see what
        // the others made ready, and deletes last.
        round.rest.make_contiguous().sort_by_key(Request::turn);
        while let Some(request) = round
            .rest
            .pop_front_if(|request| request.turn() < Turn::Claim)
        {
            let answer = batch.apply(request, &mut round.sweeps).await;
            round.answers.extend(answer);
            batch.failure()?;
        }
        claim_all(&mut batch, &mut self.parked, round, &self.own).await?;
        let done = round.rest.is_empty() && round.sweeps.is_empty() && forgotten.is_empty();
        batch.flush(done).await?;
        if done {
            return Ok((batch.seal(Vec::new()), stale));
        }
        if !forgotten.is_empty() {
            batch.db.forget_history(&forgotten).await?;
        }
        let mut gone = Vec::new();
        let mut tasks = Vec::new();
        while let Some(request) = round.rest.pop_front() {
            match request {
                Request::Trim(run, upto, reply) => {
                    round
                        .answers
                        .push(answer(reply, batch.db.trim(run, upto).await));
                }
                Request::Prune(policy, reply) => {
                    let pruned = batch.db.prune(&policy).await;
                    let count = pruned
                        .as_ref()
                        .map(|runs| u64::try_from(runs.len()).unwrap_or(0));
                    let count = count.map_err(again);
                    round.answers.push(answer(reply, count));
                    for run in pruned.unwrap_or_default() {
                        batch.slots.remove(&run);
                        gone.push(run);
                    }
                }
                Request::Ledger(task, reply) => tasks.push((task, reply)),
                other => round.begun.push(other),
            }
            batch.failure()?;
        }
        // Last, so that accounts which many work on are held for a short time only, and nothing is waited for after.
        let done = round.sweeps.is_empty();
        if !tasks.is_empty() {
            let answered = ledger::carry_out(batch.db, batch.now, &tasks, done).await;
            match answered {
                Ok(answers) => round.answers.extend(answers),
                Err(error) => {
                    let unanswered = tasks.into_iter();
                    let unanswered = unanswered.map(|(task, reply)| Request::Ledger(task, reply));
                    round.begun.extend(unanswered);
                    return Err(error);
                }
            }
            if done {
                return Ok((batch.seal(gone), stale));
            }
        }
        if !round.sweeps.is_empty() {
            let due = batch.db.next_due().await?;
            for (reply, mut swept, now) in round.sweeps.drain(..) {
                swept.next_due = due;
                round.answers.push(answer(reply, Ok((swept, now))));
            }
        }
        batch.db.commit().await?;
        Ok((batch.seal(gone), stale))
    }
}
