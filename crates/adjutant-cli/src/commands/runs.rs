//! `agent runs …`: looking at runs. What changes them is in the files beside this one.

use std::{path::PathBuf, sync::Arc, time::Duration};

use adjutant::{
    Store,
    core::{RunId, RunState, Visibility},
    queue::{RunFilter, RunView},
};
use clap::{Args, Subcommand, ValueEnum};

use crate::{
    context::Context,
    drive,
    exit::Exit,
    failure::Result,
    ids,
    parked::{self, Lookout},
    paste::quoted,
    patience::patiently,
    units::parse_duration,
    workers::{self, Life},
};

use super::{again, answer, control, events, resume, show};

#[derive(Debug, Subcommand)]
#[command(
    after_help = "RUN is a run's id, its first or last six or more digits, or `last` for the newest run."
)]
pub enum Runs {
    /// List runs, newest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Show all there is to say of a run
    Show(Which),
    /// Show what happened in a run
    Events(RunEvents),
    /// Wait for a run's end and print its result
    Wait(Wait),
    /// Show the recorded steps of a run
    Steps(Which),
    /// Show the saved states of a run, newest first
    Checkpoints(Checkpoints),
    /// End a run and its child runs
    Cancel(control::Cancel),
    /// Hold a run until it is resumed
    Pause(Which),
    /// Let a paused run go on, and work on an interrupted one here
    Resume(resume::Resume),
    /// Start a new run with the input of a finished one
    Retry(again::Again),
    /// Put a parked run back in the queue
    Redrive(Which),
    /// Start a new run that takes over recorded steps of another one
    Fork(again::Fork),
    /// Tell a run something
    Signal(control::Signal),
    /// Say something to a run at work, if its agent listens
    Steer(control::Steer),
    /// Answer a run's question with yes
    Approve(answer::Answer),
    /// Answer a run's question with no
    Deny(answer::Answer),
    /// Forget finished runs
    Prune(control::Prune),
}

#[derive(Debug, Args)]
pub struct Which {
    /// The run
    #[arg(value_name = "RUN")]
    pub run: String,
}

#[derive(Debug, Args)]
pub struct List {
    /// Only runs in this state (may be given more than once)
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<RunState>,
    /// Only runs of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only child runs of this run
    #[arg(long, value_name = "RUN")]
    parent: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Only runs older than this one: the last of the page before
    #[arg(long, value_name = "RUN")]
    before: Option<String>,
}

#[derive(Debug, Args)]
pub struct RunEvents {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// Go on until the run ends
    #[arg(short, long)]
    follow: bool,
    /// Only events with higher numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
    /// Only these types, such as step.completed
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// Also events meant for fewer people
    #[arg(long, value_enum, default_value_t = Level::Debug)]
    visibility: Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// What everyone may see
    User,
    /// And what developers and operators want to know
    Debug,
    /// And the runtime's own housekeeping
    Internal,
}

#[derive(Debug, Args)]
pub struct Wait {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// Leave with status 5 after this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct Checkpoints {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
}

impl Runs {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let store = context.store().await?;
        let outcome = Box::pin(self.act(context, Arc::clone(&store))).await;
        context.leave(&*store).await;
        outcome
    }

    async fn act(self, context: &Context, store: Arc<dyn Store>) -> Result<Exit> {
        match self {
            Self::List(list) => list.run(context, &store).await,
            Self::Show(which) => which.show(context, &store).await,
            Self::Events(events) => events.run(context, store).await,
            Self::Wait(wait) => wait.run(context, &store).await,
            Self::Steps(which) => {
                let run = which.find(&store).await?;
                show::steps(context, &store.history(run).await?.journal)?;
                Ok(Exit::Ok)
            }
            Self::Checkpoints(asked) => {
                let run = ids::resolve(&*store, &asked.run).await?;
                show::checkpoints(context, &store.checkpoints(run, asked.limit).await?)?;
                Ok(Exit::Ok)
            }
            Self::Cancel(cancel) => cancel.run(context, &store).await,
            Self::Pause(which) => control::pause(context, &store, which.find(&store).await?).await,
            Self::Resume(resume) => Box::pin(resume.run(context, store)).await,
            Self::Retry(again) => again.run(context, &store).await,
            Self::Redrive(which) => {
                control::redrive(context, &store, which.find(&store).await?).await
            }
            Self::Fork(fork) => fork.run(context, &store).await,
            Self::Signal(signal) => signal.run(context, &store).await,
            Self::Steer(steer) => steer.run(context, &store).await,
            Self::Approve(answer) => answer.run(context, &store, true).await,
            Self::Deny(answer) => answer.run(context, &store, false).await,
            Self::Prune(prune) => prune.run(context, &store).await,
        }
    }
}

impl Which {
    async fn find(&self, store: &Arc<dyn Store>) -> Result<RunId> {
        ids::resolve(&**store, &self.run).await
    }

    async fn show(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let run = self.find(store).await?;
        let view = whole(store, run).await?;
        let parked = parked::below(&**store, run).await?;
        show::run(context, &view, &parked)?;
        Ok(Exit::Ok)
    }
}

impl List {
    async fn run(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let mut filter = RunFilter {
            states: self.state,
            agent: self.agent.map(Into::into),
            limit: self.limit,
            ..RunFilter::default()
        };
        if let Some(parent) = &self.parent {
            filter.parent = Some(ids::resolve(&**store, parent).await?);
        }
        if let Some(before) = &self.before {
            filter.before = Some(ids::resolve(&**store, before).await?);
        }
        let runs = store.list(filter).await?;
        show::runs(context, &runs)?;
        if let Some(last) = runs.last().filter(|_| runs.len() == self.limit) {
            context
                .out
                .note(&format!("older ones: --before {}", last.id));
        }
        Ok(Exit::Ok)
    }
}

impl RunEvents {
    async fn run(self, context: &Context, store: Arc<dyn Store>) -> Result<Exit> {
        let run = ids::resolve(&*store, &self.run).await?;
        if self.follow {
            note_nobody(context, &store, run).await?;
        }
        let filter = events::Filter {
            types: self.types,
            at_least: match self.visibility {
                Level::User => Visibility::User,
                Level::Debug => Visibility::Debug,
                Level::Internal => Visibility::Internal,
            },
        };
        events::print(context, store, run, self.after, &filter, self.follow).await
    }
}

impl Wait {
    async fn run(self, context: &Context, store: &Arc<dyn Store>) -> Result<Exit> {
        let run = ids::resolve(&**store, &self.run).await?;
        note_nobody(context, store, run).await?;
        let mut lookout = Lookout::default();
        let deadline = self
            .timeout
            .map(|timeout| tokio::time::Instant::now() + timeout);
        loop {
            lookout.look(context, &**store, run).await?;
            let left = deadline.map(|deadline| deadline - tokio::time::Instant::now());
            let left = left.unwrap_or(parked::LOOK).min(parked::LOOK);
            let view = patiently(|| store.settled(run, left)).await?;
            let is_over = deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline);
            if view.run.state.is_settled() || is_over {
                return show::outcome(context, &view);
            }
        }
    }
}

/// Tells somebody who is about to wait that nobody here is there to do the work.
async fn note_nobody(context: &Context, store: &Arc<dyn Store>, run: RunId) -> Result<()> {
    let Some(view) = store.get(run).await? else {
        return Ok(());
    };
    let agent = view.run.agent.as_str();
    let notes = drive::notes_folder(context)
        .map(|folder| workers::notes(&folder))
        .unwrap_or_default();
    let is_served = notes
        .iter()
        .any(|note| note.agents.iter().any(|key| key == agent) && note.life() == Life::Alive);
    if view.run.state == RunState::Pending && !is_served {
        let place = manifest_of(&view).and_then(|path| path.parent().map(PathBuf::from));
        let place = place.map_or_else(|| "PATH".to_owned(), |path| context.project.short(&path));
        context.out.note(&format!(
            "no worker of this machine serves {agent}; start one: {}",
            context.out.command(&format!("worker {}", quoted(&place)))
        ));
    }
    Ok(())
}

/// The manifest that a run's submitter named, for those who continue it.
pub fn manifest_of(view: &RunView) -> Option<PathBuf> {
    crate::recovery::Marks::of(&view.payload.metadata)
        .manifest
        .map(PathBuf::from)
}

/// A run that is known to be there.
pub async fn whole(store: &Arc<dyn Store>, run: RunId) -> Result<RunView> {
    Ok(store
        .get(run)
        .await?
        .ok_or(adjutant::Error::RunNotFound(run))?)
}
