//! Runs that go to another store, and runs that come from one.

use std::sync::Arc;

use adjutant_core::{Error, Event, NewEvent, Result, RunId, StepOutcome};
use adjutant_events::EventBus;
use adjutant_queue::{Effects, Group, RunRecord, Signal};
use adjutant_store::Package;

use crate::{
    EngineStore,
    batch::{Batch, StepSlot},
    request::Request,
    slot::{Dirty, Slot},
    storage::Storage,
};

/// What belongs to a run and only its writer reads: its mailbox and its fan-outs.
pub(crate) type Belongings = (Vec<Signal>, Vec<(Arc<str>, Group)>);

/// How often a run is read again that has changed meanwhile.
const TRIES: usize = 5;

/// Events read at a time.
const PAGE: usize = 1000;

impl EngineStore {
    /// Reads a run piece by piece, and again if it has changed meanwhile.
    pub(crate) async fn pack(&self, run: RunId) -> Result<Option<Package>> {
        let reads = &self.inner.reads;
        let mut before = reads.view(run).await?;
        for _ in 0..TRIES {
            let Some(view) = before else { return Ok(None) };
            let events = self.events(&view.run).await?;
            let mut checkpoints = reads.checkpoints(run, usize::MAX >> 1).await?;
            checkpoints.reverse();
            let journal = reads.history(run).await?.journal;
            let (signals, groups) = self.ask(|reply| Request::Belongings(run, reply)).await?;
            let after = reads.view(run).await?;
            if after.as_ref() == Some(&view) {
                return Ok(Some(Package {
                    run: view.run,
                    payload: view.payload,
                    outcome: view.outcome,
                    signals,
                    groups,
                    journal,
                    checkpoints,
                    events,
                }));
            }
            before = after;
        }
        Err(Error::Conflict {
            what: format!("{run}, which changes while it is read"),
        })
    }

    /// The events that are kept, from the first.
    async fn events(&self, run: &RunRecord) -> Result<Vec<Event>> {
        let mut events: Vec<Event> = Vec::new();
        let mut after = 0;
        while after < run.last_seq {
            match self.read(run.id, after, PAGE).await {
                Ok(page) if page.is_empty() => break,
                Ok(page) => events.extend(page),
                Err(Error::Pruned { first, .. }) if first > after + 1 => {
                    after = first - 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            after = events.last().map_or(after, |event| event.seq);
        }
        Ok(events)
    }
}

impl<S: Storage> Batch<'_, S> {
    pub(crate) async fn belongings(&mut self, run: RunId) -> Result<Belongings> {
        if !self.exists(run).await? {
            return Err(Error::RunNotFound(run));
        }
        let signals = self.mailbox(run).await?;
        let mut names: Vec<Arc<str>> = Vec::new();
        for (_, group) in self.db.children(run).await? {
            if !names.contains(&group) {
                names.push(group);
            }
        }
        let mut groups = Vec::with_capacity(names.len());
        for name in names {
            if let Some(group) = self.group(run, &name).await? {
                groups.push((name, group));
            }
        }
        Ok((signals, groups))
    }

    pub(crate) async fn import(&mut self, package: Package) -> Result<()> {
        if self.exists(package.run.id).await? {
            self.bring_up(package)
        } else {
            self.take_over(package).await
        }
    }

    /// A run that is new here.
    async fn take_over(&mut self, package: Package) -> Result<()> {
        let run = package.run.id;
        if let Some(key) = package.run.idempotency_key.as_deref() {
            if !self.keys.contains_key(key) {
                self.load_keys(&[key]).await?;
            }
            if self.keys.get(key).is_some_and(Option::is_some) {
                return Err(Error::Conflict {
                    what: format!("idempotency key `{key}`"),
                });
            }
        }
        if let Some(parent) = &package.run.parent
            && !self.exists(parent.run).await?
        {
            return Err(Error::Invalid {
                field: "parent",
                problem: format!("there is no run {}", parent.run),
            });
        }
        let mut record = package.run;
        record.steps = count(package.journal.len());
        record.unread_signals = count(package.signals.len());
        self.added.payloads.push((run, package.payload.clone()));
        self.create(Box::new(Slot::new(record, package.payload)));
        for (n, step) in package.journal.into_iter().enumerate() {
            let key = step.key.clone();
            let step = StepSlot {
                ordinal: count(n) + 1,
                is_final: !matches!(step.outcome, StepOutcome::Started { .. }),
                record: Some(step),
            };
            self.set_step(run, step, key);
        }
        for (key, group) in &package.groups {
            self.set_fanout(run, key, *group);
        }
        let saved = package.checkpoints.into_iter();
        self.added
            .checkpoints
            .extend(saved.map(|saved| (run, saved.seq, saved.state, saved.saved_at)));
        let signals = package.signals.into_iter();
        self.added
            .signals
            .extend(signals.map(|signal| (run, signal)));
        self.add_copies(run, package.events);
        let effects = Effects {
            outcome: package.outcome,
            ..Effects::default()
        };
        self.carry_out(run, None, effects)
    }

    /// A run that was here before.
    fn bring_up(&mut self, package: Package) -> Result<()> {
        let run = package.run.id;
        let known = self.record(run)?.clone();
        let changed = package.replaces(&known)?;
        let mut events = package.events;
        events.retain(|event| event.seq > known.last_seq);
        if let Some(record) = changed {
            let effects = Effects {
                outcome: package.outcome,
                ..Effects::default()
            };
            self.decide(run, Dirty::Whole, |old| {
                *old = record;
                Ok(effects)
            })?;
        }
        if let Some(last) = events.last().map(|event| event.seq) {
            self.touch(run, Dirty::Counts)?.record.last_seq = last;
            self.add_copies(run, events);
        }
        Ok(())
    }

    fn add_copies(&mut self, run: RunId, events: Vec<Event>) {
        self.added.events.extend(events.into_iter().map(|event| {
            let copy = NewEvent {
                event_type: event.event_type,
                visibility: event.visibility,
                payload: event.payload,
            };
            (run, event.seq, copy, event.timestamp)
        }));
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
