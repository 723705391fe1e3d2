//! `agent kill`: ends a run, or everything below it, and tells which runs that were.

use std::{collections::HashSet, sync::Arc, time::Duration};

use adjutant::{
    Error, RunId, RunRecord, RunState, Store,
    queue::{Command, RunFilter},
};
use clap::Args;
use serde::Serialize;

use crate::{context::Context, exit::Exit, failure::Result, ids};

/// Runs read at a time.
const PAGE: usize = 500;

/// Times a tree is looked through while there are new runs in it.
const PASSES: usize = 20;

/// Runs whose leases or timers are over that are looked at in passing.
const SWEPT_AT_ONCE: usize = 1000;

#[derive(Debug, Args)]
pub struct Kill {
    /// The run: an id, its first or last six or more digits, or `last`
    #[arg(value_name = "RUN")]
    run: String,
    /// Everything below it too, also if the run itself has ended
    #[arg(long)]
    tree: bool,
    /// Why, for the records
    #[arg(long)]
    reason: Option<String>,
}

/// A run that was told to stop.
#[derive(Debug, Serialize)]
struct Killed {
    run_id: RunId,
    agent: String,
    was: RunState,
    state: RunState,
}

impl Kill {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let store = context.store().await?;
        let outcome = self.act(context, &store).await;
        context.leave(&*store).await;
        outcome
    }

    async fn act(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let root = ids::resolve(&**store, &self.run).await?;
        // Runs whose workers fell silent are taken from them first, so that it takes effect at once.
        store.sweep(SWEPT_AT_ONCE, Duration::ZERO).await?;
        let reason = told_reason(self.reason.as_deref(), self.tree.then_some(root));
        let killed = match self.tree {
            true => kill_tree(&**store, root, &reason).await?,
            false => kill_one(&**store, root, &reason).await?,
        };
        show(context, &reason, &killed)?;
        Ok(Exit::Ok)
    }
}

/// Who, why, and with which run.
fn told_reason(why: Option<&str>, tree: Option<RunId>) -> String {
    let name = ["USER", "LOGNAME"].into_iter().find_map(|variable| {
        let name = std::env::var(variable).ok()?;
        Some(name).filter(|name| !name.is_empty())
    });
    let who = name.as_deref().unwrap_or("an operator");
    let tree = tree.map_or(String::new(), |root| format!(" with all below {root}"));
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    format!("killed by {who}{tree}{why}")
}

async fn kill_one(store: &dyn Store, run: RunId, reason: &str) -> Result<Vec<Killed>> {
    let Some(view) = store.get(run).await? else {
        return Err(Error::RunNotFound(run).into());
    };
    Ok(kill(store, &view.run, reason).await?.into_iter().collect())
}

/// Ends a run that has not ended, and says how it stands then.
async fn kill(store: &dyn Store, run: &RunRecord, reason: &str) -> Result<Option<Killed>> {
    if run.state.is_terminal() {
        return Ok(None);
    }
    let reason = reason.to_owned();
    let state = match store.control(run.id, Command::Cancel { reason }).await {
        Ok(record) => record.state,
        // It has ended meanwhile: with its parent, or by itself.
        Err(Error::Illegal { .. }) => {
            let now = store.get(run.id).await?;
            now.map_or(RunState::Cancelled, |view| view.run.state)
        }
        Err(error) => return Err(error.into()),
    };
    let is_ours = state == RunState::Cancelled || !state.is_terminal();
    Ok(is_ours.then(|| Killed {
        run_id: run.id,
        agent: run.agent.to_string(),
        was: run.state,
        state,
    }))
}

/// Ends all runs of a tree, from the top, so that no parent goes on with what became of its children; and looks again
/// until none is new: runs that are just being told to stop may still have begun others.
async fn kill_tree(store: &dyn Store, root: RunId, reason: &str) -> Result<Vec<Killed>> {
    let mut killed: Vec<Killed> = Vec::new();
    let mut asked = HashSet::new();
    for _ in 0..PASSES {
        let runs = tree(store, root).await?.into_iter();
        let live = runs.filter(|run| !run.state.is_terminal() && asked.insert(run.id));
        let live: Vec<RunRecord> = live.collect();
        if live.is_empty() {
            break;
        }
        for run in &live {
            killed.extend(kill(store, run, reason).await?);
        }
    }
    Ok(killed)
}

/// A run and all below it, parents first.
async fn tree(store: &dyn Store, root: RunId) -> Result<Vec<RunRecord>> {
    let Some(view) = store.get(root).await? else {
        return Err(Error::RunNotFound(root).into());
    };
    let mut runs = vec![view.run];
    let mut next = 0;
    while let Some((parent, children)) = runs.get(next).map(|run| (run.id, run.children)) {
        next += 1;
        let mut filter = RunFilter {
            parent: Some(parent),
            limit: PAGE,
            ..RunFilter::default()
        };
        let mut more = children > 0;
        while more {
            let page = store.list(filter.clone()).await?;
            filter.before = page.last().map(|run| run.id);
            more = page.len() == PAGE;
            runs.extend(page);
        }
    }
    Ok(runs)
}

fn show(context: &Context, reason: &str, killed: &[Killed]) -> Result<()> {
    if context.out.is_structured() {
        let value = serde_json::json!({ "reason": reason, "runs": killed });
        return context.out.value(&value);
    }
    for one in killed {
        let told = match one.state.is_terminal() {
            true => format!("is {}", one.state),
            false => "is told to stop".to_owned(),
        };
        context
            .out
            .note(&format!("{} ({}) {told}", one.run_id, one.agent));
    }
    context.out.note(&match killed.len() {
        0 => "nothing was left to end".to_owned(),
        1 => format!("1 run {reason}"),
        many => format!("{many} runs {reason}"),
    });
    Ok(())
}
