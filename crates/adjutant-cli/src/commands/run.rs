//! `agent run`: one run of one agent, here and now, or queued for a worker.

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use adjutant::{
    Store,
    core::{Json, RESERVED_METADATA, RunId, RunInput},
    queue::{Command, Concurrency, NewRun, RunRecord, Submitted},
};
use clap::Args;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    agents::{self, Found},
    context::Context,
    drive::{self, Drive, Ended, News},
    exit::Exit,
    failure::{Failure, Result, USAGE},
    input,
    interrupt::Interrupts,
    isolation::IsolationFlags,
    output::Paint,
    recovery::{self, Holder, Marks},
    reload::{self, Changes},
    units::{parse_duration, show_duration},
    venv::Venv,
    workers,
};

use super::show;

#[derive(Debug, Args)]
#[command(
    after_help = "The same command again continues a run that was interrupted or killed: finished steps are not \
                        done again.\nText that is a JSON object or array is passed as data, other text as a user's message."
)]
pub struct Run {
    /// Folder with an agent.yaml, or the file itself
    path: PathBuf,
    /// Input: text, or a JSON object or array
    #[arg(conflicts_with = "file")]
    input: Option<String>,
    /// Read the input from a JSON file, or from stdin with -
    #[arg(short, long = "input", value_name = "FILE")]
    file: Option<String>,
    /// Queue the run for a worker and leave
    #[arg(short, long)]
    detach: bool,
    /// Settings for the agent
    #[arg(long, value_name = "JSON")]
    params: Option<String>,
    /// Ask this model instead of the manifest's, such as ollama/llama3.2
    #[arg(long, value_name = "PROVIDER/NAME")]
    model: Option<String>,
    /// For whom the run is, in accounts of the budget: kept in its metadata
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Whatever is to be kept with the run
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// A name to find the run again by, kept in its metadata
    #[arg(long)]
    name: Option<String>,
    /// Higher goes first, -100 to 100
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    priority: i32,
    /// Do not start before this time is over
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    delay: Option<Duration>,
    /// Longest time for the run's own work
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Submits with the same key are one run
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// At most N runs with this key at a time
    #[arg(long, value_name = "KEY=N", value_parser = parse_concurrency)]
    concurrency_key: Option<Concurrency>,
    /// Attempts in all
    #[arg(long, value_name = "N")]
    max_attempts: Option<NonZeroU32>,
    /// Start afresh, even if an equal run is unfinished
    #[arg(long)]
    new: bool,
    /// Leave with status 5 when the run asks a person, instead of waiting for the answer
    #[arg(long)]
    no_wait_input: bool,
    /// Further agents to serve, for runs that delegate to them
    #[arg(long, value_name = "PATH")]
    with: Vec<PathBuf>,
    /// Begin afresh when the agent's files are edited, until Ctrl-C
    #[arg(long, visible_alias = "hot-reload", conflicts_with_all = ["detach", "idempotency_key"])]
    dev: bool,
    /// Run a Python agent and its build in this virtual environment
    #[arg(long, value_name = "DIR")]
    venv: Option<PathBuf>,
    #[command(flatten)]
    isolation: IsolationFlags,
    /// Form of the news on stderr
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    events: News,
}

impl Run {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let input = input::read(
            self.input.as_deref(),
            self.file.as_deref(),
            self.params.as_deref(),
        )?;
        let (agent, agents) = self.agents(context)?;
        let new_run = self.new_run(context, &agent, &input)?;
        let store = context.make_store().await?;
        // A build is of no use to a run that its store would refuse.
        new_run.validate(&store.limits())?;
        if self.detach {
            if store.info().engine == "memory" {
                let message = "a store in memory would forget the run as soon as this command ends";
                return Err(Failure::usage(USAGE, message)
                    .hint("leave --detach out, or keep runs in a file: --store sqlite:PATH"));
            }
            let outcome = detach(context, &store, new_run).await;
            context.leave(&*store).await;
            return outcome;
        }
        let exit = if self.dev {
            Box::pin(self.again_when_edited(context, &store, (agent, agents), &input)).await?
        } else {
            agents::build(context, &agents).await?;
            let begun = self.begin(context, &store, &agent, new_run).await?;
            let drive = self.drive(context, &store, &agents, begun);
            let ended = Box::pin(drive::drive(drive)).await?;
            show::ended(context, begun.0, ended)?
        };
        context.leave(&*store).await;
        Ok(exit)
    }

    /// The agent to run; and with it those that it may delegate to.
    fn agents(&self, context: &Context) -> Result<(Found, Vec<Found>)> {
        let venv = self.venv.as_deref().map(|path| Venv::at(context, path));
        let venv = venv.transpose()?;
        let ready = |agent: Found| agent.with_venv(venv.as_ref()).confined(self.isolation);
        let agent = ready(Found::at(context, &self.path)?)?;
        let others = Found::all(context, &self.with)?.into_iter().map(ready);
        let all = std::iter::once(Ok(agent.clone())).chain(others);
        Ok((agent, all.collect::<Result<_>>()?))
    }

    fn drive<'a>(
        &self,
        context: &'a Context,
        store: &Arc<dyn Store>,
        agents: &'a [Found],
        (run, after): (RunId, u64),
    ) -> Drive<'a> {
        let news = if context.out.quiet {
            News::None
        } else {
            self.events
        };
        Drive {
            context,
            store: Arc::clone(store),
            agents,
            run,
            after,
            news,
            until_input: self.no_wait_input,
            until: CancellationToken::new(),
        }
    }

    /// A new run each time that a file of an agent is edited, with the same input. A run under way is cancelled then.
    async fn again_when_edited(
        &self,
        context: &Context,
        store: &Arc<dyn Store>,
        agents: (Found, Vec<Found>),
        input: &RunInput,
    ) -> Result<Exit> {
        let mut changes = Changes::below(agents.1.iter().map(Found::folder))?;
        let mut went = self.once(context, store, agents, input, &mut changes).await;
        loop {
            let edited = match went {
                Ok(Once::Interrupted) => return Ok(Exit::Interrupted),
                Ok(Once::Edited(edited)) => Some(edited),
                Ok(Once::Ended) => None,
                // Whoever edits the file will see this, and edit it again.
                Err(failure) => {
                    context.out.failure(&failure);
                    None
                }
            };
            let edited = if let Some(edited) = edited {
                edited
            } else {
                context.out.note("waiting for an edit (Ctrl-C to leave)");
                let mut interrupts = Interrupts::new()?;
                tokio::select! {
                    edited = changes.next() => edited,
                    _ = interrupts.next() => return Ok(Exit::Ok),
                }
            };
            reload::tell(context, &edited, "running again");
            went = match self.agents(context) {
                Ok(agents) => {
                    changes = Changes::below(agents.1.iter().map(Found::folder))?;
                    self.once(context, store, agents, input, &mut changes).await
                }
                Err(failure) => Err(failure),
            };
        }
    }

    async fn once(
        &self,
        context: &Context,
        store: &Arc<dyn Store>,
        (agent, agents): (Found, Vec<Found>),
        input: &RunInput,
        changes: &mut Changes,
    ) -> Result<Once> {
        let mut interrupts = Interrupts::new()?;
        tokio::select! {
            built = agents::build(context, &agents) => built?,
            _ = interrupts.next() => return Ok(Once::Interrupted),
        }
        let new_run = self.new_run(context, &agent, input)?;
        let begun = self.begin(context, store, &agent, new_run).await?;
        let drive = self.drive(context, store, &agents, begun);
        let until = drive.until.clone();
        let mut working = Box::pin(drive::drive(drive));
        let edited = tokio::select! {
            ended = &mut working => match ended? {
                Ended::Interrupted => return Ok(Once::Interrupted),
                ended => {
                    show::ended(context, begun.0, ended)?;
                    return Ok(Once::Ended);
                }
            },
            edited = changes.next() => edited,
        };
        until.cancel();
        if let ended @ Ended::Settled(_) = working.await? {
            show::ended(context, begun.0, ended)?;
        } else {
            let reason = "its agent was edited".to_owned();
            store.control(begun.0, Command::Cancel { reason }).await?;
        }
        Ok(Once::Edited(edited))
    }

    fn new_run(&self, context: &Context, agent: &Found, input: &RunInput) -> Result<NewRun> {
        let mut run = NewRun::new(agent.key(), input)?;
        agent.prepare(&mut run, context.config.runner().retry_policy());
        let fingerprint = (!self.detach && self.idempotency_key.is_none())
            .then(|| recovery::fingerprint(agent, &context.project.cwd, input));
        let marks = Marks {
            cwd: Some(context.project.cwd.display().to_string()),
            manifest: Some(agent.path.display().to_string()),
            name: self.name.clone(),
            fingerprint,
        };
        run.metadata = self.metadata(&marks)?;
        run.priority = self.priority;
        run.not_before = self.delay.map(|delay| recovery::now() + delay);
        run.idempotency_key.clone_from(&self.idempotency_key);
        if self.timeout.is_some() {
            run.timeout = self.timeout;
        }
        if let Some(attempts) = self.max_attempts {
            run.retry.max_attempts = attempts;
        }
        if self.concurrency_key.is_some() {
            run.concurrency.clone_from(&self.concurrency_key);
        }
        Ok(run)
    }

    /// The run to work on, and from where to show its events: an unfinished run that an equal command began, the one
    /// with this idempotency key, or a new one.
    async fn begin(
        &self,
        context: &Context,
        store: &Arc<dyn Store>,
        agent: &Found,
        new_run: NewRun,
    ) -> Result<(RunId, u64)> {
        let notes = drive::notes_folder(context).map(|folder| workers::notes(&folder));
        let notes = notes.unwrap_or_default();
        let fingerprint = Marks::of(&new_run.metadata).fingerprint;
        if let Some(fingerprint) = fingerprint.filter(|_| !self.new && !self.dev) {
            let unfinished = recovery::unfinished(store, agent.key(), &fingerprint, &notes).await?;
            if let Some((run, holder)) = unfinished {
                told_continued(context, &run);
                take(context, store, holder).await?;
                return Ok((run.id, run.last_seq));
            }
        }
        let submitted = store.submit(vec![new_run]).await?;
        let Some(&Submitted { run, created }) = submitted.first() else {
            let message = "the store gave no answer to the submit";
            return Err(Failure::failed(crate::failure::IO, message));
        };
        let id = context.out.paint(Paint::Bold, &run.to_string());
        if created {
            context.out.note(&format!("{id} of {}", agent.key()));
        } else {
            context.out.note(&format!(
                "{id} of {} was submitted before with this key",
                agent.key()
            ));
            if let Some(view) = store.get(run).await? {
                take(context, store, recovery::holder(&view.run, &notes)).await?;
            }
        }
        Ok((run, 0))
    }
}

/// How a run of an agent that is being edited went.
enum Once {
    Ended,
    Edited(PathBuf),
    Interrupted,
}

fn told_continued(context: &Context, run: &RunRecord) {
    let age = show_duration(recovery::now().since(run.created_at));
    let id = context.out.paint(Paint::Bold, &run.id.to_string());
    let (agent, steps) = (&run.agent, run.steps);
    context.out.note(&format!(
        "continuing {id} of {agent} (begun {age} ago, {steps} steps done); --new starts afresh"
    ));
}

/// Takes a run from a worker that is dead.
async fn take(context: &Context, store: &Arc<dyn Store>, holder: Holder) -> Result<()> {
    let out = &context.out;
    match holder {
        Holder::Nobody => Ok(()),
        Holder::Alive(worker) => {
            out.note(&out.paint(Paint::Dim, &format!("  {worker} works on it")));
            Ok(())
        }
        Holder::Dead(lease) => {
            out.note(&out.paint(Paint::Dim, "  its worker is dead; taking it over"));
            recovery::give_back(store, lease).await
        }
    }
}

async fn detach(context: &Context, store: &Arc<dyn Store>, run: NewRun) -> Result<Exit> {
    let agent = run.agent.clone();
    let submitted = store.submit(vec![run]).await?;
    for submitted in &submitted {
        if context.out.is_structured() {
            context.out.value(&serde_json::json!({
                "run_id": submitted.run,
                "created": submitted.created,
            }))?;
        } else {
            context.out.line(&submitted.run.to_string())?;
        }
        context.out.note(&format!(
            "queued for {agent}; a worker takes it: {}; its result: {}",
            context.out.command("worker PATH"),
            context.out.command(&format!("runs wait {}", submitted.run))
        ));
    }
    Ok(Exit::Ok)
}

impl Run {
    /// The user's metadata with our marks; the user's own words win.
    fn metadata(&self, marks: &Marks) -> Result<Json> {
        let mut all = match serde_json::to_value(marks) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        if let Some(model) = &self.model {
            // Children inherit it with everything below this key.
            let model = located(model)?;
            all.insert(RESERVED_METADATA.to_owned(), json!({ "model": model }));
        }
        if let Some(tenant) = &self.tenant {
            all.insert("tenant".to_owned(), tenant.as_str().into());
        }
        if let Some(text) = self.metadata.as_deref() {
            let Value::Object(map) = input::json_argument("--metadata", text)?
                .to::<Value>()
                .unwrap_or_default()
            else {
                return Err(
                    Failure::usage(USAGE, "the value of --metadata is not a JSON object")
                        .hint("for example: --metadata '{\"ticket\": \"A-17\"}'"),
                );
            };
            all.extend(map);
        }
        Ok(Value::Object(all).into())
    }
}

/// A scripted model's file is found from where the command was given.
fn located(model: &str) -> Result<String> {
    let Some(file) = model.strip_prefix("scripted/") else {
        return Ok(model.to_owned());
    };
    let path = std::path::absolute(file)
        .map_err(|error| Failure::io(format!("failed to find {file}"), &error))?;
    Ok(format!("scripted/{}", path.display()))
}

fn parse_concurrency(text: &str) -> Result<Concurrency, String> {
    let wrong = || format!("`{text}` is not KEY=N, such as gpu=2");
    let (key, limit) = text.rsplit_once('=').ok_or_else(wrong)?;
    let limit = limit.parse().map_err(|_| wrong())?;
    if key.is_empty() {
        return Err(wrong());
    }
    Ok(Concurrency {
        key: key.into(),
        limit,
    })
}
