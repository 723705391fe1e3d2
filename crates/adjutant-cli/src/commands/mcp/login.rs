//! `agent mcp login` and `agent mcp logout`: tokens for servers, by a person with a browser.

use std::{path::PathBuf, time::Duration};

use adjutant::{mcp, tools::Caller};
use clap::Args;
use serde_json::json;

use super::open;
use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, MCP_FAILED, Result},
    project::RUN_DIR,
    socket::{self, Ask},
};

#[derive(Debug, Args)]
pub struct Login {
    /// Folder with an agent.yaml, or the file itself
    path: PathBuf,
    /// The server's name
    server: String,
    /// A scope to ask for besides those that the manifest or the server names; may be given several times
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    #[command(flatten)]
    owner: Whose,
}

#[derive(Debug, Args)]
pub struct Logout {
    /// Folder with an agent.yaml, or the file itself
    path: PathBuf,
    /// The server's name
    server: String,
    #[command(flatten)]
    owner: Whose,
}

/// In whose name runs use the server.
#[derive(Debug, Args)]
struct Whose {
    /// For runs of this tenant only
    #[arg(long)]
    tenant: Option<String>,
    /// For runs in this name only
    #[arg(long)]
    principal: Option<String>,
}

impl Whose {
    fn of(self, caller: Caller) -> Caller {
        Caller {
            tenant: self.tenant,
            principal: self.principal,
            ..caller
        }
    }
}

/// Longest time that somebody has for saying yes.
const LOGIN: Duration = Duration::from_secs(600);

impl Login {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let (pool, caller) = open(context, &self.path)?;
        let caller = self.owner.of(caller);
        let failed = |error: mcp::Error| {
            let message = format!("nobody is logged in to `{}`", self.server);
            Failure::failed(MCP_FAILED, message).because(error.to_string())
        };
        let scopes: Vec<String> = self
            .scope
            .iter()
            .flat_map(|scope| scope.split_whitespace().map(str::to_owned))
            .collect();
        let login = pool.login(&self.server, &caller, &scopes).await;
        let login = login.map_err(failed)?;
        // Tokens are to be kept where version control does not look.
        context.project.make_state_dir()?;
        context
            .out
            .note("open this address in a browser on this machine:");
        context.out.tell(login.url());
        login.finish(LOGIN).await.map_err(failed)?;
        told(context, &self.server, "logged_in", true).await
    }
}

impl Logout {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let (pool, caller) = open(context, &self.path)?;
        let caller = self.owner.of(caller);
        let forgotten = pool.logout(&self.server, &caller).await;
        let forgotten = forgotten.map_err(|error| {
            let message = format!("nobody is logged out of `{}`", self.server);
            Failure::failed(MCP_FAILED, message).because(error.to_string())
        })?;
        told(context, &self.server, "logged_out", forgotten).await
    }
}

/// Lets live runtimes use other tokens than before, and says what was done.
async fn told(context: &Context, server: &str, what: &str, done: bool) -> Result<Exit> {
    let dir = context.project.state_dir().join(RUN_DIR);
    let ask = Ask::RestartMcp {
        server: server.to_owned(),
    };
    socket::ask_all(&dir, &ask).await;
    if context.out.is_structured() {
        context
            .out
            .value(&json!({ "server": server, what: done }))?;
    } else {
        let words = match (what, done) {
            ("logged_in", _) => "logged in to",
            (_, true) => "logged out of",
            (_, false) => "there were no tokens for",
        };
        context.out.note(&format!("{words} `{server}`"));
    }
    Ok(Exit::Ok)
}
