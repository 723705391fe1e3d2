//! Child runs that are parked: their workers died too often, and their parent waits until somebody acts.

use std::{collections::BTreeSet, time::Duration};

use adjutant::{RunFilter, RunId, RunRecord, RunState, Store, core::RetryAdvice};

use crate::{context::Context, failure::Result, output::Paint};

/// How often somebody who follows a run looks for parked child runs.
pub const LOOK: Duration = Duration::from_secs(3);

/// Child runs of one parent, and parents of one family, that are looked at.
const LOOKED_AT: usize = 100;

/// The parked runs below a run that waits for them, directly or through child runs.
pub async fn below(store: &dyn Store, run: RunId) -> adjutant::Result<Vec<RunRecord>> {
    let mut parked = Vec::new();
    let mut parents = vec![run];
    for _ in 0..LOOKED_AT {
        let Some(parent) = parents.pop() else { break };
        let standing = RunFilter {
            states: vec![RunState::Parked, RunState::Waiting],
            parent: Some(parent),
            limit: LOOKED_AT,
            ..RunFilter::default()
        };
        for child in store.list(standing).await? {
            if child.state == RunState::Parked {
                parked.push(child);
            } else if child.children > 0 {
                parents.push(child.id);
            }
        }
    }
    Ok(parked)
}

/// A parked run and what can be done about it, in lines.
pub fn describe(context: &Context, run: &RunRecord) -> String {
    let (out, id) = (&context.out, run.id);
    format!(
        "{id} of {} is parked: {}\n  try again: {}\n  give it up: {}",
        run.agent,
        run.reason
            .as_deref()
            .unwrap_or("its workers died too often"),
        out.command(&format!("runs redrive {id}")),
        out.command(&format!("runs cancel {id}")),
    )
}

/// Tells of parked child runs, each time one is parked.
#[derive(Debug, Default)]
pub struct Lookout {
    told: BTreeSet<RunId>,
}

impl Lookout {
    pub async fn look(&mut self, context: &Context, store: &dyn Store, run: RunId) -> Result<()> {
        let parked = match below(store, run).await {
            Ok(parked) => parked,
            // The next look comes soon.
            Err(error) if error.retry() != RetryAdvice::Never => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // Who is put back and parked again is told of again.
        self.told
            .retain(|told| parked.iter().any(|child| child.id == *told));
        for child in parked {
            if self.told.insert(child.id) {
                let out = &context.out;
                let sign = out.paint(Paint::Red, "■");
                let lines = describe(context, &child).replace('\n', "\n  ");
                out.tell(&format!("  {sign} {run} waits for a child run: {lines}"));
            }
        }
        Ok(())
    }
}
