//! The queue as a plain value: all runs, and every call of the contract as a method that takes `now`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use adjutant_core::{
    Error, IdMap, IdSet, Limits, NewEvent, Outcome, Result, RunId, RunState, Timestamp,
};

use super::{
    index::{Index, Place},
    waiters::{Waiters, Wakes},
};
use crate::{
    Beat, ClaimRequest, Claimed, Command, Disposition, Effects, Group, Lease, NewRun, Payload,
    RunRecord, RunView, Signal, Submitted, Swept, WakeOn, group_is_done,
};

/// Where the events of runs go, and whom to tell that a run is forgotten.
pub trait RunLog {
    /// Appends a run's events and returns the number of the last one.
    fn append(&mut self, run: RunId, events: Vec<NewEvent>, now: Timestamp) -> u64;

    /// Forgets everything about a run.
    fn forget(&mut self, run: RunId);
}

/// For a queue without an event log.
impl RunLog for () {
    fn append(&mut self, _run: RunId, _events: Vec<NewEvent>, _now: Timestamp) -> u64 {
        0
    }

    fn forget(&mut self, _run: RunId) {}
}

/// One run with all that belongs to it.
#[derive(Debug)]
pub(super) struct Entry {
    pub record: RunRecord,
    pub payload: Payload,
    pub outcome: Option<Outcome>,
    pub signals: Vec<Signal>,
    pub fan_outs: BTreeMap<std::sync::Arc<str>, FanOut>,
}

/// A fan-out of a run: how far it is, and its children in the order in which they were spawned.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    pub group: Group,
    pub children: Vec<RunId>,
}

impl Entry {
    pub(super) fn view(&self) -> RunView {
        RunView {
            run: self.record.clone(),
            payload: self.payload.clone(),
            outcome: self.outcome.clone(),
        }
    }
}

/// A run on its way in, made before the lock is taken.
#[derive(Debug)]
pub struct Prepared {
    entry: Box<Entry>,
    events: Vec<NewEvent>,
}

impl Prepared {
    /// Checks a run and writes its record and first event.
    ///
    /// # Errors
    /// `Invalid` or `TooLarge`.
    pub fn new(run: NewRun, limits: &Limits, now: Timestamp) -> Result<Self> {
        run.validate(limits)?;
        let (record, effects) = RunRecord::submitted(&run, now);
        let entry = Box::new(Entry {
            record,
            payload: Payload {
                input: run.input,
                metadata: run.metadata,
            },
            outcome: None,
            signals: Vec::new(),
            fan_outs: BTreeMap::new(),
        });
        let events = effects.events;
        Ok(Self { entry, events })
    }

    /// The run.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.entry.record.id
    }

    /// Its record.
    #[must_use]
    pub fn record(&self) -> &RunRecord {
        &self.entry.record
    }

    fn asks_the_same_as(&self, other: &Entry) -> bool {
        let (mine, theirs) = (&self.entry.payload.input, &other.payload.input);
        self.entry.record.agent == other.record.agent
            && (mine == theirs || mine.fingerprint() == theirs.fingerprint())
    }
}

/// All runs of one queue. No lock, no clock, no runtime: the shells around it have those.
#[derive(Debug)]
pub struct QueueCore {
    pub(super) runs: IdMap<RunId, Box<Entry>>,
    pub(super) order: BTreeSet<RunId>,
    pub(super) index: Index,
    pub(super) keys: HashMap<String, RunId>,
    /// Ended runs that may be forgotten, by their end.
    pub(super) ended: BTreeSet<(Timestamp, RunId)>,
    pub(super) keep_finished: usize,
    pub(super) waiters: Waiters,
    pub(super) todo: Vec<super::effects::Todo>,
    /// What the last calls forgot; dropped outside the lock.
    #[allow(
        clippy::vec_box,
        reason = "moving the box under the lock is cheaper than the entry"
    )]
    pub(super) forgotten: Vec<Box<Entry>>,
}

/// What a shell does after it has released the lock.
#[derive(Debug, Default)]
pub struct Afterwards {
    wakes: Wakes,
    #[allow(clippy::vec_box, reason = "as they come")]
    _forgotten: Vec<Box<Entry>>,
}

impl Afterwards {
    /// Wakes those who wait, and drops what was forgotten.
    pub fn run(self) {
        self.wakes.fire();
    }
}

impl QueueCore {
    /// An empty queue that keeps this many finished runs.
    #[must_use]
    pub fn new(keep_finished: usize) -> Self {
        Self {
            runs: IdMap::default(),
            order: BTreeSet::new(),
            index: Index::default(),
            keys: HashMap::new(),
            ended: BTreeSet::new(),
            keep_finished,
            waiters: Waiters::default(),
            todo: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    /// What is to be done outside the lock after the calls so far.
    pub fn afterwards(&mut self) -> Afterwards {
        Afterwards {
            wakes: std::mem::take(&mut self.waiters.wakes),
            _forgotten: std::mem::take(&mut self.forgotten),
        }
    }

    /// Queues runs, all or none.
    ///
    /// # Errors
    /// `Conflict`, or `Invalid` for a parent that is not there.
    pub fn submit(
        &mut self,
        runs: Vec<Prepared>,
        now: Timestamp,
        log: &mut dyn RunLog,
    ) -> Result<Vec<Submitted>> {
        if runs.len() > 1 {
            self.check_batch(&runs)?;
        }
        for run in &runs {
            self.known(run)?;
            self.check_parent(run)?;
        }
        runs.into_iter()
            .map(|run| match self.known(&run)? {
                Some(run) => Ok(Submitted {
                    run,
                    created: false,
                }),
                None => Ok(Submitted {
                    run: self.insert(run, now, log),
                    created: true,
                }),
            })
            .collect()
    }

    /// The run that was there before under this id or key.
    ///
    /// # Errors
    /// `Conflict` when that one asks for something else.
    pub fn known(&self, run: &Prepared) -> Result<Option<RunId>> {
        let record = run.record();
        let by_id = self.runs.get(&record.id);
        let key = record.idempotency_key.as_deref();
        let found = by_id.or_else(|| self.runs.get(self.keys.get(key?)?));
        match found {
            None => Ok(None),
            Some(entry) if run.asks_the_same_as(entry) => Ok(Some(entry.record.id)),
            Some(_) => Err(conflict(record)),
        }
    }

    fn check_parent(&self, run: &Prepared) -> Result<()> {
        match &run.record().parent {
            Some(parent) if !self.runs.contains_key(&parent.run) => Err(Error::Invalid {
                field: "parent",
                problem: format!("there is no run {}", parent.run),
            }),
            _ => Ok(()),
        }
    }

    /// Runs of one batch must agree with each other, too.
    ///
    /// # Errors
    /// `Conflict`.
    pub fn check_batch(&self, runs: &[Prepared]) -> Result<()> {
        let mut ids: IdMap<RunId, &Prepared> = IdMap::default();
        let mut keys: HashMap<&str, &Prepared> = HashMap::new();
        for run in runs {
            let record = run.record();
            let twin = ids.insert(record.id, run);
            let key = record.idempotency_key.as_deref();
            let namesake = key.and_then(|key| keys.insert(key, run));
            for other in twin.into_iter().chain(namesake) {
                if !run.asks_the_same_as(&other.entry) {
                    return Err(conflict(record));
                }
            }
        }
        Ok(())
    }

    /// Puts in a run that is not there yet.
    pub fn insert(&mut self, run: Prepared, now: Timestamp, log: &mut dyn RunLog) -> RunId {
        let Prepared { entry, events } = run;
        let effects = Effects {
            events,
            ..Effects::default()
        };
        let id = entry.record.id;
        if let Some(parent) = &entry.record.parent
            && let Some(above) = self.runs.get_mut(&parent.run)
        {
            above.record.children += 1;
            let fan_out = above.fan_outs.entry(parent.group.clone()).or_default();
            fan_out.group.open += 1;
            fan_out.children.push(id);
        }
        if let Some(key) = &entry.record.idempotency_key {
            self.keys.insert(key.clone(), id);
        }
        self.order.insert(id);
        self.runs.insert(id, entry);
        self.carry_out(id, None, effects, now, log);
        self.follow_up(now, log);
        id
    }

    /// Leases ready runs.
    ///
    /// # Errors
    /// Never for consistent records.
    pub fn claim(
        &mut self,
        request: &ClaimRequest,
        now: Timestamp,
        log: &mut dyn RunLog,
    ) -> Result<Vec<Claimed>> {
        let mut claimed = Vec::new();
        while claimed.len() < request.capacity {
            let wanted = request.capacity - claimed.len();
            let ready = self.index.ready(&request.agents, wanted);
            if ready.is_empty() {
                break;
            }
            claimed.reserve(ready.len());
            for id in ready {
                claimed.extend(self.claim_one(id, request, now, log)?);
            }
        }
        if self.waiters.has_claimers() {
            // This claimer may have been woken for a run that it has no room for.
            let index = &self.index;
            self.waiters
                .pass_on(|agents| index.first_ready(agents).is_some());
        }
        Ok(claimed)
    }

    fn claim_one(
        &mut self,
        id: RunId,
        request: &ClaimRequest,
        now: Timestamp,
        log: &mut dyn RunLog,
    ) -> Result<Option<Claimed>> {
        let Some(entry) = self.runs.get_mut(&id) else {
            return Ok(None);
        };
        let before = Place::of(&entry.record);
        if self.index.is_full(&entry.record) {
            entry.record.blocked = true;
            self.index.moved(Some(before), &entry.record);
            return Ok(None);
        }
        let (lease, effects) = entry.record.claim(request.worker, request.lease_ttl, now)?;
        self.carry_out(id, Some(before), effects, now, log);
        Ok(self.runs.get(&id).map(|entry| Claimed {
            lease,
            run: entry.record.clone(),
            payload: entry.payload.clone(),
            signals: entry.signals.clone(),
        }))
    }

    /// Ends a claimer's wait. If it had been woken and has not looked, the wake-up goes to another one.
    pub(super) fn leave_claim(&mut self, token: super::waiters::Token) {
        if token != 0 && !self.waiters.leave_claimer(token) {
            let index = &self.index;
            self.waiters
                .pass_on(|agents| index.first_ready(agents).is_some());
        }
    }

    /// Wakes everybody who waits: the queue closes.
    pub fn wake_all(&mut self) {
        self.waiters.all();
    }

    /// Extends a lease.
    pub fn heartbeat(&mut self, lease: &Lease, ttl: std::time::Duration, now: Timestamp) -> Beat {
        let Some(entry) = self.runs.get_mut(&lease.run) else {
            return Beat::Lost;
        };
        let before = Place::of(&entry.record);
        let beat = entry.record.heartbeat(lease, ttl, now);
        self.index.moved(Some(before), &entry.record);
        beat
    }

    /// The record of a run on which `lease` is good.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub fn held(&self, lease: &Lease) -> Result<&RunRecord> {
        let lost = Error::LeaseLost {
            run: lease.run,
            epoch: lease.epoch,
        };
        let entry = self.runs.get(&lease.run).ok_or(lost)?;
        entry.record.check(lease)?;
        Ok(&entry.record)
    }

    /// Gives a run back; `pick` takes what the caller wants to know of its record.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub fn settle<R>(
        &mut self,
        lease: &Lease,
        disposition: Disposition,
        now: Timestamp,
        log: &mut dyn RunLog,
        pick: impl FnOnce(&RunRecord) -> R,
    ) -> Result<R> {
        self.held(lease)?;
        let decide = |entry: &mut Entry| {
            let Entry {
                record,
                signals,
                fan_outs,
                ..
            } = entry;
            record.settle(lease, disposition, now, |on| match on {
                WakeOn::At(at) => *at <= now,
                WakeOn::Signal(name) => signals.iter().any(|signal| signal.name == *name),
                WakeOn::Group { key, fail_fast } => {
                    let group = fan_outs.get(key).map(|f| f.group).unwrap_or_default();
                    group_is_done(group, *fail_fast)
                }
            })
        };
        self.change(lease.run, now, log, decide, pick)
    }

    /// Acts on a run from outside.
    ///
    /// # Errors
    /// `RunNotFound`, `Illegal`.
    pub fn control(
        &mut self,
        run: RunId,
        command: Command,
        now: Timestamp,
        log: &mut dyn RunLog,
    ) -> Result<RunRecord> {
        let decide = |entry: &mut Entry| entry.record.control(command, now);
        self.change(run, now, log, decide, Clone::clone)
    }

    /// Deals with what is due, at most `limit` runs.
    ///
    /// # Errors
    /// Never for consistent records.
    pub fn sweep(&mut self, limit: usize, now: Timestamp, log: &mut dyn RunLog) -> Result<Swept> {
        let mut swept = Swept::default();
        for _ in 0..limit {
            let Some((_, id)) = self.index.first_due().filter(|(due, _)| *due <= now) else {
                break;
            };
            let was = self.state(id);
            let decide = |entry: &mut Entry| entry.record.sweep(now);
            let is = self.change(id, now, log, decide, |record| record.state)?;
            match (was, is) {
                (Some(RunState::Running), RunState::Parked) => swept.parked += 1,
                (Some(RunState::Running), _) => swept.recovered += 1,
                _ => swept.woken += 1,
            }
        }
        swept.next_due = self.index.first_due().map(|(due, _)| due);
        Ok(swept)
    }

    fn state(&self, run: RunId) -> Option<RunState> {
        self.runs.get(&run).map(|entry| entry.record.state)
    }

    /// The runs named by a set that are there; for checks.
    #[must_use]
    pub fn ids(&self) -> IdSet<RunId> {
        self.runs.keys().copied().collect()
    }
}

fn conflict(record: &RunRecord) -> Error {
    let what = match &record.idempotency_key {
        Some(key) => format!("idempotency key `{key}`"),
        None => format!("id {}", record.id),
    };
    Error::Conflict { what }
}
