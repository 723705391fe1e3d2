//! `agent worker`: serves agents until it is stopped.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use tokio_util::sync::CancellationToken;

use adjutant::{
    AgentRunner, RunState, RunnerConfig, Store, core::AgentKey, executor::Drained, queue::RunFilter,
};

use crate::{
    agents::{self, Found},
    context::Context,
    drive,
    exit::Exit,
    failure::{AGENT_NOT_FOUND, Failure, Result},
    interrupt::Interrupts,
    isolation::IsolationFlags,
    recovery,
    reload::{self, Changes},
    units::show_duration,
    venv::Venv,
    workers::{self, Life, Posted},
};

/// How often a worker that is to stop when all is done looks whether it is.
const DRAIN_CHECK: Duration = Duration::from_millis(250);
/// How long runs under way may take to finish before an edited agent is loaded again; then they are given back, and go
/// on from their last step with what was edited.
const RELOAD_GRACE: Duration = Duration::from_secs(1);
/// Runs of each agent that are looked at for dead workers.
const HELD_LOOKED_AT: usize = 1000;

#[derive(Debug, Args)]
#[command(
    after_help = "TERM or Ctrl-C: take no more runs, finish those under way, leave. A second one: leave at once."
)]
pub struct Worker {
    /// Folders with an agent.yaml, or folders of such folders
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// Runs at the same time [default: runner.concurrency]
    #[arg(long, value_name = "N")]
    concurrency: Option<std::num::NonZeroU16>,
    /// Serve only these of the agents found
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    agents: Vec<String>,
    /// Leave when no run is queued or under way
    #[arg(long, conflicts_with = "dev")]
    drain: bool,
    /// Build and load agents again when their files are edited
    #[arg(long, visible_alias = "hot-reload")]
    dev: bool,
    /// Run Python agents and their builds in this virtual environment
    #[arg(long, value_name = "DIR")]
    venv: Option<PathBuf>,
    #[command(flatten)]
    isolation: IsolationFlags,
}

/// Why the agents are not served any longer.
enum Stopped {
    By(Exit),
    /// This file was edited.
    Edited(PathBuf),
}

impl Worker {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let mut agents = self.load(context).await?;
        let store = context.make_store().await?;
        loop {
            let folders = agents.iter().map(Found::folder);
            let mut changes = self.dev.then(|| Changes::below(folders)).transpose()?;
            let stopped = self.serve(context, &store, &agents, changes.as_mut());
            let mut edited = match stopped.await? {
                Stopped::By(exit) => return Ok(exit),
                Stopped::Edited(edited) => edited,
            };
            let mut interrupts = Interrupts::new()?;
            agents = loop {
                reload::tell(context, &edited, "loading again");
                let loaded = tokio::select! {
                    loaded = self.load(context) => loaded,
                    _ = interrupts.next() => return Ok(Exit::Ok),
                };
                match loaded {
                    Ok(agents) => break agents,
                    // Whoever edits the file will see this, and edit it again.
                    Err(failure) => context.out.failure(&failure),
                }
                edited = tokio::select! {
                    edited = next(changes.as_mut()) => edited,
                    _ = interrupts.next() => return Ok(Exit::Ok),
                };
            };
        }
    }

    /// Reads and builds the agents.
    async fn load(&self, context: &Context) -> Result<Vec<Found>> {
        let agents = self.agents(context)?;
        agents::build(context, &agents).await?;
        Ok(agents)
    }

    /// Serves the agents until somebody stops that, or edits one of them.
    async fn serve(
        &self,
        context: &Context,
        store: &Arc<dyn Store>,
        agents: &[Found],
        changes: Option<&mut Changes>,
    ) -> Result<Stopped> {
        let config = self.config(context);
        let (concurrency, grace) = (config.concurrency, config.drain_grace);
        let (runner, posted, backstage) =
            drive::worker(context, store, agents, config, None).await?;
        let limits = (concurrency, grace);
        let stopped = self.serve_with(context, store, agents, changes, limits, (runner, posted));
        let stopped = stopped.await;
        backstage.close().await;
        stopped
    }

    async fn serve_with(
        &self,
        context: &Context,
        store: &Arc<dyn Store>,
        agents: &[Found],
        changes: Option<&mut Changes>,
        (concurrency, grace): (usize, Duration),
        (runner, posted): (AgentRunner, Option<Posted>),
    ) -> Result<Stopped> {
        let names: Vec<&str> = agents.iter().map(Found::key).collect();
        let out = &context.out;
        out.note(&format!(
            "worker {} serves {} from {}, {concurrency} runs at a time",
            runner.worker_id(),
            names.join(", "),
            store.info().location,
        ));
        told_held(context, &**store, agents).await?;
        let stop = CancellationToken::new();
        let mut work = tokio::spawn({
            let (runner, stop) = (runner.clone(), stop.clone());
            async move { runner.run_loop(stop).await }
        });
        let mut interrupts = Interrupts::new()?;
        let idle = async {
            if !self.drain {
                return std::future::pending().await;
            }
            loop {
                if is_busy(&**store, agents).await.is_ok_and(|busy| !busy) {
                    return;
                }
                tokio::time::sleep(DRAIN_CHECK).await;
            }
        };
        let mut edited = None;
        tokio::select! {
            _ = interrupts.next() => out.note(&format!(
                "stopping: no more runs are taken, those under way have {} (again to leave at once)", show_duration(grace)
            )),
            () = idle => out.note("nothing is left to do"),
            file = next(changes) => edited = Some(file),
            outcome = &mut work => return ended(context, outcome).map(Stopped::By),
        }
        stop.cancel();
        tokio::select! {
            outcome = &mut work => {
                posted.into_iter().for_each(Posted::remove);
                let exit = ended(context, outcome)?;
                Ok(edited.map_or(Stopped::By(exit), Stopped::Edited))
            }
            _ = interrupts.next() => {
                out.note("left at once; runs under way come back when their leases end");
                // The note stays, so that others see that this worker is dead.
                Ok(Stopped::By(Exit::Interrupted))
            }
        }
    }

    fn agents(&self, context: &Context) -> Result<Vec<Found>> {
        let venv = self.venv.as_deref().map(|path| Venv::at(context, path));
        let venv = venv.transpose()?;
        let found = Found::all(context, &self.paths)?.into_iter();
        let found = found.map(|agent| agent.with_venv(venv.as_ref()).confined(self.isolation));
        let mut found: Vec<Found> = found.collect::<Result<_>>()?;
        for name in &self.agents {
            if !found.iter().any(|agent| agent.key() == name) {
                let known: Vec<&str> = found.iter().map(Found::key).collect();
                return Err(Failure::usage(
                    AGENT_NOT_FOUND,
                    format!("there is no agent `{name}` at these paths"),
                )
                .hint(format!("found: {}", known.join(", "))));
            }
        }
        if !self.agents.is_empty() {
            found.retain(|agent| self.agents.iter().any(|name| name == agent.key()));
        }
        Ok(found)
    }

    fn config(&self, context: &Context) -> RunnerConfig {
        let config = context.config.runner();
        let only = (!self.agents.is_empty())
            .then(|| self.agents.iter().map(|name| AgentKey::new(name)).collect());
        RunnerConfig {
            drain_grace: match self.dev {
                true => config.drain_grace.min(RELOAD_GRACE),
                false => config.drain_grace,
            },
            concurrency: self
                .concurrency
                .map_or(config.concurrency, |n| usize::from(n.get())),
            only,
            ..config
        }
    }
}

/// The next edit, where edits are watched.
async fn next(changes: Option<&mut Changes>) -> PathBuf {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

/// Tells of runs whose workers are known to be dead. They come back when their leases end, and not before: that is
/// how runs that kill their workers are counted and parked.
async fn told_held(context: &Context, store: &dyn Store, agents: &[Found]) -> Result<()> {
    let notes = drive::notes_folder(context).map(|folder| workers::notes(&folder));
    let notes = notes.unwrap_or_default();
    let mut ends = Vec::new();
    for agent in agents {
        let filter = RunFilter {
            states: vec![RunState::Running],
            agent: Some(agent.key().into()),
            limit: HELD_LOOKED_AT,
            ..RunFilter::default()
        };
        let held = store
            .list(filter)
            .await?
            .into_iter()
            .filter_map(|run| run.held);
        let dead = held.filter(|held| workers::life_of(&notes, held.worker) == Life::Dead);
        ends.extend(dead.map(|held| held.expires_at));
    }
    let Some(first) = ends.iter().min() else {
        return Ok(());
    };
    let runs = match ends.len() {
        1 => "1 run is held by a dead worker and comes".to_owned(),
        many => format!("{many} runs are held by dead workers; the first comes"),
    };
    let left = show_duration(first.since(recovery::now()));
    context.out.note(&format!("{runs} back in {left}"));
    Ok(())
}

/// Whether a run of these agents is pending or under way.
async fn is_busy(store: &dyn Store, agents: &[Found]) -> adjutant::Result<bool> {
    for agent in agents {
        let filter = RunFilter {
            states: vec![RunState::Pending, RunState::Running],
            agent: Some(agent.key().into()),
            limit: 1,
            ..RunFilter::default()
        };
        if !store.list(filter).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn ended(
    context: &Context,
    outcome: std::result::Result<adjutant::Result<Drained>, tokio::task::JoinError>,
) -> Result<Exit> {
    let drained = outcome.map_err(|error| {
        Failure::failed(crate::failure::IO, "the worker broke down").because(error.to_string())
    })??;
    let Drained { finished, released } = drained;
    let told = match finished + released {
        0 => "stopped".to_owned(),
        _ => format!(
            "stopped: of the runs under way {finished} finished, {released} were given back"
        ),
    };
    context.out.note(&told);
    Ok(Exit::Ok)
}
