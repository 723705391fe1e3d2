//! Runs that go to another store, and runs that come from one.

use adjutant_core::{Result, RunId, Timestamp};

use super::Inner;
use crate::Package;

impl Inner {
    pub(super) fn export(&self, run: RunId) -> Result<Option<Package>> {
        let Some(view) = self.queue.view(run) else {
            return Ok(None);
        };
        let (signals, groups) = self.queue.belongings(run);
        let mut checkpoints = self.logs.journals.checkpoints(run, usize::MAX);
        checkpoints.reverse();
        let trimmed = self.logs.events.trimmed(run);
        Ok(Some(Package {
            run: view.run,
            payload: view.payload,
            outcome: view.outcome,
            signals,
            groups,
            journal: self.logs.journals.history(run).journal,
            checkpoints,
            events: self.logs.events.read(run, trimmed, usize::MAX)?,
        }))
    }

    pub(super) fn import(&mut self, package: Package, now: Timestamp) -> Result<()> {
        let run = package.run.id;
        if let Some(known) = self.queue.record(run) {
            let last = known.last_seq;
            let changed = package.replaces(known)?;
            let mut events = package.events;
            events.retain(|event| event.seq > last);
            if let Some(new) = events.last().map(|event| event.seq) {
                self.logs.events.restore(run, events, new);
                if let Some(record) = self.queue.record_mut(run) {
                    record.last_seq = new;
                }
            }
            if let Some(mut record) = changed {
                record.last_seq = self.logs.events.last(run).max(record.last_seq);
                self.queue
                    .replace(record, package.outcome, now, &mut self.logs);
            }
            return Ok(());
        }
        let last = package.run.last_seq;
        let belongings = (package.signals, package.groups);
        let mut record = package.run;
        record.steps = u64::try_from(package.journal.len()).unwrap_or(u64::MAX);
        record.unread_signals = u64::try_from(belongings.0.len()).unwrap_or(u64::MAX);
        let told = (record, package.payload);
        // What is kept of it comes first: a run that has ended may be forgotten at once.
        self.logs.events.restore(run, package.events, last);
        self.logs
            .journals
            .restore(run, package.journal, package.checkpoints);
        let taken = self
            .queue
            .take_over(told, package.outcome, belongings, now, &mut self.logs);
        if taken.is_err() {
            self.logs.events.forget(run);
            self.logs.journals.forget(run);
        }
        taken
    }
}
