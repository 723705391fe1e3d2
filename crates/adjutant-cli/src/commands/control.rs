//! `agent runs …`: acting on runs from outside.

use std::{path::Path, sync::Arc, time::Duration};

use adjutant::{
    Store,
    core::{Decision, Json, RunId, RunState, Timestamp},
    queue::{Command, NewRun, Origin, PrunePolicy, RunView},
};
use clap::Args;

use crate::{
    agents::Found,
    approvals::{self, Questions},
    context::Context,
    drive::{self, Drive, News},
    exit::Exit,
    failure::{Failure, NO_APPROVAL_PENDING, Result, USAGE},
    ids, input,
    recovery::{self, Holder},
    units::parse_duration,
    view::RunJson,
    workers::{self, Life},
};

use super::{runs::manifest_of, show};

/// Finished runs that are forgotten at once, so that other users of the store are not kept waiting.
const PRUNED_AT_ONCE: usize = 1000;

/// Runs whose leases or timers are over that are looked at in passing.
const SWEPT_AT_ONCE: usize = 1000;

#[derive(Debug, Args)]
pub struct Cancel {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// Why, for the records
    #[arg(long, default_value = "cancelled by the user")]
    reason: String,
}

impl Cancel {
    pub async fn run(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let run = ids::resolve(&**store, &self.run).await?;
        let command = Command::Cancel {
            reason: self.reason,
        };
        act(context, store, run, command, "is told to stop").await
    }
}

pub async fn pause(context: &Context, store: &Arc<dyn Store>, run: RunId) -> Result<Exit> {
    act(
        context,
        store,
        run,
        Command::Pause,
        "pauses after its current step",
    )
    .await
}

pub async fn redrive(context: &Context, store: &Arc<dyn Store>, run: RunId) -> Result<Exit> {
    act(context, store, run, Command::Redrive, "is queued again").await
}

/// Acts on a run and tells how it stands now; `else_told` is for what only takes effect later.
async fn act(
    context: &Context,
    store: &Arc<dyn Store>,
    run: RunId,
    command: Command,
    else_told: &str,
) -> Result<Exit> {
    // A run whose worker fell silent is taken from it first, so that the command takes effect without another worker.
    store.sweep(SWEPT_AT_ONCE, Duration::ZERO).await?;
    let record = store.control(run, command).await?;
    if context.out.is_structured() {
        context.out.value(&RunJson::record(&record))?;
        return Ok(Exit::Ok);
    }
    let told = match record.state {
        RunState::Running | RunState::Pending => else_told.to_owned(),
        state => format!("is {state}"),
    };
    context.out.note(&format!("{run} {told}"));
    Ok(Exit::Ok)
}

#[derive(Debug, Args)]
pub struct Resume {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// Do not work on it here, leave it to a worker
    #[arg(short, long)]
    detach: bool,
    /// Form of the news on stderr
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    events: News,
}

impl Resume {
    pub async fn run(self, context: &Context, store: Arc<dyn Store>) -> Result<Exit> {
        let run = ids::resolve(&*store, &self.run).await?;
        let mut view = whole(&store, run).await?;
        if view.run.state == RunState::Paused || self.detach || view.run.state.is_settled() {
            store.control(run, Command::Resume).await?;
            view = whole(&store, run).await?;
        }
        let out = &context.out;
        if self.detach {
            out.note(&format!(
                "{run} is {}; a worker takes it: agent worker PATH",
                view.run.state
            ));
            return Ok(Exit::Ok);
        }
        let folder = drive::notes_folder(context);
        let notes = folder.as_deref().map(workers::notes).unwrap_or_default();
        let agent = view.run.agent.as_str();
        let serving = notes.iter().find(|note| {
            note.run.is_none()
                && note.agents.iter().any(|key| key == agent)
                && note.life() == Life::Alive
        });
        if let Some(note) = serving {
            out.note(&format!(
                "{run} goes on in worker {} (pid {}); watch it: agent runs events {run} --follow",
                note.worker, note.pid
            ));
            return Ok(Exit::Ok);
        }
        match recovery::holder(&view.run, &notes) {
            Holder::Nobody => {}
            Holder::Alive(worker) => {
                out.note(&format!(
                    "worker {worker} is at it; watch it: agent runs events {run} --follow"
                ));
                return Ok(Exit::Ok);
            }
            Holder::Dead(lease) => {
                out.note(&format!("{run} has a dead worker; taking it over"));
                recovery::give_back(&store, lease).await?;
                view = whole(&store, run).await?;
            }
        }
        self.work(context, store, &view).await
    }

    async fn work(&self, context: &Context, store: Arc<dyn Store>, view: &RunView) -> Result<Exit> {
        let run = view.run.id;
        let Some(manifest) = manifest_of(view) else {
            context.out.note(&format!(
                "{run} is queued; serve its agent with: agent worker PATH"
            ));
            return Ok(Exit::Ok);
        };
        let agent = Found::at(context, Path::new(&manifest))?;
        agent.build(context).await?;
        context.out.note(&format!(
            "{run} of {}, {} steps done",
            agent.key(),
            view.run.steps
        ));
        let drive = Drive {
            context,
            store,
            agents: &[agent],
            run,
            after: view.run.last_seq,
            news: if context.out.quiet {
                News::None
            } else {
                self.events
            },
            until_input: false,
        };
        show::ended(context, run, Box::pin(drive::drive(drive)).await?)
    }
}

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
        "queued; work on it here with: agent runs resume {run}"
    ));
    Ok(Exit::Ok)
}

#[derive(Debug, Args)]
pub struct Signal {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// The signal's name
    name: String,
    /// What it says: JSON, or text
    payload: Option<String>,
}

impl Signal {
    pub async fn run(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let run = ids::resolve(&**store, &self.run).await?;
        let payload = self.payload.map_or_else(Json::null, |text| {
            Json::parse(text.clone()).unwrap_or_else(|_| Json::from(text.as_str()))
        });
        let told = format!("has the signal {}", self.name);
        act(
            context,
            store,
            run,
            Command::Signal {
                name: self.name,
                payload,
            },
            &told,
        )
        .await
    }
}

#[derive(Debug, Args)]
pub struct Answer {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// The question's key [default: the only open question]
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Why
    #[arg(long)]
    comment: Option<String>,
    /// Data for the agent, such as edited arguments
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
}

impl Answer {
    pub async fn run(
        self,
        context: &Context,
        store: &Arc<dyn Store>,
        approved: bool,
    ) -> Result<Exit> {
        let run = ids::resolve(&**store, &self.run).await?;
        let data = self
            .data
            .as_deref()
            .map(|text| input::json_argument("--data", text))
            .transpose()?;
        let key = self.question(store, run).await?;
        let decision = Decision {
            approved,
            by: approvals::user(),
            comment: self.comment,
            data: data.unwrap_or_default(),
            expired: false,
        };
        approvals::answer(&**store, run, &key, &decision).await?;
        let word = if approved { "approved" } else { "denied" };
        if context.out.is_structured() {
            context
                .out
                .value(&serde_json::json!({ "run_id": run, "key": key, "decision": decision }))?;
        } else {
            context.out.note(&format!("{run}: {key} is {word}"));
        }
        Ok(Exit::Ok)
    }

    /// The key to answer. A question nobody has asked yet must not be answered by a slip of the finger.
    async fn question(&self, store: &Arc<dyn Store>, run: RunId) -> Result<String> {
        let questions = Questions::of(store, run).await?;
        let open: Vec<&str> = questions
            .open()
            .map(|question| question.key.as_str())
            .collect();
        let listed = if open.is_empty() {
            "none".to_owned()
        } else {
            open.join(", ")
        };
        let refused = |message: String| {
            Failure::usage(NO_APPROVAL_PENDING, message)
                .because(format!("open questions: {listed}"))
                .hint(format!(
                    "see `agent runs events {run} --types approval.requested,approval.decided`"
                ))
        };
        match (&self.key, open.as_slice()) {
            (Some(key), open) if open.contains(&key.as_str()) => Ok(key.clone()),
            (Some(key), _) => Err(refused(format!(
                "run {run} asks nothing by the key `{key}`"
            ))),
            (None, [key]) => Ok((*key).to_owned()),
            (None, []) => Err(refused(format!("run {run} asks nothing"))),
            (None, _) => Err(refused(format!(
                "run {run} asks more than one thing: name the key"
            ))),
        }
    }
}

#[derive(Debug, Args)]
pub struct Prune {
    /// Forget runs that ended longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    older_than: Duration,
}

impl Prune {
    pub async fn run(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let age = i64::try_from(self.older_than.as_micros()).unwrap_or(i64::MAX);
        let finished_before =
            Timestamp::from_micros(recovery::now().as_micros().saturating_sub(age));
        let mut total = 0;
        loop {
            let policy = PrunePolicy {
                finished_before,
                limit: PRUNED_AT_ONCE,
            };
            let pruned = store.prune(policy).await?;
            total += pruned;
            if pruned == 0 {
                break;
            }
        }
        if context.out.is_structured() {
            context.out.value(
                &serde_json::json!({ "pruned": total, "finished_before": finished_before }),
            )?;
        } else {
            context.out.note(&format!(
                "forgot {total} runs that ended before {finished_before}"
            ));
        }
        Ok(Exit::Ok)
    }
}

async fn whole(store: &Arc<dyn Store>, run: RunId) -> Result<RunView> {
    Ok(store
        .get(run)
        .await?
        .ok_or(adjutant::Error::RunNotFound(run))?)
}
