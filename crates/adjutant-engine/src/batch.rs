//! One group of requests over the records that they concern: loaded as needed, changed in memory, and
//! written together at the end. A request that fails is undone as if it had not been.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use adjutant_core::{Error, IdMap, IdSet, Outcome, Result, RunId, RunState, StepRecord, Timestamp};
use adjutant_queue::{Group, RunRecord, Signal};

use crate::{
    cache::Cache,
    effects::Todo,
    reply::again,
    slot::{Dirty, Place, Slot},
    storage::{Added, Loaded, Storage},
    undo::Undo,
};

/// A step as far as a batch has to know it.
#[derive(Debug, Clone)]
pub(crate) struct StepSlot {
    pub ordinal: u64,
    pub is_final: bool,
    /// What to write, if anything.
    pub record: Option<StepRecord>,
}

/// A fan-out and whether it has changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fanout {
    pub group: Group,
    pub dirty: bool,
}

/// What is the same for all batches of a store.
#[derive(Clone)]
pub(crate) struct Rules {
    pub checkpoints_kept: u64,
    /// Where the data is, for errors.
    pub location: Arc<str>,
}

pub(crate) struct Batch<'w, S> {
    pub db: &'w mut S,
    pub cache: &'w mut Cache,
    pub rules: Rules,
    pub now: Timestamp,
    pub slots: IdMap<RunId, Box<Slot>>,
    pub absent: IdSet<RunId>,
    /// Runs that are taken to be absent without a look; their write will tell.
    pub assumed: IdSet<RunId>,
    /// Runs whose record is damaged.
    pub unreadable: IdSet<RunId>,
    /// Idempotency keys that were looked up or given away.
    pub keys: HashMap<String, Option<RunId>>,
    pub steps: IdMap<RunId, HashMap<String, StepSlot>>,
    pub fanouts: HashMap<(RunId, Arc<str>), Fanout>,
    /// Children that are new, by parent, in the order in which they came.
    pub spawned: IdMap<RunId, Vec<RunId>>,
    pub added: Added,
    pub todo: Vec<Todo>,
    /// Ready records among the slots, by rank.
    pub ready: BTreeSet<(i64, RunId)>,
    /// Records among the slots that are held back, by concurrency key and rank.
    pub blocked: HashMap<Arc<str>, BTreeSet<(i64, RunId)>>,
    /// By how much the slots differ from the database in running runs of a concurrency key.
    pub running: HashMap<Arc<str>, i64>,
    /// The running runs of a concurrency key in the database.
    pub running_stored: HashMap<Arc<str>, i64>,
    /// Runs that are settled now.
    pub settled: Vec<RunId>,
    /// How runs have ended.
    pub ended: Vec<(RunId, Outcome)>,
    pub request: u64,
    pub undo_log: Vec<Undo>,
}

impl<'w, S: Storage> Batch<'w, S> {
    /// Begins a transaction and loads the records of `ids`; those of `new` are taken to be absent unless kept.
    /// Says also whether others have written since the last one.
    pub(crate) async fn begin(
        db: &'w mut S,
        cache: &'w mut Cache,
        rules: Rules,
        ids: &[RunId],
        new: &[RunId],
    ) -> Result<(Self, bool)> {
        let mut unknown: Vec<RunId> = ids
            .iter()
            .copied()
            .filter(|id| !cache.contains(*id))
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        let begun = db.begin(&unknown).await?;
        if begun.stale || db.is_outdated() {
            cache.clear();
        }
        let mut batch = Self {
            db,
            cache,
            rules,
            now: begun.now,
            slots: IdMap::default(),
            absent: IdSet::default(),
            assumed: IdSet::default(),
            unreadable: IdSet::default(),
            keys: HashMap::new(),
            steps: IdMap::default(),
            fanouts: HashMap::new(),
            spawned: IdMap::default(),
            added: Added::default(),
            todo: Vec::new(),
            ready: BTreeSet::new(),
            blocked: HashMap::new(),
            running: HashMap::new(),
            running_stored: HashMap::new(),
            settled: Vec::new(),
            ended: Vec::new(),
            request: 0,
            undo_log: Vec::new(),
        };
        batch.absent.extend(unknown);
        batch.take_in(begun.runs);
        batch.load(ids).await?;
        for run in new {
            if batch.cache.contains(*run) {
                batch.load(&[*run]).await?;
            } else if !batch.slots.contains_key(run) {
                batch.absent.insert(*run);
                batch.assumed.insert(*run);
            }
        }
        Ok((batch, begun.stale))
    }

    /// Makes slots of what was found. A run that cannot be read stays out: whoever needs it will be told.
    pub(crate) fn take_in(&mut self, found: impl IntoIterator<Item = Loaded>) {
        for loaded in found {
            match loaded {
                Loaded::Run(record, payload) => {
                    self.absent.remove(&record.id);
                    self.put(Box::new(Slot::stored(*record, payload)));
                }
                Loaded::Unreadable(run) => {
                    self.absent.remove(&run);
                    self.unreadable.insert(run);
                }
            }
        }
    }

    fn put(&mut self, slot: Box<Slot>) {
        let place = Place::of(&slot.record);
        self.moved(&slot.record, None, Some(place));
        self.slots.insert(slot.record.id, slot);
    }

    /// Loads records, from memory where it has them.
    pub(crate) async fn load(&mut self, ids: &[RunId]) -> Result<()> {
        let mut unknown = Vec::new();
        for id in ids {
            if self.slots.contains_key(id) || self.absent.contains(id) {
                continue;
            }
            match self.cache.take(*id) {
                Some(slot) => self.put(slot),
                None => unknown.push(*id),
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        unknown.sort_unstable();
        unknown.dedup();
        let found = self.db.runs(&unknown).await?;
        self.absent.extend(unknown);
        self.take_in(found);
        Ok(())
    }

    /// Looks for a run that was only taken to be absent, where no write is going to tell.
    pub(crate) async fn look_for(&mut self, run: RunId) -> Result<()> {
        if self.assumed.remove(&run) && self.absent.remove(&run) {
            self.load(&[run]).await?;
        }
        Ok(())
    }

    /// Forgets which runs were taken to be absent and are not written: others may need one of them.
    pub(crate) fn assume_nothing(&mut self) {
        for run in self.assumed.drain() {
            if !self.slots.contains_key(&run) {
                self.absent.remove(&run);
            }
        }
    }

    /// Whether the run exists.
    pub(crate) async fn exists(&mut self, run: RunId) -> Result<bool> {
        if !self.slots.contains_key(&run) {
            self.load(&[run]).await?;
        }
        if self.slots.contains_key(&run) {
            return Ok(true);
        }
        if self.absent.contains(&run) {
            return Ok(false);
        }
        Err(Error::Corrupt {
            location: self.rules.location.to_string(),
            problem: format!("the record of {run} cannot be read"),
        })
    }

    /// The record of a run that was loaded.
    pub(crate) fn record(&self, run: RunId) -> Result<&RunRecord> {
        let slot = self.slots.get(&run).ok_or(Error::RunNotFound(run))?;
        Ok(&slot.record)
    }

    /// A slot to change; its present shape is kept until the request is through.
    pub(crate) fn touch(&mut self, run: RunId, dirty: Dirty) -> Result<&mut Slot> {
        let slot = self.slots.get_mut(&run).ok_or(Error::RunNotFound(run))?;
        if slot.touched != self.request {
            self.undo_log.push(Undo::Slot(run, Some(slot.clone())));
            slot.touched = self.request;
        }
        slot.spoil(dirty);
        Ok(slot)
    }

    /// Puts in a run that is new.
    pub(crate) fn create(&mut self, mut slot: Box<Slot>) {
        let run = slot.record.id;
        slot.touched = self.request;
        self.undo_log.push(Undo::Slot(run, None));
        self.absent.remove(&run);
        if let Some(parent) = &slot.record.parent {
            self.spawned.entry(parent.run).or_default().push(run);
            self.undo_log.push(Undo::Child(parent.run));
        }
        if let Some(key) = &slot.record.idempotency_key {
            self.keys.insert(key.clone(), Some(run));
            self.undo_log.push(Undo::Key(key.clone()));
        }
        self.slots.insert(run, slot);
    }

    pub(crate) fn set_step(&mut self, run: RunId, step: StepSlot, key: String) {
        let old = self.steps.entry(run).or_default().insert(key.clone(), step);
        self.undo_log.push(Undo::Step(run, key, old));
    }

    pub(crate) fn set_fanout(&mut self, run: RunId, key: &Arc<str>, group: Group) {
        let fanout = Fanout { group, dirty: true };
        let old = self.fanouts.insert((run, Arc::clone(key)), fanout);
        self.undo_log.push(Undo::Fanout(run, Arc::clone(key), old));
    }

    /// Follows a record from one place to another; `None` is outside the slots.
    pub(crate) fn moved(
        &mut self,
        record: &RunRecord,
        before: Option<Place>,
        after: Option<Place>,
    ) {
        if before == after {
            return;
        }
        let id = record.id;
        if let Some(place) = before.filter(|place| place.ready) {
            self.ready.remove(&(place.rank, id));
        }
        if let Some(place) = after.filter(|place| place.ready) {
            self.ready.insert((place.rank, id));
        }
        let Some(concurrency) = &record.concurrency else {
            return;
        };
        if let Some(place) = before.filter(|place| place.blocked)
            && let Some(line) = self.blocked.get_mut(&concurrency.key)
        {
            line.remove(&(place.rank, id));
        }
        if let Some(place) = after.filter(|place| place.blocked) {
            let line = self
                .blocked
                .entry(Arc::clone(&concurrency.key))
                .or_default();
            line.insert((place.rank, id));
        }
        if let (Some(before), Some(after)) = (before, after) {
            let runs = |place: Place| i64::from(place.state == RunState::Running);
            let change = runs(after) - runs(before);
            if change != 0 {
                *self
                    .running
                    .entry(Arc::clone(&concurrency.key))
                    .or_default() += change;
            }
        }
    }

    /// The failure of a call to the storage, which ends the batch.
    pub(crate) fn failure(&self) -> Result<()> {
        let failure = self.db.failure();
        failure.map_or(Ok(()), |failure| Err(again(failure.error())))
    }

    /// The runs among the slots that are stored in such a place.
    pub(crate) fn known_where(&self, is: impl Fn(Place) -> bool) -> Vec<RunId> {
        let stored = self
            .slots
            .values()
            .filter(|slot| slot.stored.is_some_and(|stored| is(stored.place)));
        stored.map(|slot| slot.record.id).collect()
    }

    /// The signals that no wait has taken yet.
    pub(crate) async fn mailbox(&mut self, run: RunId) -> Result<Vec<Signal>> {
        let stored = self.slots.get(&run).and_then(|slot| slot.stored);
        let mut signals: Vec<Signal> = Vec::new();
        if stored.is_some_and(|stored| stored.unread > 0) {
            let stored = self.db.signals(&[run]).await?;
            signals.extend(stored.into_iter().map(|(_, signal)| signal));
        }
        let added = self.added.signals.iter().filter(|(to, _)| *to == run);
        signals.extend(added.map(|(_, signal)| signal.clone()));
        signals.retain(|signal| !self.added.taken.contains(&(run, signal.id)));
        Ok(signals)
    }
}
