//! A manifest's program as an agent.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use adjutant_confine::Profile;
use adjutant_core::{Agent, AgentError, AgentKey, Json, RunContext, RunResult};
use async_trait::async_trait;
use serde_json::{Map, Value};

use tokio::runtime::Handle;

use crate::{
    environment::Environment,
    error::Result,
    exec, http, isolation,
    manifest::{Manifest, Protocol},
    pool::{Name, Names, Place, Pool, SharedPool},
    port::{ProcessManager, ProcessSpec, Spawned},
    program,
    secrets::{Redacted, Secrets},
    wire::{self, Conclusion, Door, Past, Peer, Session},
};

/// Runs attempts in processes: each in one of its own, which ends with the attempt, or with `pool` in the manifest in
/// one that was started ahead and takes the next run afterwards.
///
/// A run that waits has no process: the wait drops the future of [`Agent::run`], and the process with it. When the wait
/// is over a new process gets the same input and the latest checkpoint, and steps done before are not done again.
///
/// What a run can fail with, besides the agent's own failures: `program_not_found`, `secret_not_found`,
/// `too_many_instances`, `start_timeout`, `heartbeat_missed`, `process_exited` (details: `exit_code` or `signal`, and the
/// end of `stderr`), `protocol_error`, `input_too_large`, `output_too_large`.
pub struct ProcessAgent {
    template: Arc<Template>,
    pool: OnceLock<Pooled>,
}

/// Processes that outlive their runs.
enum Pooled {
    /// With one run at a time.
    Alone(Pool),
    /// With several.
    Together(SharedPool),
}

/// What all processes of an agent have in common.
pub(crate) struct Template {
    pub(crate) manifest: Manifest,
    dir: PathBuf,
    base: Environment,
    secrets: Secrets,
    names: Names,
    processes: Arc<dyn ProcessManager>,
}

impl ProcessAgent {
    /// The agent of `manifest`, whose file lies in `dir`. Its processes get the `base` environment, completed by the
    /// manifest's `env`; see [`Environment::inherited`].
    ///
    /// A pool is filled at once when this is called within a runtime, else at the first run.
    #[must_use]
    pub fn new(
        manifest: Manifest,
        dir: impl Into<PathBuf>,
        base: Environment,
        processes: Arc<dyn ProcessManager>,
    ) -> Self {
        Self::with(manifest, dir, base, processes, AgentOptions::default())
    }

    /// The same with more to say.
    #[must_use]
    pub fn with(
        manifest: Manifest,
        dir: impl Into<PathBuf>,
        base: Environment,
        processes: Arc<dyn ProcessManager>,
        options: AgentOptions,
    ) -> Self {
        let template = Template {
            manifest,
            dir: dir.into(),
            base,
            secrets: options.secrets,
            names: options.names,
            processes,
        };
        let agent = Self {
            template: Arc::new(template),
            pool: OnceLock::new(),
        };
        if Handle::try_current().is_ok() {
            agent.pool();
        }
        agent
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.template.manifest
    }

    /// The folder that the processes run in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.template.dir
    }

    /// How many processes of the pool are idle and how many have a run; `None` without a pool.
    #[must_use]
    pub fn pooled(&self) -> Option<(u32, u32)> {
        match self.pool.get()? {
            Pooled::Alone(pool) => Some(pool.counts()),
            Pooled::Together(pool) => Some(pool.counts()),
        }
    }

    /// The pool, if the manifest wants one and the program can be asked for another run.
    fn pool(&self) -> Option<&Pooled> {
        let manifest = self.manifest();
        let config = manifest
            .pool
            .filter(|_| manifest.protocol == Protocol::Wire)?;
        let start = || {
            let template = Arc::clone(&self.template);
            match config.runs_per_process.get() {
                1 => Pooled::Alone(Pool::start(template, config)),
                _ => Pooled::Together(SharedPool::new(template, config)),
            }
        };
        Some(self.pool.get_or_init(start))
    }

    fn check_input(&self, ctx: &RunContext) -> Result<(), AgentError> {
        let bytes = Json::from_value(ctx.input())?.len();
        let limit = self.manifest().max_input_bytes;
        if bytes <= limit.0 {
            return Ok(());
        }
        let why = format!(
            "the input is {bytes} bytes; `max_input_bytes` is {limit}: pass the name of a file instead"
        );
        Err(AgentError::permanent("input_too_large", why))
    }

    /// Holds a conversation once the waits of earlier ones are over, and waits in turn if that is what comes of it.
    async fn run_wire(&self, ctx: &RunContext) -> Result<RunResult, AgentError> {
        let Past { resume, usage } = wire::past(ctx).await?;
        let concluded = match self.pool() {
            Some(Pooled::Alone(pool)) => self.run_pooled(ctx, pool, resume).await?,
            Some(Pooled::Together(pool)) => self.run_together(ctx, pool, resume).await?,
            None => self.run_alone(ctx, resume).await?,
        };
        match concluded {
            Conclusion::Result(mut result) => {
                result.usage += usage;
                Ok(*result)
            }
            Conclusion::Turn(turn) => Err(turn.take(ctx).await),
        }
    }

    /// Lets a process of its own do the run.
    async fn run_alone(
        &self,
        ctx: &RunContext,
        resume: Option<Map<String, Value>>,
    ) -> Result<Conclusion, AgentError> {
        let (name, spawned) = self.template.start_run(ctx, None).await?;
        let peer = Peer::new(Arc::new(name), spawned);
        trace(ctx, &peer);
        let session = Session::new(ctx, self.manifest(), peer, resume);
        Box::pin(session.run(false)).await.0
    }

    /// Lets a process do the run beside others.
    async fn run_together(
        &self,
        ctx: &RunContext,
        pool: &SharedPool,
        resume: Option<Map<String, Value>>,
    ) -> Result<Conclusion, AgentError> {
        let Place { peer, hub: _hub } = pool.take(&ctx.run_id()).await?;
        trace(ctx, &peer);
        let session = Session::new(ctx, self.manifest(), peer, resume);
        Box::pin(session.run(false)).await.0
    }

    /// Lets a process of the pool do the run, and keeps it if it may be kept.
    async fn run_pooled(
        &self,
        ctx: &RunContext,
        pool: &Pool,
        resume: Option<Map<String, Value>>,
    ) -> Result<Conclusion, AgentError> {
        let mut loan = pool.take().await?;
        let Some(peer) = loan.peer() else {
            let why = "the pool had no process to give";
            return Err(AgentError::retriable("process_start_failed", why));
        };
        trace(ctx, &peer);
        let keep = loan.keeps(peer.runs + 1);
        let session = Session::new(ctx, self.manifest(), peer, resume);
        // Boxed because a conversation is large, and there are few.
        let (result, peer) = Box::pin(session.run(keep)).await;
        if let Some(peer) = peer {
            loan.give_back(peer);
        }
        result
    }
}

/// What an agent may share with others.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AgentOptions {
    /// Where the manifest's `from_env` looks. Default: nothing is there.
    pub secrets: Secrets,
    /// Where instances get their names from, and how many there may be. Default: any number, for this agent alone.
    pub names: Names,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            secrets: Secrets::default(),
            names: Names::unlimited(),
        }
    }
}

impl AgentOptions {
    /// Lets `from_env` look here.
    #[must_use]
    pub fn secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// Takes names from here.
    #[must_use]
    pub fn names(mut self, names: Names) -> Self {
        self.names = names;
        self
    }
}

fn trace(ctx: &RunContext, peer: &Peer) {
    tracing::debug!(
        run_id = %ctx.run_id(), attempt = ctx.attempt(), epoch = ctx.epoch(), agent = %ctx.agent_key(),
        instance = %peer.name, pid = peer.process.id(), runs = peer.runs, "the run has a process"
    );
}

impl Template {
    /// Starts a process that may take any run.
    pub(crate) async fn start(&self) -> Result<Peer, AgentError> {
        let (name, spawned) = self.start_for(&Environment::default()).await?;
        Ok(Peer::new(Arc::new(name), spawned))
    }

    /// Starts a process for one run, and tells it where to listen if it is to serve that.
    async fn start_run(
        &self,
        ctx: &RunContext,
        port: Option<u16>,
    ) -> Result<(Name, Spawned), AgentError> {
        let mut more: Environment = ctx.host().environment().into_iter().collect();
        more.set("ADJUTANT_RUN_ID", ctx.run_id().to_string());
        more.set("ADJUTANT_ATTEMPT", ctx.attempt().to_string());
        if let Some(port) = port {
            more.set("PORT", port.to_string());
        }
        self.start_for(&more).await
    }

    /// Starts a process with variables of its own, which override the manifest's: an address that the runtime gives an
    /// attempt and a key from the manifest would not fit together.
    async fn start_for(&self, more: &Environment) -> Result<(Name, Spawned), AgentError> {
        let start = async {
            let most = self
                .manifest
                .max_instances
                .map_or(u32::MAX, NonZeroU32::get);
            let name = self.names.take_of(&self.manifest.name, most as usize)?;
            let resolved = self.manifest.env.resolve(&self.dir, &self.secrets)?;
            let mut spec = self.spec(&resolved.env)?;
            spec.env.set("ADJUTANT_INSTANCE", name.to_string());
            spec.env = spec.env.with(more);
            let door = self.door(&mut spec)?;
            let mut spawned = self.processes.spawn(spec).await?;
            if let Some(door) = door {
                spawned = door.attach(spawned);
            }
            let hidden = resolved.needles.with(&more.secrets());
            if !hidden.is_empty() {
                let needles = || hidden.clone();
                spawned.stdout = Box::new(Redacted::new(spawned.stdout, needles()));
                spawned.stderr = Box::new(Redacted::new(spawned.stderr, needles()));
            }
            Ok((name, spawned))
        };
        start.await.map_err(crate::Error::into_agent_error)
    }

    /// Opens the door that the process is to come to, if it does not speak on its stdin and stdout.
    fn door(&self, spec: &mut ProcessSpec) -> Result<Option<Door>> {
        if self.manifest.protocol != Protocol::Wire {
            return Ok(None);
        }
        let failed = |source| crate::Error::Start {
            program: spec.program.clone(),
            source,
        };
        let door = Door::open(self.manifest.transport).map_err(failed)?;
        for (variable, value) in door.iter().flat_map(Door::variables) {
            spec.env.set(variable, value);
        }
        if spec.isolation.profile != Profile::Open {
            let folder = door.as_ref().and_then(Door::folder);
            spec.isolation.read.extend(folder.map(Path::to_owned));
        }
        Ok(door)
    }

    fn spec(&self, own: &Environment) -> Result<ProcessSpec> {
        let mut env = self.base.clone().with(own);
        let (program, args) = match self.manifest.command.split_first() {
            Some((program, args)) => (program.as_str(), args.to_vec()),
            // `validate` refuses this; for a manifest that nobody validated the empty name is not found either.
            None => ("", Vec::new()),
        };
        let isolation = isolation::absolute(&self.manifest.isolation(), &self.dir, &env);
        let program = program::find(program, &self.dir, env.get("PATH"), &isolation)?;
        if self.manifest.protocol == Protocol::Wire {
            env.set("AGENT_WIRE", "stdio");
        }
        Ok(ProcessSpec {
            program,
            args,
            dir: self.dir.clone(),
            env,
            limits: self.manifest.limits,
            isolation,
        })
    }
}

#[async_trait]
impl Agent for ProcessAgent {
    fn key(&self) -> AgentKey {
        AgentKey::new(&self.manifest().name)
    }

    async fn run(&self, ctx: &RunContext) -> Result<RunResult, AgentError> {
        self.check_input(ctx)?;
        // Boxed because the conversations are large and few.
        match self.manifest().protocol {
            Protocol::Wire => Box::pin(self.run_wire(ctx)).await,
            Protocol::Exec => {
                let (_name, spawned) = self.template.start_run(ctx, None).await?;
                Box::pin(exec::run(ctx, self.manifest(), spawned)).await
            }
            Protocol::Http => {
                let port = http::free_port()?;
                let (_name, spawned) = self.template.start_run(ctx, Some(port)).await?;
                Box::pin(http::run(ctx, self.manifest(), spawned, port)).await
            }
        }
    }
}
