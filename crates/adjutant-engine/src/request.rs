//! What callers ask of the writer, and how they are answered once it is durable.

use std::time::Duration;

use adjutant_budget::engine::{Done, Task};
use adjutant_core::{Error, IdMap, Limits, NewEvent, Result, RunId, Timestamp};
use adjutant_queue::{
    Beat, ClaimRequest, Claimed, Command, Disposition, Effects, Lease, NewRun, Payload,
    PrunePolicy, RunRecord, Submitted, Swept,
};
use adjutant_state::StateWrite;
use adjutant_store::{Commit, Committed, Op, Package};
use tokio::time::Instant;

use crate::{
    handover::Belongings,
    reply::{Reply, again},
};

/// A run on its way in, made by the caller so that the writer need not.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub record: RunRecord,
    pub payload: Payload,
    pub effects: Effects,
}

impl Entry {
    /// Checks a run and makes its record and first event.
    ///
    /// # Errors
    /// `Invalid` or `TooLarge`.
    pub(crate) fn new(run: NewRun, limits: &Limits, now: Timestamp) -> Result<Self> {
        run.validate(limits)?;
        let (record, effects) = RunRecord::submitted(&run, now);
        let payload = Payload {
            input: run.input,
            metadata: run.metadata,
        };
        Ok(Self {
            record,
            payload,
            effects,
        })
    }

    /// Refuses runs that contradict each other.
    ///
    /// # Errors
    /// `Conflict`.
    pub(crate) fn check_together(entries: &[Self]) -> Result<()> {
        if entries.len() < 2 {
            return Ok(());
        }
        let mut ids: IdMap<RunId, &Self> = IdMap::default();
        let mut keys: std::collections::HashMap<&str, &Self> = std::collections::HashMap::new();
        for entry in entries {
            let twin = ids.insert(entry.record.id, entry);
            let key = entry.record.idempotency_key.as_deref();
            let namesake = key.and_then(|key| keys.insert(key, entry));
            for other in twin.into_iter().chain(namesake) {
                if !entry.asks_the_same(&other.record, &other.payload) {
                    return Err(entry.conflict());
                }
            }
        }
        Ok(())
    }

    /// Whether this is the same request as the one that made `record`.
    pub(crate) fn asks_the_same(&self, record: &RunRecord, payload: &Payload) -> bool {
        let (mine, theirs) = (&self.payload.input, &payload.input);
        self.record.agent == record.agent
            && (mine == theirs || mine.fingerprint() == theirs.fingerprint())
    }

    pub(crate) fn conflict(&self) -> Error {
        let what = match &self.record.idempotency_key {
            Some(key) => format!("idempotency key `{key}`"),
            None => format!("id {}", self.record.id),
        };
        Error::Conflict { what }
    }
}

/// A claim that goes on waiting in the writer.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub request: ClaimRequest,
    pub until: Instant,
    pub reply: Reply<Vec<Claimed>>,
}

/// A commit whose sizes are fine and whose child runs are made.
#[derive(Debug, Clone)]
pub(crate) struct ReadyCommit {
    pub commit: Commit,
    /// The runs of its `Spawn` ops, in order.
    pub children: Vec<Entry>,
}

/// A fork whose run is made.
#[derive(Debug, Clone)]
pub(crate) struct ReadyFork {
    pub source: RunId,
    pub steps: Option<usize>,
    pub entry: Entry,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Submit(Vec<Entry>, Reply<Vec<Submitted>>),
    Claim(Claim),
    Heartbeat(Vec<Lease>, Duration, Reply<Vec<Beat>>),
    Settle(Lease, Box<Disposition>, Reply<RunRecord>),
    Control(RunId, Command, Reply<RunRecord>),
    Sweep(usize, Reply<(Swept, Timestamp)>),
    Commit(Box<ReadyCommit>, Reply<Committed>),
    Fork(Box<ReadyFork>, Reply<Submitted>),
    Write(RunId, u64, Vec<StateWrite>, Reply<u64>),
    Append(RunId, Vec<NewEvent>, Reply<u64>),
    Belongings(RunId, Reply<Belongings>),
    Import(Box<Package>, Reply<()>),
    Forget(RunId, Reply<()>),
    Ledger(Box<Task>, Reply<Done>),
    Trim(RunId, u64, Reply<()>),
    Prune(PrunePolicy, Reply<u64>),
    Close(Reply<()>),
}

/// When a request's turn comes within its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    /// Changes of single runs.
    Change,
    /// Forgetting what others may just have written.
    Forget,
    /// Claims.
    Claim,
    /// What concerns whole tables, after everything is written.
    Table,
}

/// A sweep that still has to be told when something is due next.
pub(crate) type Sweep = (Reply<(Swept, Timestamp)>, Swept, Timestamp);

impl Request {
    /// When its turn comes.
    pub(crate) fn turn(&self) -> Turn {
        match self {
            Self::Claim(_) => Turn::Claim,
            Self::Forget(..) => Turn::Forget,
            Self::Ledger(..) | Self::Trim(..) | Self::Prune(..) | Self::Close(_) => Turn::Table,
            _ => Turn::Change,
        }
    }

    /// The runs that it makes, most likely.
    pub(crate) fn new_runs(&self, ids: &mut Vec<RunId>) {
        ids.extend(self.entries().iter().map(|entry| entry.record.id));
    }

    fn entries(&self) -> &[Entry] {
        match self {
            Self::Submit(entries, _) => entries,
            Self::Commit(ready, _) => &ready.children,
            Self::Fork(fork, _) => std::slice::from_ref(&fork.entry),
            _ => &[],
        }
    }

    /// The runs whose records it needs for sure.
    pub(crate) fn runs(&self, ids: &mut Vec<RunId>) {
        let parents = self.entries().iter();
        ids.extend(parents.filter_map(|entry| Some(entry.record.parent.as_ref()?.run)));
        match self {
            Self::Heartbeat(leases, ..) => ids.extend(leases.iter().map(|lease| lease.run)),
            Self::Settle(lease, ..) => ids.push(lease.run),
            Self::Commit(ready, _) => ids.push(ready.commit.lease.run),
            Self::Fork(fork, _) => ids.push(fork.source),
            Self::Control(run, ..)
            | Self::Write(run, ..)
            | Self::Append(run, ..)
            | Self::Belongings(run, _)
            | Self::Forget(run, _) => ids.push(*run),
            Self::Import(package, _) => {
                ids.push(package.run.id);
                ids.extend(package.run.parent.as_ref().map(|link| link.run));
            }
            Self::Submit(..)
            | Self::Claim(_)
            | Self::Sweep(..)
            | Self::Ledger(..)
            | Self::Trim(..)
            | Self::Prune(..)
            | Self::Close(_) => {}
        }
    }

    /// The idempotency keys that it looks up.
    pub(crate) fn keys<'a>(&'a self, keys: &mut Vec<&'a str>) {
        keys.extend(
            self.entries()
                .iter()
                .filter_map(|entry| entry.record.idempotency_key.as_deref()),
        );
    }

    /// The steps that it records.
    pub(crate) fn steps<'a>(&'a self, steps: &mut Vec<(RunId, &'a str)>) {
        match self {
            Self::Commit(ready, _) => {
                let run = ready.commit.lease.run;
                steps.extend(ready.commit.ops.iter().filter_map(|op| match op {
                    Op::Step(step) => Some((run, step.key.as_str())),
                    _ => None,
                }));
            }
            Self::Write(run, _, writes, _) => {
                steps.extend(writes.iter().filter_map(|write| match write {
                    StateWrite::Step(step) => Some((*run, step.key.as_str())),
                    StateWrite::Checkpoint(_) => None,
                }));
            }
            _ => {}
        }
    }

    /// Answers with an error.
    pub(crate) fn refuse(&self, error: &Error) {
        fn no<T>(reply: &Reply<T>, error: &Error) {
            // A caller that has gone needs no answer.
            let _gone = reply.send(Err(again(error)));
        }
        match self {
            Self::Submit(_, reply) => no(reply, error),
            Self::Claim(claim) => no(&claim.reply, error),
            Self::Heartbeat(_, _, reply) => no(reply, error),
            Self::Settle(_, _, reply) | Self::Control(_, _, reply) => no(reply, error),
            Self::Sweep(_, reply) => no(reply, error),
            Self::Commit(_, reply) => no(reply, error),
            Self::Fork(_, reply) => no(reply, error),
            Self::Write(_, _, _, reply) | Self::Append(_, _, reply) | Self::Prune(_, reply) => {
                no(reply, error);
            }
            Self::Belongings(_, reply) => no(reply, error),
            Self::Ledger(_, reply) => no(reply, error),
            Self::Import(_, reply)
            | Self::Forget(_, reply)
            | Self::Trim(_, _, reply)
            | Self::Close(reply) => {
                no(reply, error);
            }
        }
    }
}
