//! `agent runs …`: acting on runs from outside.

use std::{sync::Arc, time::Duration};

use adjutant::{
    Store,
    budget::Pruned,
    core::{Json, Message, RunId, RunState, STEER_SIGNAL, Timestamp},
    queue::{Command, PrunePolicy},
};
use clap::Args;

use crate::{
    context::Context, exit::Exit, failure::Result, ids, recovery, units::parse_duration,
    view::RunJson,
};

/// Finished runs that are forgotten at once, so that other users of the store are not kept waiting.
const PRUNED_AT_ONCE: usize = 1000;

/// For how long at least the ledger keeps what nobody uses: a run that waits may come back to its budget.
const LEDGER_KEEPS: Duration = Duration::from_hours(30 * 24);

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
pub struct Steer {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// What is said to it
    text: String,
}

impl Steer {
    pub async fn run(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let run = ids::resolve(&**store, &self.run).await?;
        let messages = serde_json::json!([Message::user(self.text)]).into();
        let command = Command::Signal {
            name: STEER_SIGNAL.to_owned(),
            payload: messages,
        };
        act(context, store, run, command, "is told").await
    }
}

/// So long before now.
fn ago(age: Duration) -> Timestamp {
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(recovery::now().as_micros().saturating_sub(age))
}

#[derive(Debug, Args)]
pub struct Prune {
    /// Forget runs that ended longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    older_than: Duration,
}

impl Prune {
    pub async fn run(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let finished_before = ago(self.older_than);
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
        let (ledger, unused_since) = (store.ledger(), ago(self.older_than.max(LEDGER_KEEPS)));
        while ledger.prune(unused_since, PRUNED_AT_ONCE).await? != Pruned::default() {}
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
