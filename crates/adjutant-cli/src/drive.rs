//! Working on a run here until it ends: a worker in this process, its news on the terminal, questions answered.

use std::{path::PathBuf, sync::Arc, time::Duration};

use adjutant::{AgentRunner, RunnerConfig, Store, core::RunId, queue::RunView};
use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use crate::{
    agents::{self, Found},
    context::Context,
    equipment::Outfit,
    failure::{CONFIG_INVALID, Failure, Result},
    interrupt::Interrupts,
    observation::Observation,
    output::Paint,
    services::Services,
    watch::Watch,
    workers::{self, Posted},
};

/// How long a command's own worker waits for steps under way when it is interrupted.
const LONGEST_DRAIN: Duration = Duration::from_secs(3);
/// The form of live news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum News {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line, on stderr.
    Jsonl,
    /// None.
    None,
}

/// What to work on.
pub struct Drive<'a> {
    pub context: &'a Context,
    pub store: Arc<dyn Store>,
    pub agents: &'a [Found],
    pub run: RunId,
    /// Show events from here.
    pub after: u64,
    pub news: News,
    /// Leave the run alone as soon as it waits for a person.
    pub until_input: bool,
    /// Give the run back when this is cancelled.
    pub until: CancellationToken,
}

/// How it went.
pub enum Ended {
    /// The run has ended, or was parked.
    Settled(Box<RunView>),
    /// The run waits for a person or was paused, and nobody waits here.
    Left(Box<RunView>),
    /// The user interrupted, or it was not to go on; the run was given back.
    Interrupted,
}

/// A worker's settings for one command.
pub fn runner_config(context: &Context) -> RunnerConfig {
    let config = context.config.runner();
    RunnerConfig {
        name: "agent run".to_owned(),
        drain_grace: config.drain_grace.min(LONGEST_DRAIN),
        ..config
    }
}

/// What a worker needs around it, as long as it lives.
pub struct Backstage {
    outfit: Outfit,
    services: Option<Services>,
    _observation: Observation,
}

impl Backstage {
    /// Ends what the worker's agents used.
    pub async fn close(self) {
        self.outfit.close().await;
        if let Some(services) = self.services {
            services.stop().await;
        }
    }
}

/// A worker, its note beside the store, and what lets others look at its instances as long as it lives.
pub async fn worker(
    context: &Context,
    store: &Arc<dyn Store>,
    agents: &[Found],
    config: RunnerConfig,
    run: Option<RunId>,
) -> Result<(AgentRunner, Option<Posted>, Backstage)> {
    // Who drives one run sees its events instead.
    let told = run.is_none().then_some(&context.out);
    let observation = Observation::start(context)?;
    let instances = observation.instances();
    // Who drives one run alone takes the services as they are.
    let services = match run {
        Some(_) => None,
        None => Services::start(context, instances).await?,
    };
    let (registry, outfit) = agents::registry(context, &**store, agents, told, instances).await?;
    observation.offer(outfit.pools());
    let observation = Backstage {
        outfit,
        services,
        _observation: observation,
    };
    let runner = AgentRunner::new(Arc::clone(store), registry, config).map_err(|error| {
        Failure::usage(CONFIG_INVALID, "the worker's settings cannot work")
            .because(error.to_string())
    })?;
    let keys = agents.iter().map(|agent| agent.key().to_owned()).collect();
    if context.config.has_server() {
        // Whether this works shows when the note is left.
        let _made = context.project.make_state_dir();
    }
    let posted = notes_folder(context)
        .map(|folder| workers::post(&folder, runner.worker_id(), keys, run))
        .transpose();
    match posted {
        Ok(posted) => Ok((runner, posted, observation)),
        // Beside a server nothing needs to be written here, and there may be no place for it.
        Err(error) if context.config.has_server() => {
            tracing::info!(%error, "this worker leaves no note for others of this project");
            Ok((runner, None, observation))
        }
        Err(error) => Err(Failure::io(
            "failed to leave a note beside the store",
            &error,
        )),
    }
}

/// Where workers of this store leave their notes: beside its file, or for a server, in the project's folder.
pub fn notes_folder(context: &Context) -> Option<PathBuf> {
    if let Some(database) = context.database() {
        return Some(workers::folder(&database));
    }
    let url = context.config.shown("store.url");
    let server = context.config.has_server();
    server.then(|| workers::folder_for_server(&context.project.state_dir(), &url))
}

/// Works on the run until it has ended.
pub async fn drive(drive: Drive<'_>) -> Result<Ended> {
    let config = runner_config(drive.context);
    let (runner, posted, backstage) = worker(
        drive.context,
        &drive.store,
        drive.agents,
        config,
        Some(drive.run),
    )
    .await?;
    let ended = work_on(&drive, runner, posted).await;
    backstage.close().await;
    ended
}

async fn work_on(drive: &Drive<'_>, runner: AgentRunner, posted: Option<Posted>) -> Result<Ended> {
    let stop = CancellationToken::new();
    let mut work = tokio::spawn({
        let stop = stop.clone();
        async move { runner.run_loop(stop).await }
    });
    let mut interrupts = Interrupts::new()?;
    let mut watch = Watch::new(drive);
    let ended = tokio::select! {
        ended = watch.until_done() => ended?,
        _ = interrupts.next() => Ended::Interrupted,
        () = drive.until.cancelled() => Ended::Interrupted,
        // The loop ends by itself only when the store is gone.
        outcome = &mut work => return Err(lost(outcome)),
    };
    stop.cancel();
    if !matches!(ended, Ended::Interrupted) {
        // Usually nothing is left; other runs that the worker has taken are given back.
        tokio::select! {
            _ = &mut work => posted.into_iter().for_each(Posted::remove),
            _ = interrupts.next() => {}
        }
        return Ok(ended);
    }
    let out = &drive.context.out;
    if !drive.until.is_cancelled() {
        out.tell(&out.paint(
            Paint::Yellow,
            "stopping: the run is given back (again to leave at once)",
        ));
    }
    tokio::select! {
        _ = &mut work => posted.into_iter().for_each(Posted::remove),
        _ = interrupts.next() => return Ok(Ended::Interrupted),
    }
    // It may have ended while it was to be given back.
    let stands = async {
        watch.catch_up().await?;
        watch.settled().await
    };
    tokio::select! {
        ended = stands => Ok(ended?.unwrap_or(Ended::Interrupted)),
        _ = interrupts.next() => Ok(Ended::Interrupted),
    }
}

fn lost(
    outcome: std::result::Result<
        adjutant::Result<adjutant::executor::Drained>,
        tokio::task::JoinError,
    >,
) -> Failure {
    match outcome {
        Ok(Err(error)) => error.into(),
        Ok(Ok(_)) => adjutant::Error::Closed.into(),
        Err(error) => {
            Failure::failed(crate::failure::IO, "the worker broke down").because(error.to_string())
        }
    }
}
