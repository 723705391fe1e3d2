//! What lets others look at the instances of this program: their logs, and a socket that tells what they use.

use std::time::Duration;

use adjutant::{logs::LogBook, mcp::McpServerPool, process::usage::Instances};

use crate::{
    context::Context,
    failure::{Failure, IO, Result},
    project::RUN_DIR,
    socket::{Controls, Served, Servers},
};

/// How long this program stays for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The instances of this program, to be looked at until this is dropped.
pub struct Observation {
    instances: Instances,
    servers: Servers,
    logs: Option<LogBook>,
    _served: Option<Served>,
}

impl Observation {
    /// Opens the logs and the socket. Runs go on without either where the project's folder cannot be written.
    pub fn start(context: &Context) -> Result<Self> {
        let dir = context.project.make_state_dir();
        let dir = dir.unwrap_or_else(|_| context.project.state_dir());
        let logs = match LogBook::start(context.config.logs(&dir)) {
            Ok(logs) => Some(logs),
            Err(error) => {
                tracing::warn!(error = %cause(&error), "what agents log is not kept");
                None
            }
        };
        let instances = Instances::new(logs.clone()).map_err(|error| {
            Failure::failed(IO, "instances cannot be looked at").because(cause(&error))
        })?;
        let controls = Controls {
            instances: instances.clone(),
            servers: Servers::default(),
        };
        let servers = controls.servers.clone();
        let served = Served::start(&dir.join(RUN_DIR), controls);
        let served = served.inspect_err(
            |error| tracing::warn!(%error, "`agent ps` will not see the instances of this program"),
        );
        Ok(Self {
            instances,
            servers,
            logs,
            _served: served.ok(),
        })
    }

    /// Lets others look at these MCP servers too.
    pub fn offer(&self, pools: &[McpServerPool]) {
        self.servers.offer(pools);
    }

    /// The instances.
    pub const fn instances(&self) -> &Instances {
        &self.instances
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if let Some(logs) = &self.logs {
            logs.close(LAST_LINES);
        }
    }
}

/// An error with why it happened.
fn cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
