//! Journals and checkpoints as plain values.

use std::collections::{BTreeMap, VecDeque};

use adjutant_core::{
    Error, IdMap, Json, Limits, Result, RunId, StepOutcome, StepRecord, Timestamp,
};

use crate::{Checkpoint, History, StateWrite};

/// Journals up to this length are searched from front to back; longer ones get an index.
const SMALL: usize = 16;

/// The journal and checkpoints of one run.
#[derive(Debug, Default)]
pub struct Journal {
    steps: Vec<StepRecord>,
    /// Where each key is; only for journals longer than [`SMALL`].
    places: BTreeMap<String, usize>,
    checkpoints: VecDeque<Checkpoint>,
    saved: u64,
}

impl Journal {
    fn place(&self, key: &str) -> Option<usize> {
        if self.steps.len() > SMALL {
            return self.places.get(key).copied();
        }
        self.steps.iter().position(|step| step.key == key)
    }

    fn record(&mut self, step: StepRecord) {
        if let Some(place) = self.place(&step.key) {
            self.steps[place] = step;
            return;
        }
        self.steps.push(step);
        let known = self.places.len();
        if self.steps.len() > SMALL {
            let new = self.steps.iter().enumerate().skip(known);
            let new: Vec<_> = new.map(|(n, step)| (step.key.clone(), n)).collect();
            self.places.extend(new);
        }
    }
}

/// How much a run's journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Journal records.
    pub steps: u64,
    /// Number of the latest checkpoint, 0 for none.
    pub checkpoint: u64,
}

/// Journals and checkpoints of all runs. No lock, no clock, no fencing: the shells around it have those.
#[derive(Debug)]
pub struct JournalCore {
    runs: IdMap<RunId, Journal>,
    checkpoints_kept: usize,
}

impl JournalCore {
    /// Empty; keeps this many checkpoints per run, at least the latest.
    #[must_use]
    pub fn new(checkpoints_kept: usize) -> Self {
        Self {
            runs: IdMap::default(),
            checkpoints_kept: checkpoints_kept.max(1),
        }
    }

    /// Whether these steps can be recorded one after another.
    ///
    /// # Errors
    /// `Conflict` when one of them would replace a final record.
    pub fn check<'a>(
        &self,
        run: RunId,
        steps: &(impl Iterator<Item = &'a StepRecord> + Clone),
    ) -> Result<()> {
        let journal = self.runs.get(&run);
        for (n, step) in steps.clone().enumerate() {
            let recorded = journal
                .and_then(|journal| Some(&journal.steps[journal.place(&step.key)?]))
                .is_some_and(is_final);
            let mut earlier = steps.clone().take(n).filter(|other| other.key == step.key);
            if recorded || earlier.any(is_final) {
                return Err(Error::Conflict {
                    what: format!("step `{}` of {run}", step.key),
                });
            }
        }
        Ok(())
    }

    /// Records a step that has been checked.
    pub fn record(&mut self, run: RunId, step: StepRecord) {
        self.runs.entry(run).or_default().record(step);
    }

    /// Saves a checkpoint.
    pub fn save(&mut self, run: RunId, state: Json, now: Timestamp) {
        let kept = self.checkpoints_kept;
        let journal = self.runs.entry(run).or_default();
        journal.saved += 1;
        if journal.checkpoints.len() == kept {
            journal.checkpoints.pop_front();
        }
        if journal.checkpoints.is_empty() {
            // Most runs save one or a few, and room for more is made when it is needed.
            journal.checkpoints.reserve_exact(1);
        }
        journal.checkpoints.push_back(Checkpoint {
            seq: journal.saved,
            state,
            saved_at: now,
        });
    }

    /// Puts in the journal and the checkpoints, oldest first, of a run that has none here.
    pub fn restore(&mut self, run: RunId, steps: Vec<StepRecord>, checkpoints: Vec<Checkpoint>) {
        if steps.is_empty() && checkpoints.is_empty() {
            return;
        }
        let journal = self.runs.entry(run).or_default();
        steps.into_iter().for_each(|step| journal.record(step));
        journal.saved = checkpoints.last().map_or(0, |latest| latest.seq);
        journal.checkpoints = checkpoints.into();
    }

    /// How much is written for the run.
    #[must_use]
    pub fn written(&self, run: RunId) -> Written {
        self.runs
            .get(&run)
            .map_or_else(Written::default, |journal| Written {
                steps: u64::try_from(journal.steps.len()).unwrap_or(u64::MAX),
                checkpoint: journal.saved,
            })
    }

    /// The journal and the latest checkpoint.
    #[must_use]
    pub fn history(&self, run: RunId) -> History {
        self.runs
            .get(&run)
            .map_or_else(History::default, |journal| History {
                journal: journal.steps.clone(),
                checkpoint: journal.checkpoints.back().cloned(),
            })
    }

    /// The checkpoints that are kept, newest first.
    #[must_use]
    pub fn checkpoints(&self, run: RunId, limit: usize) -> Vec<Checkpoint> {
        let kept = self
            .runs
            .get(&run)
            .map(|journal| journal.checkpoints.iter().rev());
        kept.into_iter().flatten().take(limit).cloned().collect()
    }

    /// Forgets a run. What it had is handed out, to be dropped outside the lock.
    pub fn forget(&mut self, run: RunId) -> Option<Journal> {
        self.runs.remove(&run)
    }
}

fn is_final(step: &StepRecord) -> bool {
    !matches!(step.outcome, StepOutcome::Started { .. })
}

/// Refuses a step with a payload over its limit.
///
/// # Errors
/// `TooLarge`.
pub fn check_step(step: &StepRecord, limits: &Limits) -> Result<()> {
    let payload = match &step.outcome {
        StepOutcome::Started { memo } => memo,
        StepOutcome::Completed { result } => result,
        StepOutcome::Failed { error } => &error.details,
    };
    Limits::check("step", payload, limits.step)
}

/// Refuses a checkpoint over its limit.
///
/// # Errors
/// `TooLarge`.
pub fn check_checkpoint(state: &Json, limits: &Limits) -> Result<()> {
    Limits::check("checkpoint", state, limits.checkpoint)
}

/// Refuses a write with a payload over its limit.
///
/// # Errors
/// `TooLarge`.
pub fn check_write(write: &StateWrite, limits: &Limits) -> Result<()> {
    match write {
        StateWrite::Step(step) => check_step(step, limits),
        StateWrite::Checkpoint(state) => check_checkpoint(state, limits),
    }
}

/// The steps among some writes.
pub fn steps_of(writes: &[StateWrite]) -> impl Iterator<Item = &StepRecord> + Clone {
    writes.iter().filter_map(|write| match write {
        StateWrite::Step(step) => Some(step),
        StateWrite::Checkpoint(_) => None,
    })
}
