//! Carrying out what the run machine asks for, at the run itself and at its parent, children and
//! neighbours.

use std::sync::Arc;

use adjutant_core::{Error, Result, RunId, RunState, Timestamp};

use super::{
    core::{Entry, FanOut, QueueCore, RunLog},
    index::Place,
};
use crate::{ChildEnded, Command, Effects, RunRecord, Signal};

/// What a change of one run asks of others. Worked off in a loop, so that a family of any depth needs
/// no stack.
#[derive(Debug)]
pub(super) enum Todo {
    ChildEnded(ChildEnded),
    CancelChildren(RunId, String),
    Unblock(Arc<str>),
}

impl QueueCore {
    /// Changes one run by one decision of the machine, with everything that follows from it. What the
    /// caller wants to know is picked before the follow-up, which may forget a run that has just ended.
    pub(super) fn change<R>(
        &mut self,
        run: RunId,
        now: Timestamp,
        log: &mut dyn RunLog,
        decide: impl FnOnce(&mut Entry) -> Result<Effects>,
        pick: impl FnOnce(&RunRecord) -> R,
    ) -> Result<R> {
        self.step(run, now, log, decide)?;
        let picked = self.record(run).map(pick);
        self.follow_up(now, log);
        picked.ok_or(Error::RunNotFound(run))
    }

    fn step(
        &mut self,
        run: RunId,
        now: Timestamp,
        log: &mut dyn RunLog,
        decide: impl FnOnce(&mut Entry) -> Result<Effects>,
    ) -> Result<()> {
        let entry = self.runs.get_mut(&run).ok_or(Error::RunNotFound(run))?;
        let before = Place::of(&entry.record);
        let effects = decide(entry)?;
        self.carry_out(run, Some(before), effects, now, log);
        Ok(())
    }

    /// The part of the effects that concerns the run itself; the rest is noted in `todo`.
    pub(super) fn carry_out(
        &mut self,
        run: RunId,
        before: Option<Place>,
        effects: Effects,
        now: Timestamp,
        log: &mut dyn RunLog,
    ) {
        let Some(entry) = self.runs.get_mut(&run) else {
            return;
        };
        if !effects.events.is_empty() {
            entry.record.last_seq = log.append(run, effects.events, now);
        }
        if let Some((name, payload)) = effects.signal {
            entry.signals.push(Signal {
                id: entry.record.signals,
                name,
                payload,
                received_at: now,
            });
        }
        let ended = effects.outcome.is_some();
        if ended {
            entry.outcome = effects.outcome;
        }
        let moved = self.index.moved(before, &entry.record);
        if moved.ready {
            self.waiters.ready(&entry.record.agent);
        }
        if let Some(due) = moved.due {
            self.waiters.due(due);
        }
        if moved.freed
            && let Some(concurrency) = &entry.record.concurrency
        {
            self.todo.push(Todo::Unblock(Arc::clone(&concurrency.key)));
        }
        if ended || entry.record.state == RunState::Parked {
            self.waiters.settled(run, || entry.view());
        }
        let ended_at = entry.record.finished_at.filter(|_| ended);
        self.todo.extend(effects.child_ended.map(Todo::ChildEnded));
        let cancel = effects.cancel_children;
        self.todo
            .extend(cancel.map(|reason| Todo::CancelChildren(run, reason)));
        if let Some(ended_at) = ended_at {
            self.retire(run, ended_at);
        }
    }

    /// Works off what changes of runs have asked of others, then forgets what is over the bound.
    pub(super) fn follow_up(&mut self, now: Timestamp, log: &mut dyn RunLog) {
        while let Some(todo) = self.todo.pop() {
            match todo {
                Todo::ChildEnded(ended) => self.child_ended(&ended, now, log),
                Todo::CancelChildren(parent, reason) => {
                    let children = self.children(parent);
                    self.cancel_all(children, &reason, now, log);
                }
                Todo::Unblock(key) => self.unblock(&key, now, log),
            }
        }
        self.forget_over_bound(log);
    }

    fn child_ended(&mut self, ended: &ChildEnded, now: Timestamp, log: &mut dyn RunLog) {
        // A parent that is gone has ended long ago and waits for nothing.
        let _gone = self.step(ended.parent.run, now, log, |parent| {
            let Some(fan_out) = parent.fan_outs.get_mut(&ended.parent.group) else {
                return Ok(Effects::default());
            };
            fan_out.group.open = fan_out.group.open.saturating_sub(1);
            fan_out.group.failed += u64::from(!ended.succeeded);
            parent.record.child_ended(ended, fan_out.group, now)
        });
    }

    fn cancel_all(&mut self, runs: Vec<RunId>, reason: &str, now: Timestamp, log: &mut dyn RunLog) {
        for run in runs {
            let reason = reason.to_owned();
            // One that has ended cannot be cancelled, and need not be.
            let _ended = self.step(run, now, log, |entry| {
                entry.record.control(Command::Cancel { reason }, now)
            });
        }
    }

    fn unblock(&mut self, key: &str, now: Timestamp, log: &mut dyn RunLog) {
        if let Some(run) = self.index.first_blocked(key) {
            let _known = self.step(run, now, log, |entry| {
                entry.record.blocked = false;
                Ok(Effects::default())
            });
        }
    }

    /// All children of a run, by fan-out and then in the order in which they were spawned.
    pub(super) fn children(&self, parent: RunId) -> Vec<RunId> {
        let fan_outs = self.runs.get(&parent).map(|entry| entry.fan_outs.values());
        let children = fan_outs.into_iter().flatten().map(|f| &f.children);
        children.flatten().copied().collect()
    }

    /// Cancels the children of one fan-out that have not ended.
    pub fn cancel_group(
        &mut self,
        parent: RunId,
        group: &str,
        reason: &str,
        now: Timestamp,
        log: &mut dyn RunLog,
    ) {
        let fan_out: Option<&FanOut> = self
            .runs
            .get(&parent)
            .and_then(|entry| entry.fan_outs.get(group));
        let children = fan_out.map(|f| f.children.clone()).unwrap_or_default();
        self.cancel_all(children, reason, now, log);
        self.follow_up(now, log);
    }

    /// Whether the run's mailbox holds this signal.
    #[must_use]
    pub fn has_signal(&self, run: RunId, signal: u64) -> bool {
        let entry = self.runs.get(&run);
        entry.is_some_and(|entry| entry.signals.iter().any(|s| s.id == signal))
    }

    /// Takes a signal out of the run's mailbox.
    pub fn take_signal(&mut self, run: RunId, signal: u64) {
        if let Some(entry) = self.runs.get_mut(&run) {
            entry.signals.retain(|s| s.id != signal);
            entry.record.unread_signals = u64::try_from(entry.signals.len()).unwrap_or(u64::MAX);
        }
    }
}
