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
    /// How often others have been heard of.
    heard: u64,
}

impl Recent {
    pub(crate) fn look(&self, run: RunId) -> Option<Known> {
        let runs = self.runs();
        runs.young.get(&run).or_else(|| runs.old.get(&run)).cloned()
    }

    /// How often others have been heard of; to be asked before a batch begins.
    pub(crate) fn heard(&self) -> u64 {
        self.runs().heard
    }

    /// Notes how a batch has left these runs; `None` is not known. If others have been heard of since it began,
    /// they may have changed the runs after it.
    pub(crate) fn note(&self, left: Vec<(RunId, Option<Known>)>, heard: u64) {
        let mut runs = self.runs();
        let current = runs.heard == heard;
        for (run, known) in left {
            runs.old.remove(&run);
            match known.filter(|_| current) {
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
        known.heard += 1;
        for run in runs {
            known.young.remove(run);
            known.old.remove(run);
        }
    }

    pub(crate) fn clear(&self) {
        let mut runs = self.runs();
        *runs = Generations {
            heard: runs.heard + 1,
            ..Generations::default()
        };
    }

    fn runs(&self) -> MutexGuard<'_, Generations> {
        // No panic can leave the maps half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_did_after_a_batch_is_not_covered_by_what_the_batch_knew() {
        let (recent, run) = (Recent::default(), RunId::new());
        let heard = recent.heard();
        recent.forget(&[run]);
        recent.note(vec![(run, Some(Known::Going))], heard);
        assert!(recent.look(run).is_none());
        recent.note(vec![(run, Some(Known::Going))], recent.heard());
        assert!(matches!(recent.look(run), Some(Known::Going)));
        recent.clear();
        assert!(recent.look(run).is_none());
    }

    #[test]
    fn the_number_of_runs_known_is_bounded_and_the_latest_are_kept() {
        let recent = Recent::default();
        let runs: Vec<RunId> = (0..10 * GENERATION).map(|_| RunId::new()).collect();
        for run in &runs {
            recent.note(vec![(*run, Some(Known::Going))], recent.heard());
        }
        let known = runs.iter().filter(|run| recent.look(**run).is_some());
        assert!(known.count() <= 2 * GENERATION);
        assert!(
            runs[9 * GENERATION..]
                .iter()
                .all(|run| recent.look(*run).is_some())
        );
    }
}
