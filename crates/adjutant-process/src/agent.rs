//! A manifest's program as an agent.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use adjutant_core::{Agent, AgentError, AgentKey, Json, RunContext, RunResult};
use async_trait::async_trait;

use crate::{
    environment::Environment,
    error::Result,
    exec,
    manifest::{Manifest, Protocol},
    port::{ProcessManager, ProcessSpec},
    program,
    wire::{Peer, Session},
};

/// Runs each attempt in a process of its own, which ends with the attempt.
///
/// A run that waits has no process: the wait drops the future of [`Agent::run`], and the process with it. When the wait
/// is over a new process gets the same input and the latest checkpoint, and steps done before are not done again.
///
/// What a run can fail with, besides the agent's own failures: `program_not_found`, `start_timeout`, `heartbeat_missed`,
/// `process_exited` (details: `exit_code` or `signal`, and the end of `stderr`), `protocol_error`, `input_too_large`,
/// `output_too_large`.
pub struct ProcessAgent {
    manifest: Manifest,
    dir: PathBuf,
    base: Environment,
    processes: Arc<dyn ProcessManager>,
}

impl ProcessAgent {
    /// The agent of `manifest`, whose file lies in `dir`. Its processes get the `base` environment, completed by the
    /// manifest's `env`; see [`Environment::inherited`].
    #[must_use]
    pub fn new(
        manifest: Manifest,
        dir: impl Into<PathBuf>,
        base: Environment,
        processes: Arc<dyn ProcessManager>,
    ) -> Self {
        Self {
            manifest,
            dir: dir.into(),
            base,
            processes,
        }
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The folder that the processes run in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn spec(&self, ctx: &RunContext) -> Result<ProcessSpec> {
        let mut env = self.base.clone().with(&self.manifest.env);
        let (program, args) = match self.manifest.command.split_first() {
            Some((program, args)) => (program.as_str(), args.to_vec()),
            // `validate` refuses this; for a manifest that nobody validated the empty name is not found either.
            None => ("", Vec::new()),
        };
        let program = program::find(program, &self.dir, env.get("PATH"))?;
        if self.manifest.protocol == Protocol::Wire {
            env.set("AGENT_WIRE", "stdio");
        }
        env.set("ADJUTANT_RUN_ID", ctx.run_id().to_string());
        env.set("ADJUTANT_ATTEMPT", ctx.attempt().to_string());
        Ok(ProcessSpec {
            program,
            args,
            dir: self.dir.clone(),
            env,
            limits: self.manifest.limits,
        })
    }

    fn check_input(&self, ctx: &RunContext) -> Result<(), AgentError> {
        let bytes = Json::from_value(ctx.input())?.len();
        let limit = self.manifest.max_input_bytes;
        if bytes <= limit.0 {
            return Ok(());
        }
        let why = format!(
            "the input is {bytes} bytes; `max_input_bytes` is {limit}: pass the name of a file instead"
        );
        Err(AgentError::permanent("input_too_large", why))
    }
}

#[async_trait]
impl Agent for ProcessAgent {
    fn key(&self) -> AgentKey {
        AgentKey::new(&self.manifest.name)
    }

    async fn run(&self, ctx: &RunContext) -> Result<RunResult, AgentError> {
        self.check_input(ctx)?;
        let failed = crate::Error::into_agent_error;
        let spec = self.spec(ctx).map_err(failed)?;
        let spawned = self.processes.spawn(spec).await.map_err(failed)?;
        tracing::debug!(
            run_id = %ctx.run_id(), attempt = ctx.attempt(), epoch = ctx.epoch(), agent = %self.key(),
            pid = spawned.process.id(), "process started"
        );
        // Boxed because the two conversations are large and few.
        match self.manifest.protocol {
            Protocol::Wire => {
                let peer = Peer::new(format!("{}-{}", ctx.run_id(), ctx.attempt()), spawned);
                let session = Session::new(ctx, &self.manifest, peer);
                Box::pin(session.run(false)).await.0
            }
            Protocol::Exec => Box::pin(exec::run(ctx, &self.manifest, spawned)).await,
        }
    }
}
