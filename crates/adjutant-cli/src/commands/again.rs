//! `agent runs retry` and `fork`: new runs made from old ones.

use std::sync::Arc;

use adjutant::{
    Store,
    core::RunId,
    queue::{NewRun, Origin, RunView},
};
use clap::Args;

use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, Result, USAGE},
    ids,
};

use super::runs::whole;

#[derive(Debug, Args)]
pub struct Again {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
}

impl Again {
    pub async fn run(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let source = ids::resolve(&**store, &self.run).await?;
        let view = whole(store, source).await?;
        if !view.run.state.is_settled() {
            let message = format!("run {source} has not ended: it is {}", view.run.state);
            return Err(Failure::usage(USAGE, message).hint(format!(
                "let it go on with `agent runs resume {source}`, or cancel it first"
            )));
        }
        let run = copy(&view, Origin::RetryOf(source));
        let submitted = store.submit(vec![run]).await?;
        let run = submitted.first().map(|submitted| submitted.run);
        told_new(context, run, &view)
    }
}

#[derive(Debug, Args)]
pub struct Fork {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// Take over this many recorded steps [default: all, and the checkpoint]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
}

impl Fork {
    pub async fn run(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let source = ids::resolve(&**store, &self.run).await?;
        let view = whole(store, source).await?;
        let fork = adjutant::store::Fork {
            source,
            run: copy(&view, Origin::ForkOf(source)),
            steps: self.steps,
        };
        let submitted = store.fork(fork).await?;
        told_new(context, Some(submitted.run), &view)
    }
}

/// A new run like an old one. It has no fingerprint: it is continued by its id.
fn copy(view: &RunView, origin: Origin) -> NewRun {
    let old = &view.run;
    let mut run = NewRun::with_json(old.agent.clone(), view.payload.input.clone());
    let mut metadata: serde_json::Value = view.payload.metadata.to().unwrap_or_default();
    if let Some(map) = metadata.as_object_mut() {
        map.remove("fingerprint");
    }
    run.metadata = metadata.into();
    run.priority = old.priority;
    run.concurrency.clone_from(&old.concurrency);
    run.retry.clone_from(&old.retry);
    run.timeout = old.timeout;
    run.max_deaths = old.max_deaths;
    run.origin = Some(origin);
    run
}

fn told_new(context: &Context, run: Option<RunId>, source: &RunView) -> Result<Exit> {
    let Some(run) = run else { return Ok(Exit::Ok) };
    if context.out.is_structured() {
        context
            .out
            .value(&serde_json::json!({ "run_id": run, "source": source.run.id }))?;
    } else {
        context.out.line(&run.to_string())?;
    }
    context.out.note(&format!(
        "queued; work on it here with: {}",
        context.out.command(&format!("runs resume {run}"))
    ));
    Ok(Exit::Ok)
}
