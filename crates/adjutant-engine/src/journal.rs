//! The atomic commit, and the other writes of a run's own history.

use adjutant_core::{Error, Json, Result, RunId, RunState, StepOutcome, StepRecord};
use adjutant_queue::Submitted;
use adjutant_state::StateWrite;
use adjutant_store::{Committed, Op};

use crate::{
    batch::{Batch, StepSlot},
    request::{Entry, ReadyCommit, ReadyFork},
    slot::Dirty,
    storage::Storage,
};

impl<S: Storage> Batch<'_, S> {
    pub(crate) async fn commit(&mut self, ready: ReadyCommit) -> Result<Committed> {
        let ReadyCommit { commit, children } = ready;
        let (lease, run) = (commit.lease, commit.lease.run);
        self.check(&lease).await?;
        Entry::check_together(&children)?;
        let mut children = children.into_iter();
        let mut events = Vec::new();
        for op in commit.ops {
            match op {
                Op::Step(step) => self.record_step(run, step).await?,
                Op::Checkpoint(state) => self.save(run, state)?,
                Op::Event(event) => events.push(event),
                Op::Spawn(_) => self.spawn(children.next()).await?,
                Op::TakeSignal(signal) => self.take_signal(run, signal).await?,
                Op::CancelGroup { group, reason } => {
                    let children = self.children(run, Some(&group)).await?;
                    self.cancel_all(&children, &reason).await?;
                    self.follow_up().await?;
                }
            }
        }
        if !events.is_empty() {
            self.add_events(run, events)?;
        }
        if let Some(end) = commit.end {
            self.settle(&lease, end).await?;
        }
        let record = self.record(run)?;
        let committed = Committed {
            last_seq: record.last_seq,
            checkpoint: record.checkpoint,
            state: record.state,
        };
        self.follow_up().await?;
        Ok(committed)
    }

    async fn spawn(&mut self, child: Option<Entry>) -> Result<()> {
        let Some(child) = child else { return Ok(()) };
        if !self.exists(child.record.id).await? && self.known(&child).await?.is_none() {
            self.insert(child).await?;
        }
        Ok(())
    }

    async fn take_signal(&mut self, run: RunId, signal: u64) -> Result<()> {
        let mailbox = self.mailbox(run).await?;
        if !mailbox.iter().any(|known| known.id == signal) {
            return Err(Error::Conflict {
                what: format!("signal {signal} of {run}"),
            });
        }
        self.added.taken.push((run, signal));
        let left = u64::try_from(mailbox.len() - 1).unwrap_or(u64::MAX);
        self.touch(run, Dirty::Counts)?.record.unread_signals = left;
        Ok(())
    }

    /// Looks up which of these steps the journals have.
    pub(crate) async fn load_steps(&mut self, wanted: &[(RunId, &str)]) -> Result<()> {
        let mut unknown = Vec::new();
        for (run, key) in wanted {
            let stored = self.slots.get(run).and_then(|slot| slot.stored);
            let known = self
                .steps
                .get(run)
                .is_some_and(|steps| steps.contains_key(*key));
            if !known && stored.is_some_and(|stored| stored.steps > 0) {
                unknown.push((*run, *key));
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        for found in self.db.steps(&unknown).await? {
            let step = StepSlot {
                ordinal: found.ordinal,
                is_final: found.is_final,
                record: None,
            };
            self.steps
                .entry(found.run)
                .or_default()
                .insert(found.key, step);
        }
        Ok(())
    }

    async fn record_step(&mut self, run: RunId, step: StepRecord) -> Result<()> {
        let known = |batch: &Self| {
            batch
                .steps
                .get(&run)
                .and_then(|s| s.get(&step.key))
                .cloned()
        };
        let mut old = known(self);
        if old.is_none() {
            self.load_steps(&[(run, &step.key)]).await?;
            old = known(self);
        }
        let ordinal = match old {
            Some(old) if old.is_final => {
                return Err(Error::Conflict {
                    what: format!("step `{}` of {run}", step.key),
                });
            }
            Some(old) => old.ordinal,
            None => {
                let slot = self.touch(run, Dirty::Counts)?;
                slot.record.steps += 1;
                slot.record.steps
            }
        };
        let key = step.key.clone();
        let step = StepSlot {
            ordinal,
            is_final: !matches!(step.outcome, StepOutcome::Started { .. }),
            record: Some(step),
        };
        self.set_step(run, step, key);
        Ok(())
    }

    /// Saves a checkpoint, and drops the one that is one too many.
    fn save(&mut self, run: RunId, state: Json) -> Result<()> {
        let slot = self.touch(run, Dirty::Counts)?;
        slot.record.checkpoint += 1;
        let seq = slot.record.checkpoint;
        self.added.checkpoints.push((run, seq, state, self.now));
        if let Some(over) = seq
            .checked_sub(self.rules.checkpoints_kept)
            .filter(|over| *over > 0)
        {
            self.added.dropped.push((run, over));
        }
        Ok(())
    }

    pub(crate) async fn write(
        &mut self,
        run: RunId,
        epoch: u64,
        writes: Vec<StateWrite>,
    ) -> Result<u64> {
        let lost = Error::LeaseLost { run, epoch };
        if !self.exists(run).await? {
            return Err(lost);
        }
        let record = self.record(run)?;
        if record.state != RunState::Running || record.epoch != epoch {
            return Err(lost);
        }
        for write in writes {
            match write {
                StateWrite::Step(step) => self.record_step(run, step).await?,
                StateWrite::Checkpoint(state) => self.save(run, state)?,
            }
        }
        Ok(self.record(run)?.checkpoint)
    }

    /// Forgets a run's history. The rows go after everything else is written.
    pub(crate) async fn forget(&mut self, run: RunId) -> Result<()> {
        if self.exists(run).await? {
            let record = &mut self.touch(run, Dirty::Counts)?.record;
            record.steps = 0;
            record.checkpoint = 0;
        }
        Ok(())
    }

    /// Queues a run with the history of another one, as of before this batch. The copied records keep
    /// their times: they tell when things were done, and nothing is done again.
    pub(crate) async fn fork(&mut self, fork: ReadyFork) -> Result<Submitted> {
        if !self.exists(fork.source).await? {
            return Err(Error::RunNotFound(fork.source));
        }
        let submitted = self.submit(vec![fork.entry]).await?;
        let Some(submitted) = submitted.first().copied().filter(|new| new.created) else {
            return submitted
                .first()
                .copied()
                .ok_or(Error::RunNotFound(fork.source));
        };
        let history = self.db.history(fork.source).await?;
        for step in history
            .journal
            .into_iter()
            .take(fork.steps.unwrap_or(usize::MAX))
        {
            if fork.steps.is_some() || matches!(step.outcome, StepOutcome::Completed { .. }) {
                self.record_step(submitted.run, step).await?;
            }
        }
        if let Some(checkpoint) = history.checkpoint.filter(|_| fork.steps.is_none()) {
            self.save(submitted.run, checkpoint.state)?;
        }
        Ok(submitted)
    }
}
