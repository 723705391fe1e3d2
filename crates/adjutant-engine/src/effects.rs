//! Carrying out what the run machine asks for: at the run itself, at its parent, its children, and the
//! runs that share its concurrency key.

use std::{collections::HashSet, sync::Arc};

use adjutant_core::{Error, Result, RunId};
use adjutant_queue::{
    ChildEnded, Command, Disposition, Effects, Group, Lease, RunRecord, Signal, Wait, WakeOn,
    group_is_done,
};

use crate::{
    batch::{Batch, Fanout},
    outcome::outcome_text,
    slot::{Dirty, Place},
    storage::Storage,
};

/// What a change of one run asks of others. Worked off in a loop, so that a family of any depth needs
/// no stack.
#[derive(Debug)]
pub(crate) enum Todo {
    ChildEnded(ChildEnded),
    CancelChildren(RunId, String),
    Unblock(Arc<str>),
}

impl<S: Storage> Batch<'_, S> {
    /// Changes one run by one decision of the machine. What follows from it for others is in `todo`.
    pub(crate) async fn step(
        &mut self,
        run: RunId,
        decide: impl FnOnce(&mut RunRecord) -> Result<Effects>,
    ) -> Result<()> {
        if !self.exists(run).await? {
            return Err(Error::RunNotFound(run));
        }
        self.decide(run, Dirty::Whole, decide)
    }

    /// The same for a run that is loaded.
    pub(crate) fn decide(
        &mut self,
        run: RunId,
        dirty: Dirty,
        decide: impl FnOnce(&mut RunRecord) -> Result<Effects>,
    ) -> Result<()> {
        let before_dirty = self.slots.get(&run).map_or(Dirty::Clean, |slot| slot.dirty);
        let slot = self.touch(run, dirty)?;
        let before = Place::of(&slot.record);
        match decide(&mut slot.record) {
            Ok(effects) => self.carry_out(run, Some(before), effects),
            Err(error) => {
                // The machine refuses before it changes anything.
                slot.dirty = before_dirty;
                Err(error)
            }
        }
    }

    /// The part of the effects that concerns the run itself; the rest is noted in `todo`.
    pub(crate) fn carry_out(
        &mut self,
        run: RunId,
        before: Option<Place>,
        effects: Effects,
    ) -> Result<()> {
        let Some(mut slot) = self.slots.remove(&run) else {
            return Err(Error::RunNotFound(run));
        };
        let record = &mut slot.record;
        for event in effects.events {
            record.last_seq += 1;
            self.added
                .events
                .push((run, record.last_seq, event, self.now));
        }
        if let Some((name, payload)) = effects.signal {
            let signal = Signal {
                id: record.signals,
                name,
                payload,
                received_at: self.now,
            };
            self.added.signals.push((run, signal));
        }
        if let Some(outcome) = effects.outcome {
            self.added.outcomes.push((run, outcome_text(&outcome)?));
            self.ended.push((run, outcome));
        }
        let after = Place::of(record);
        self.moved(record, before, Some(after));
        if let Some(concurrency) = &record.concurrency
            && freed(before, after)
        {
            self.todo.push(Todo::Unblock(Arc::clone(&concurrency.key)));
        }
        if record.state.is_settled() && before.is_none_or(|place| !place.state.is_settled()) {
            self.settled.push(run);
        }
        self.slots.insert(run, slot);
        self.todo.extend(effects.child_ended.map(Todo::ChildEnded));
        let cancel = effects.cancel_children;
        self.todo
            .extend(cancel.map(|reason| Todo::CancelChildren(run, reason)));
        Ok(())
    }

    /// Works off what changes of runs have asked of others.
    pub(crate) async fn follow_up(&mut self) -> Result<()> {
        while let Some(todo) = self.todo.pop() {
            match todo {
                Todo::ChildEnded(ended) => self.child_ended(&ended).await?,
                Todo::CancelChildren(parent, reason) => {
                    let children = self.children(parent, None).await?;
                    self.cancel_all(&children, &reason).await?;
                }
                Todo::Unblock(key) => self.unblock(&key).await?,
            }
        }
        Ok(())
    }

    async fn child_ended(&mut self, ended: &ChildEnded) -> Result<()> {
        let parent = ended.parent.run;
        // A parent that is gone has ended long ago and waits for nothing.
        if !self.exists(parent).await? {
            return Ok(());
        }
        let Some(mut group) = self.group(parent, &ended.parent.group).await? else {
            return Ok(());
        };
        group.open = group.open.saturating_sub(1);
        group.failed += u64::from(!ended.succeeded);
        self.set_fanout(parent, &ended.parent.group, group);
        let now = self.now;
        let waits = self.record(parent)?.wait.is_some();
        if waits {
            self.decide(parent, Dirty::Whole, |record| {
                record.child_ended(ended, group, now)
            })?;
        }
        Ok(())
    }

    /// How far a fan-out is; `None` when the run has no such fan-out.
    pub(crate) async fn group(&mut self, run: RunId, key: &Arc<str>) -> Result<Option<Group>> {
        let place = (run, Arc::clone(key));
        if let Some(fanout) = self.fanouts.get(&place) {
            return Ok(Some(fanout.group));
        }
        let stored = self.slots.get(&run).and_then(|slot| slot.stored);
        if stored.is_none_or(|stored| stored.children == 0) {
            return Ok(None);
        }
        let Some(group) = self.db.fanout(run, key).await? else {
            return Ok(None);
        };
        self.fanouts.insert(
            place,
            Fanout {
                group,
                dirty: false,
            },
        );
        Ok(Some(group))
    }

    /// The children of a run, or of one of its fan-outs, oldest first.
    pub(crate) async fn children(
        &mut self,
        parent: RunId,
        group: Option<&str>,
    ) -> Result<Vec<RunId>> {
        let mut children = Vec::new();
        let stored = self.slots.get(&parent).and_then(|slot| slot.stored);
        if stored.is_some_and(|stored| stored.children > 0) {
            let found = self.db.children(parent).await?;
            let wanted = |fanout: &Arc<str>| group.is_none_or(|group| *group == **fanout);
            children.extend(
                found
                    .into_iter()
                    .filter(|(_, f)| wanted(f))
                    .map(|(run, _)| run),
            );
        }
        for child in self.spawned.get(&parent).into_iter().flatten() {
            let link = self
                .slots
                .get(child)
                .and_then(|slot| slot.record.parent.as_ref());
            if link.is_some_and(|link| group.is_none_or(|group| *group == *link.group)) {
                children.push(*child);
            }
        }
        Ok(children)
    }

    /// Cancels those of the runs that have not ended.
    pub(crate) async fn cancel_all(&mut self, runs: &[RunId], reason: &str) -> Result<()> {
        self.load(runs).await?;
        let now = self.now;
        for run in runs {
            if self
                .record(*run)
                .is_ok_and(|record| !record.state.is_terminal())
            {
                let reason = reason.to_owned();
                self.decide(*run, Dirty::Whole, |record| {
                    record.control(Command::Cancel { reason }, now)
                })?;
            }
        }
        Ok(())
    }

    /// Lets the best-ranked run go that the key holds back.
    async fn unblock(&mut self, key: &Arc<str>) -> Result<()> {
        let known = self.known_where(|place| place.blocked);
        let here = self.blocked.get(key).and_then(|line| line.first().copied());
        let stored = self.db.blocked(key, &known).await?;
        let best = here.into_iter().chain(stored).min();
        let Some((_, run)) = best else {
            return Ok(());
        };
        self.step(run, |record| {
            record.blocked = false;
            Ok(Effects::default())
        })
        .await
    }

    /// Gives a run back.
    pub(crate) async fn settle(&mut self, lease: &Lease, disposition: Disposition) -> Result<()> {
        let facts = match &disposition {
            Disposition::Waiting(wait) => self.facts(lease.run, wait).await?,
            _ => Facts::default(),
        };
        let now = self.now;
        self.decide(lease.run, Dirty::Whole, |record| {
            record.settle(lease, disposition, now, |on| facts.satisfy(on))
        })
    }

    async fn facts(&mut self, run: RunId, wait: &Wait) -> Result<Facts> {
        let mut facts = Facts::default();
        for on in &wait.wake_on {
            match on {
                WakeOn::At(_) => {}
                WakeOn::Signal(_) if facts.looked => {}
                WakeOn::Signal(_) => {
                    let signals = self.mailbox(run).await?;
                    facts
                        .signals
                        .extend(signals.into_iter().map(|signal| signal.name));
                    facts.looked = true;
                }
                WakeOn::Group { key, .. } => {
                    let group = self.group(run, key).await?.unwrap_or_default();
                    facts.groups.push((Arc::clone(key), group));
                }
            }
        }
        Ok(facts)
    }
}

/// What is already there of what a run is going to wait for.
#[derive(Default)]
struct Facts {
    signals: HashSet<String>,
    looked: bool,
    groups: Vec<(Arc<str>, Group)>,
}

impl Facts {
    fn satisfy(&self, on: &WakeOn) -> bool {
        match on {
            // The machine compares times itself.
            WakeOn::At(_) => false,
            WakeOn::Signal(name) => self.signals.contains(name),
            WakeOn::Group { key, fail_fast } => {
                let mut groups = self.groups.iter().filter(|(known, _)| known == key);
                groups
                    .next()
                    .is_some_and(|(_, group)| group_is_done(*group, *fail_fast))
            }
        }
    }
}

/// Whether a slot of the run's concurrency key became free.
fn freed(before: Option<Place>, after: Place) -> bool {
    let Some(before) = before else { return false };
    let still_there =
        after.state == adjutant_core::RunState::Running || (after.ready && before.ready);
    before.takes_slot() && !still_there && !after.blocked
}
