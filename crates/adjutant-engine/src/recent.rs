//! What the writer has lately made of runs: enough to tell whether one is settled without a look at the database.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use adjutant_core::{IdMap, RunId};
use adjutant_queue::RunView;

/// Runs known, in each of two generations.
const GENERATION: usize = 2048;

/// A run as this process has left it.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// It is not settled.
    Going,
    /// It has ended.
    Ended(Arc<RunView>),
}

/// Good as long as nobody else writes; who hears of that calls [`Recent::forget`] or [`Recent::clear`].
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: IdMap<RunId, Known>,
    old: IdMap<RunId, Known>,
}

impl Recent {
    pub(crate) fn look(&self, run: RunId) -> Option<Known> {
        let runs = self.runs();
        runs.young.get(&run).or_else(|| runs.old.get(&run)).cloned()
    }

    /// Notes how a batch has left these runs; `None` is not known.
    pub(crate) fn note(&self, left: Vec<(RunId, Option<Known>)>) {
        let mut runs = self.runs();
        for (run, known) in left {
            runs.old.remove(&run);
            match known {
                Some(known) => runs.young.insert(run, known),
                None => runs.young.remove(&run),
            };
            if runs.young.len() >= GENERATION {
                runs.old = mem::take(&mut runs.young);
            }
        }
    }

    pub(crate) fn forget(&self, runs: &[RunId]) {
        let mut known = self.runs();
        for run in runs {
            known.young.remove(run);
            known.old.remove(run);
        }
    }

    pub(crate) fn clear(&self) {
        *self.runs() = Generations::default();
    }

    fn runs(&self) -> MutexGuard<'_, Generations> {
        // No panic can leave the maps half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
