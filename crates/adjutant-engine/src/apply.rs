//! Requests about the queue, one after another, on a batch.

use std::time::Duration;

use adjutant_core::{Error, NewEvent, Result, RunId, RunState, Timestamp};
use adjutant_queue::{Beat, Command, Disposition, Effects, Lease, RunRecord, Submitted, Swept};

use crate::{
    batch::Batch,
    reply::{Answer, Reply, answer},
    request::{Entry, Request, Sweep},
    slot::{Dirty, Slot},
    storage::Storage,
};

/// The most runs that one sweep deals with, whatever is asked for.
const SWEEP_LIMIT: usize = 10_000;

impl<S: Storage> Batch<'_, S> {
    /// Carries out one request that is neither a claim nor about whole tables. A request that fails leaves nothing behind.
    pub(crate) async fn apply(
        &mut self,
        request: Request,
        sweeps: &mut Vec<Sweep>,
    ) -> Option<Box<dyn Answer>> {
        let start = self.savepoint();
        let (answer, ok) = match request {
            Request::Submit(entries, reply) => finish(reply, self.submit(entries).await),
            Request::Heartbeat(leases, ttl, reply) => {
                finish(reply, self.heartbeat(&leases, ttl).await)
            }
            Request::Settle(lease, end, reply) => finish(reply, self.give_back(&lease, *end).await),
            Request::Control(run, command, reply) => {
                finish(reply, self.control(run, command).await)
            }
            Request::Sweep(limit, reply) => match self.sweep(limit).await {
                Ok(swept) => {
                    sweeps.push((reply, swept, self.now));
                    return None;
                }
                Err(error) => finish(reply, Err(error)),
            },
            Request::Commit(commit, reply) => finish(reply, self.commit(*commit).await),
            Request::Fork(fork, reply) => finish(reply, self.fork(*fork).await),
            Request::Write(run, epoch, writes, reply) => {
                finish(reply, self.write(run, epoch, writes).await)
            }
            Request::Append(run, events, reply) => finish(reply, self.append(run, events).await),
            Request::Belongings(run, reply) => finish(reply, self.belongings(run).await),
            Request::Import(package, reply) => finish(reply, self.import(*package).await),
            Request::Forget(run, reply) => finish(reply, self.forget(run).await),
            Request::Claim(_)
            | Request::Ledger(..)
            | Request::Trim(..)
            | Request::Prune(..)
            | Request::Close(_) => {
                return None;
            }
        };
        if !ok {
            self.undo(&start);
            self.assume_nothing();
        }
        Some(answer)
    }

    /// Looks up idempotency keys.
    pub(crate) async fn load_keys(&mut self, keys: &[&str]) -> Result<()> {
        for key in keys {
            self.keys.insert((*key).to_owned(), None);
        }
        for (key, run) in self.db.keys(keys).await? {
            self.keys.insert(key, Some(run));
        }
        Ok(())
    }

    pub(crate) async fn submit(&mut self, entries: Vec<Entry>) -> Result<Vec<Submitted>> {
        Entry::check_together(&entries)?;
        let mut submitted = Vec::with_capacity(entries.len());
        for entry in entries {
            let known = self.known(&entry).await?;
            if let Some(parent) = &entry.record.parent
                && !self.exists(parent.run).await?
            {
                return Err(Error::Invalid {
                    field: "parent",
                    problem: format!("there is no run {}", parent.run),
                });
            }
            submitted.push(match known {
                Some(run) => Submitted {
                    run,
                    created: false,
                },
                None => Submitted {
                    run: self.insert(entry).await?,
                    created: true,
                },
            });
        }
        Ok(submitted)
    }

    /// The run that was there before under this id or key.
    ///
    /// # Errors
    /// `Conflict` when that one asks for something else.
    pub(crate) async fn known(&mut self, entry: &Entry) -> Result<Option<RunId>> {
        let mut found = self
            .exists(entry.record.id)
            .await?
            .then_some(entry.record.id);
        if found.is_none()
            && let Some(key) = entry.record.idempotency_key.as_deref()
        {
            if !self.keys.contains_key(key) {
                self.load_keys(&[key]).await?;
            }
            found = self.keys.get(key).copied().flatten();
            if found.is_some() {
                // The id goes before the key, and nothing will be written that could tell of it.
                self.look_for(entry.record.id).await?;
                if self.exists(entry.record.id).await? {
                    found = Some(entry.record.id);
                }
            }
        }
        let Some(run) = found else { return Ok(None) };
        // It may be the id of another request's run, which was taken to be new.
        self.look_for(run).await?;
        if !self.exists(run).await? {
            return Err(entry.conflict());
        }
        let payload = self.payload(run).await?;
        match entry.asks_the_same(self.record(run)?, &payload) {
            true => Ok(Some(run)),
            false => Err(entry.conflict()),
        }
    }

    async fn payload(&mut self, run: RunId) -> Result<adjutant_queue::Payload> {
        let known = self.slots.get(&run).and_then(|slot| slot.payload.clone());
        match known {
            Some(payload) => Ok(payload),
            None => {
                let found = self.db.payloads(&[run]).await?.pop();
                Ok(found.map(|(_, payload)| payload).unwrap_or_default())
            }
        }
    }

    /// Puts in a run that is not there yet.
    pub(crate) async fn insert(&mut self, entry: Entry) -> Result<RunId> {
        let Entry {
            record,
            payload,
            effects,
        } = entry;
        let run = record.id;
        if let Some(parent) = &record.parent
            && self.exists(parent.run).await?
        {
            let mut group = self
                .group(parent.run, &parent.group)
                .await?
                .unwrap_or_default();
            group.open += 1;
            self.set_fanout(parent.run, &parent.group, group);
            self.touch(parent.run, Dirty::Counts)?.record.children += 1;
        }
        self.added.payloads.push((run, payload.clone()));
        self.create(Box::new(Slot::new(record, payload)));
        self.carry_out(run, None, effects)?;
        self.follow_up().await?;
        Ok(run)
    }

    async fn heartbeat(&mut self, leases: &[Lease], ttl: Duration) -> Result<Vec<Beat>> {
        let mut beats = Vec::with_capacity(leases.len());
        for lease in leases {
            let known = self.exists(lease.run).await?;
            if !known || self.record(lease.run)?.check(lease).is_err() {
                beats.push(Beat::Lost);
                continue;
            }
            let now = self.now;
            let mut beat = Beat::Lost;
            self.decide(lease.run, Dirty::Whole, |record| {
                beat = record.heartbeat(lease, ttl, now);
                Ok(Effects::default())
            })?;
            beats.push(beat);
        }
        Ok(beats)
    }

    /// Refuses a lease that is not the run's current one.
    pub(crate) async fn check(&mut self, lease: &Lease) -> Result<()> {
        if !self.exists(lease.run).await? {
            return Err(Error::LeaseLost {
                run: lease.run,
                epoch: lease.epoch,
            });
        }
        self.record(lease.run)?.check(lease)
    }

    async fn give_back(&mut self, lease: &Lease, end: Disposition) -> Result<RunRecord> {
        self.check(lease).await?;
        self.settle(lease, end).await?;
        // Taken before the follow-up, as it is this run's own change that was asked for.
        let record = self.record(lease.run)?.clone();
        self.follow_up().await?;
        Ok(record)
    }

    async fn control(&mut self, run: RunId, command: Command) -> Result<RunRecord> {
        let now = self.now;
        self.step(run, |record| record.control(command, now))
            .await?;
        let record = self.record(run)?.clone();
        self.follow_up().await?;
        Ok(record)
    }

    async fn append(&mut self, run: RunId, events: Vec<NewEvent>) -> Result<u64> {
        if !self.exists(run).await? {
            return Err(Error::RunNotFound(run));
        }
        self.add_events(run, events)
    }

    /// Appends events to a run that is loaded.
    pub(crate) fn add_events(&mut self, run: RunId, events: Vec<NewEvent>) -> Result<u64> {
        let now = self.now;
        let dirty = if events.is_empty() {
            Dirty::Clean
        } else {
            Dirty::Counts
        };
        let mut last = self.touch(run, dirty)?.record.last_seq;
        for event in events {
            last += 1;
            self.added.events.push((run, last, event, now));
        }
        self.touch(run, dirty)?.record.last_seq = last;
        Ok(last)
    }

    /// Deals with what is due. When the next run is due is found out after everything is written.
    async fn sweep(&mut self, limit: usize) -> Result<Swept> {
        let limit = limit.min(SWEEP_LIMIT);
        let mut swept = Swept::default();
        for (_, run) in self.due(limit).await? {
            let now = self.now;
            let was = self.record(run)?.clone();
            // Others that were due may have taken it along.
            if was.due_at().is_none_or(|due| due > now) {
                continue;
            }
            self.decide(run, Dirty::Whole, |record| record.sweep(now))?;
            match (was.state, self.record(run)?.state) {
                (RunState::Running, RunState::Parked) => swept.parked += 1,
                (RunState::Running, _) => swept.recovered += 1,
                _ => swept.woken += 1,
            }
            self.follow_up().await?;
        }
        Ok(swept)
    }

    /// The runs that are due, loaded, in order.
    async fn due(&mut self, limit: usize) -> Result<Vec<(Timestamp, RunId)>> {
        let known = self.known_where(|place| place.due.is_some());
        let mut due = self.db.due(self.now, limit, &known).await?;
        due.extend(self.slots.values().filter_map(|slot| {
            let at = slot.record.due_at().filter(|at| *at <= self.now)?;
            Some((at, slot.record.id))
        }));
        due.sort_unstable();
        due.truncate(limit);
        let ids: Vec<RunId> = due.iter().map(|(_, run)| *run).collect();
        self.load(&ids).await?;
        due.retain(|(_, run)| self.slots.contains_key(run));
        Ok(due)
    }
}

fn finish<T: Send + 'static>(reply: Reply<T>, result: Result<T>) -> (Box<dyn Answer>, bool) {
    let ok = result.is_ok();
    (answer(reply, result), ok)
}
