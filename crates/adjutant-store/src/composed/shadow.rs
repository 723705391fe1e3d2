//! The copy of a run's record under which others keep what belongs to the run.

use adjutant_core::{Error, Outcome, Result, RunState};
use adjutant_queue::{PrunePolicy, RunFilter, RunRecord, RunView};
use futures::future::{join_all, try_join_all};

use super::ComposedStore;
use crate::{Package, Store};

/// Copies looked at by one prune.
const LOOKED_AT: usize = 10_000;
const PAGE: usize = 1000;

/// The record as the parts see it: driven elsewhere under this epoch, or ended.
pub(super) fn shadow(view: &RunView) -> Package {
    let run = &view.run;
    let ended = run.state.is_terminal();
    Package {
        run: RunRecord {
            state: if ended { run.state } else { RunState::Running },
            held: None,
            wait: None,
            blocked: false,
            not_before: None,
            // What others would act on is the queue's alone.
            concurrency: None,
            parent: None,
            idempotency_key: None,
            last_seq: 0,
            ..run.clone()
        },
        payload: view.payload.clone(),
        outcome: view.outcome.clone(),
        signals: Vec::new(),
        groups: Vec::new(),
        journal: Vec::new(),
        checkpoints: Vec::new(),
        events: Vec::new(),
    }
}

impl ComposedStore {
    /// Lets the state store know under which epochs these runs are driven from now on, and fills in what it knows of
    /// them.
    pub(super) async fn begin(&self, runs: Vec<(&mut RunRecord, Package)>) -> Result<()> {
        let Some(state) = &self.state else {
            return Ok(());
        };
        let begun = runs.into_iter().map(|(run, package)| async move {
            state.import(package).await?;
            if run.epoch > 1 || run.origin.is_some() {
                self.fill_in(run).await?;
            }
            Ok(())
        });
        try_join_all(begun).await.map(drop)
    }

    /// Fills in how much the state store has of a run.
    pub(super) async fn fill_in(&self, run: &mut RunRecord) -> Result<()> {
        if let Some(state) = &self.state
            && let Some(there) = state.get(run.id).await?
        {
            run.steps = there.run.steps;
            run.checkpoint = there.run.checkpoint;
        }
        Ok(())
    }

    /// Tells the parts that a run has ended, as far as they can be reached: a prune tells them again.
    pub(super) async fn end(&self, view: &RunView) {
        if let Some(state) = &self.state
            && let Err(error) = state.import(shadow(view)).await
        {
            tracing::warn!(run_id = %view.run.id, %error, "failed to tell the state store of a run's end");
        }
    }

    /// Forgets in the parts what the queue has forgotten.
    pub(super) async fn prune_others(&self, policy: &PrunePolicy) -> Result<()> {
        for (_, store) in self.others() {
            self.end_gone(store.as_ref()).await?;
            store.prune(*policy).await?;
        }
        Ok(())
    }

    /// Ends copies of runs that have ended, or are not there any more.
    async fn end_gone(&self, store: &dyn Store) -> Result<()> {
        let mut filter = RunFilter {
            states: vec![RunState::Running],
            limit: PAGE,
            ..RunFilter::default()
        };
        for _ in 0..LOOKED_AT / PAGE {
            let page = store.list(filter.clone()).await?;
            filter.before = page.last().map(|run| run.id);
            let is_last = page.len() < PAGE;
            let ended = page.into_iter().map(|run| self.end_if_gone(store, run));
            join_all(ended).await.into_iter().collect::<Result<()>>()?;
            if is_last {
                break;
            }
        }
        Ok(())
    }

    async fn end_if_gone(&self, store: &dyn Store, run: RunRecord) -> Result<()> {
        let view = match self.queue.get(run.id).await? {
            Some(view) if view.run.state.is_terminal() => view,
            Some(_) => return Ok(()),
            None => gone(run),
        };
        match store.import(shadow(&view)).await {
            // Claimed again meanwhile.
            Err(Error::LeaseLost { .. }) => Ok(()),
            other => other,
        }
    }
}

/// A run that nobody knows any more.
fn gone(run: RunRecord) -> RunView {
    let reason = "forgotten".to_owned();
    RunView {
        outcome: Some(Outcome::Cancelled {
            reason: reason.clone(),
        }),
        payload: adjutant_queue::Payload::default(),
        run: RunRecord {
            state: RunState::Cancelled,
            finished_at: Some(run.created_at),
            reason: Some(reason),
            ..run
        },
    }
}
