//! The atomic commit: everything is checked before anything is written.

use adjutant_core::{Clock, Error, Limits, Result, StepOutcome, StepRecord, Timestamp};
use adjutant_queue::{Submitted, engine::Prepared};

use super::Inner;
use crate::{Commit, Committed, Fork, Op};

/// A commit whose sizes are fine and whose child runs are made, ready for the lock.
pub(super) struct Ready {
    commit: Commit,
    /// The runs of its `Spawn` ops, in order.
    children: Vec<Prepared>,
}

impl Ready {
    /// Does what needs no look at the store.
    ///
    /// # Errors
    /// `TooLarge`, `Invalid`.
    pub(super) fn new(commit: Commit, limits: &Limits, clock: &dyn Clock) -> Result<Self> {
        commit.check(limits)?;
        let children = commit.ops.iter().filter_map(|op| match op {
            Op::Spawn(child) => Some(Prepared::new((**child).clone(), limits, clock.now())),
            _ => None,
        });
        let children = children.collect::<Result<_>>()?;
        Ok(Self { commit, children })
    }
}

impl Inner {
    pub(super) fn commit(&mut self, ready: Ready, now: Timestamp) -> Result<Committed> {
        self.check(&ready)?;
        let Ready { commit, children } = ready;
        let (lease, run) = (commit.lease, commit.lease.run);
        let mut children = children.into_iter();
        let mut events = Vec::new();
        for op in commit.ops {
            match op {
                Op::Step(step) => self.logs.journals.record(run, step),
                Op::Checkpoint(state) => self.logs.journals.save(run, state, now),
                Op::Event(event) => events.push(event),
                Op::Spawn(_) => self.spawn(children.next(), now)?,
                Op::TakeSignal(signal) => self.queue.take_signal(run, signal),
                Op::CancelGroup { group, reason } => {
                    self.queue
                        .cancel_group(run, &group, &reason, now, &mut self.logs);
                }
            }
        }
        let written = self.logs.journals.written(run);
        if let Some(record) = self.queue.record_mut(run) {
            record.steps = written.steps;
            record.checkpoint = written.checkpoint;
            if !events.is_empty() {
                record.last_seq = self.logs.events.append(run, events, now);
            }
        }
        let (last_seq, state) = match commit.end {
            Some(end) => self
                .queue
                .settle(&lease, end, now, &mut self.logs, |record| {
                    (record.last_seq, record.state)
                })?,
            None => {
                let record = self.queue.held(&lease)?;
                (record.last_seq, record.state)
            }
        };
        Ok(Committed {
            last_seq,
            checkpoint: written.checkpoint,
            state,
        })
    }

    /// Everything that could refuse the commit.
    fn check(&self, ready: &Ready) -> Result<()> {
        let lease = &ready.commit.lease;
        self.queue.held(lease)?;
        let ops = &ready.commit.ops;
        let steps = ops.iter().filter_map(|op| match op {
            Op::Step(step) => Some(step),
            _ => None,
        });
        self.logs.journals.check(lease.run, &steps)?;
        for (n, op) in ops.iter().enumerate() {
            if let Op::TakeSignal(signal) = op
                && (!self.queue.has_signal(lease.run, *signal) || ops[..n].contains(op))
            {
                return Err(Error::Conflict {
                    what: format!("signal {signal} of {}", lease.run),
                });
            }
        }
        if ready.children.len() > 1 {
            self.queue.check_batch(&ready.children)?;
        }
        ready.children.iter().try_for_each(|child| {
            if self.queue.record(child.id()).is_some() {
                return Ok(());
            }
            self.queue.known(child).map(drop)
        })
    }

    fn spawn(&mut self, child: Option<Prepared>, now: Timestamp) -> Result<()> {
        let Some(child) = child else { return Ok(()) };
        let is_there = self.queue.record(child.id()).is_some();
        if !is_there && self.queue.known(&child)?.is_none() {
            self.queue.insert(child, now, &mut self.logs);
        }
        Ok(())
    }

    /// Queues `run` with the source's history. The copied records keep their times: they tell when
    /// things were done, and nothing is done again.
    pub(super) fn fork(&mut self, fork: &Fork, run: Prepared, now: Timestamp) -> Result<Submitted> {
        if self.queue.record(fork.source).is_none() {
            return Err(Error::RunNotFound(fork.source));
        }
        let mut submitted = self.queue.submit(vec![run], now, &mut self.logs)?;
        let Some(submitted) = submitted.pop() else {
            return Err(Error::RunNotFound(fork.run.id));
        };
        if submitted.created {
            self.copy_history(fork, submitted.run, now);
        }
        Ok(submitted)
    }

    fn copy_history(&mut self, fork: &Fork, to: adjutant_core::RunId, now: Timestamp) {
        let history = self.logs.journals.history(fork.source);
        let is_completed =
            |step: &StepRecord| matches!(step.outcome, StepOutcome::Completed { .. });
        let taken = fork.steps.unwrap_or(usize::MAX);
        for step in history.journal.into_iter().take(taken) {
            if fork.steps.is_some() || is_completed(&step) {
                self.logs.journals.record(to, step);
            }
        }
        if let Some(checkpoint) = history.checkpoint.filter(|_| fork.steps.is_none()) {
            self.logs.journals.save(to, checkpoint.state, now);
        }
        let written = self.logs.journals.written(to);
        if let Some(record) = self.queue.record_mut(to) {
            record.steps = written.steps;
            record.checkpoint = written.checkpoint;
        }
    }
}
