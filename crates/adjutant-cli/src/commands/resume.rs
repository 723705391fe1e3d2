//! `agent runs resume`: a run goes on, here if nobody else is there for it.

use std::{path::Path, sync::Arc};

use adjutant::{
    Store,
    core::RunState,
    queue::{Command, RunView},
};
use clap::Args;

use crate::{
    agents::Found,
    context::Context,
    drive::{self, Drive, News},
    exit::Exit,
    failure::Result,
    ids,
    isolation::IsolationFlags,
    recovery::{self, Holder},
    workers::{self, Life},
};

use super::{
    runs::{manifest_of, whole},
    show,
};

#[derive(Debug, Args)]
pub struct Resume {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// Do not work on it here, leave it to a worker
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    isolation: IsolationFlags,
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
                "{run} is {}; a worker takes it: {}",
                view.run.state,
                out.command("worker PATH")
            ));
            return Ok(Exit::Ok);
        }
        let watch = out.command(&format!("runs events {run} --follow"));
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
                "{run} goes on in worker {} (pid {}); watch it: {watch}",
                note.worker, note.pid
            ));
            return Ok(Exit::Ok);
        }
        match recovery::holder(&view.run, &notes) {
            Holder::Nobody => {}
            Holder::Alive(worker) => {
                out.note(&format!("worker {worker} is at it; watch it: {watch}"));
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
                "{run} is queued; serve its agent with: {}",
                context.out.command("worker PATH")
            ));
            return Ok(Exit::Ok);
        };
        let agent = Found::at(context, Path::new(&manifest))?.confined(self.isolation)?;
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
            until: tokio_util::sync::CancellationToken::new(),
        };
        show::ended(context, run, Box::pin(drive::drive(drive)).await?)
    }
}
