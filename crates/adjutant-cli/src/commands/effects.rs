//! `agent effects …`: calls that may not be made twice and whose outcome nobody knows.

use std::sync::Arc;

use adjutant::{
    RunId, RunRecord, RunState, Store,
    core::{Intent, Json, Resolution, StepKind, StepOutcome, StepRecord},
    queue::{Command, RunFilter},
};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, NO_EFFECT_OPEN, Result, USAGE},
    ids,
    units::show_duration,
};

/// Runs read at a time.
const PAGE: usize = 500;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Effects {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// List calls with effects
    #[command(visible_alias = "ls")]
    List(List),
    /// Say what became of a call
    Resolve(Resolve),
}

#[derive(Debug, Args)]
struct List {
    /// Only this run [default: all runs that have not ended]
    run: Option<String>,
    /// Which calls
    #[arg(long, value_enum, default_value_t)]
    state: State,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
enum State {
    /// A crash or a silence left open whether it happened; the run waits for a word
    #[default]
    Indeterminate,
    /// It was begun and has no answer yet
    Open,
    /// It has an answer
    Done,
    /// It failed
    Failed,
    /// All of them
    All,
}

#[derive(Debug, Args)]
struct Resolve {
    /// The run
    run: String,
    /// The step, as `agent effects` shows it [default: the only open one]
    step: Option<String>,
    /// It has happened, and this is its result: JSON, or text
    #[arg(long, value_name = "RESULT", group = "how")]
    done: Option<String>,
    /// It has not happened, or may happen twice: make the call again
    #[arg(long, group = "how")]
    retry: bool,
    /// It has failed, for this reason
    #[arg(long, value_name = "REASON", group = "how")]
    fail: Option<String>,
}

/// A call.
#[derive(Debug, Serialize)]
struct Shown {
    run_id: RunId,
    agent: String,
    step: String,
    kind: StepKind,
    state: State,
    since: adjutant::Timestamp,
}

impl Effects {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let store = context.store().await?;
        let outcome = match self.command {
            None => self.list.act(context, &store).await,
            Some(Sub::List(list)) => list.act(context, &store).await,
            Some(Sub::Resolve(resolve)) => resolve.act(context, &store).await,
        };
        context.leave(&*store).await;
        outcome
    }
}

impl List {
    async fn act(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let runs = match &self.run {
            Some(run) => {
                let run = ids::resolve(&**store, run).await?;
                store
                    .get(run)
                    .await?
                    .map(|view| view.run)
                    .into_iter()
                    .collect()
            }
            None => unended(&**store).await?,
        };
        let mut shown = Vec::new();
        for run in runs {
            let calls = effects(&**store, &run).await?;
            shown.extend(
                calls
                    .into_iter()
                    .filter(|call| self.state == State::All || call.state == self.state),
            );
        }
        if context.out.is_structured() {
            context.out.value(&shown)?;
            return Ok(Exit::Ok);
        }
        if shown.is_empty() {
            context.out.note("there are none");
            return Ok(Exit::Ok);
        }
        let now = adjutant::core::Clock::now(&adjutant::core::SystemClock);
        let rows = shown.iter().map(|call| {
            let state = serde_json::to_value(call.state).unwrap_or_default();
            vec![
                call.run_id.to_string(),
                call.agent.clone(),
                call.step.clone(),
                state.as_str().unwrap_or_default().to_owned(),
                show_duration(now.since(call.since)),
            ]
        });
        context
            .out
            .table(&["RUN", "AGENT", "STEP", "STATE", "SINCE"], rows.collect())?;
        if shown.iter().any(|call| call.state == State::Indeterminate) {
            let command = context.out.command("effects resolve RUN STEP");
            context.out.note(&format!(
                "say what became of one: {command} --done RESULT | --retry | --fail REASON"
            ));
        }
        Ok(Exit::Ok)
    }
}

impl Resolve {
    async fn act(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let resolution = match (self.done, self.retry, self.fail) {
            (Some(result), ..) => Resolution::Done {
                result: serde_json::from_str(&result).unwrap_or(serde_json::Value::String(result)),
            },
            (_, true, _) => Resolution::Retry,
            (.., Some(message)) => Resolution::Fail { message },
            _ => {
                return Err(Failure::usage(USAGE, "say what became of the call")
                    .hint("use one of --done RESULT, --retry and --fail REASON"));
            }
        };
        let run = ids::resolve(&**store, &self.run).await?;
        let record = store.get(run).await?.map(|view| view.run);
        let calls = match &record {
            Some(record) => effects(&**store, record).await?,
            None => Vec::new(),
        };
        let open: Vec<&str> = calls
            .iter()
            .filter(|call| call.state == State::Indeterminate)
            .map(|call| call.step.as_str())
            .collect();
        let step = match (&self.step, open.as_slice()) {
            (Some(step), open) if open.contains(&step.as_str()) => step.clone(),
            (None, [only]) => (*only).to_owned(),
            (_, open) => {
                let listed = if open.is_empty() {
                    "none".to_owned()
                } else {
                    open.join(", ")
                };
                let message = format!("run {run} has no such call whose outcome is open");
                return Err(Failure::usage(NO_EFFECT_OPEN, message)
                    .because(format!("open: {listed}"))
                    .hint("`agent effects` lists them, in all runs"));
            }
        };
        let payload = Json::from_value(&resolution).unwrap_or_default();
        let name = Intent::signal(&step);
        store
            .control(run, Command::Signal { name, payload })
            .await?;
        if context.out.is_structured() {
            context.out.value(
                &serde_json::json!({ "run_id": run, "step": step, "resolution": resolution }),
            )?;
        } else {
            context.out.note(&format!(
                "{run}: {step} is resolved; a worker goes on with the run"
            ));
        }
        Ok(Exit::Ok)
    }
}

async fn unended(store: &dyn Store) -> Result<Vec<RunRecord>> {
    let mut runs: Vec<RunRecord> = Vec::new();
    loop {
        let page = store
            .list(RunFilter {
                states: vec![
                    RunState::Running,
                    RunState::Waiting,
                    RunState::InputRequired,
                    RunState::Pending,
                    RunState::Paused,
                    RunState::Parked,
                ],
                before: runs.last().map(|run| run.id),
                limit: PAGE,
                ..RunFilter::default()
            })
            .await?;
        let is_last = page.len() < PAGE;
        runs.extend(page);
        if is_last {
            return Ok(runs);
        }
    }
}

async fn effects(store: &dyn Store, run: &RunRecord) -> Result<Vec<Shown>> {
    let journal = store.history(run.id).await?.journal;
    let shown = |step: StepRecord| {
        let state = state(&step)?;
        Some(Shown {
            run_id: run.id,
            agent: run.agent.to_string(),
            step: step.key,
            kind: step.kind,
            state,
            since: step.started_at,
        })
    };
    Ok(journal.into_iter().filter_map(shown).collect())
}

/// How far a step with an effect has come; none for other steps.
fn state(step: &StepRecord) -> Option<State> {
    match &step.outcome {
        StepOutcome::Started { memo } => match memo.to::<Intent>().ok()? {
            Intent::Open => Some(State::Open),
            Intent::Asked => Some(State::Indeterminate),
            Intent::Withdrawn => None,
        },
        _ if step.kind != StepKind::Tool => None,
        StepOutcome::Completed { .. } => Some(State::Done),
        StepOutcome::Failed { .. } => Some(State::Failed),
    }
}
