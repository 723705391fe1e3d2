//! `agent mcp …`: the MCP servers of agents, those at work and those that a manifest names.

mod login;

use std::path::PathBuf;

use adjutant::{
    RunId,
    mcp::{Lease, McpServerPool, Request},
    tools::{Caller, Reply},
};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::{
    agents::Found,
    context::Context,
    equipment,
    exit::Exit,
    failure::{Failure, MCP_FAILED, Result, USAGE},
    input,
    project::RUN_DIR,
    socket::{self, Ask},
    units::show_duration,
    view::clip,
};

#[derive(Debug, Subcommand)]
pub enum Mcp {
    /// List the servers that live runtimes of this project have
    #[command(visible_alias = "ls")]
    List,
    /// Start an agent's servers one after the other and see whether they answer
    Probe(Of),
    /// List the tools of an agent's servers
    Tools(Of),
    /// Call a tool of an agent's servers
    Call(Call),
    /// List the resources of an agent's servers
    Resources(Of),
    /// List the prompts of an agent's servers
    Prompts(Of),
    /// Restart a server in all live runtimes of this project; calls under way end first
    Restart(Restart),
    /// Log in to a server in the name of the project: prints an address, and waits until somebody has opened it and said yes
    Login(login::Login),
    /// Forget the tokens of a login
    Logout(login::Logout),
}

#[derive(Debug, Args)]
pub struct Of {
    /// Folder with an agent.yaml, or the file itself
    path: PathBuf,
    /// Only this server
    server: Option<String>,
}

#[derive(Debug, Args)]
pub struct Call {
    /// Folder with an agent.yaml, or the file itself
    path: PathBuf,
    /// The tool: SERVER__TOOL
    tool: String,
    /// Its arguments, a JSON object
    #[arg(default_value = "{}")]
    arguments: String,
}

#[derive(Debug, Args)]
pub struct Restart {
    /// The server's name
    server: String,
}

impl Mcp {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        match self {
            Self::List => list(context).await,
            Self::Restart(restart) => restart.run(context).await,
            Self::Probe(of) => of.each(context, Look::Probe).await,
            Self::Tools(of) => of.each(context, Look::Tools).await,
            Self::Resources(of) => of.each(context, Look::Resources).await,
            Self::Prompts(of) => of.each(context, Look::Prompts).await,
            Self::Call(call) => call.run(context).await,
            Self::Login(login) => login.run(context).await,
            Self::Logout(logout) => logout.run(context).await,
        }
    }
}

/// What is looked at.
#[derive(Clone, Copy)]
enum Look {
    Probe,
    Tools,
    Resources,
    Prompts,
}

async fn list(context: &Context) -> Result<Exit> {
    let dir = context.project.state_dir().join(RUN_DIR);
    let answers = socket::ask_all(&dir, &Ask::Mcp).await;
    let servers: Vec<Value> = answers.into_iter().flat_map(|answer| answer.mcp).collect();
    if context.out.is_structured() {
        context.out.value(&servers)?;
        return Ok(Exit::Ok);
    }
    if servers.is_empty() {
        let hint = context.out.command("mcp tools PATH");
        context.out.note(&format!(
            "no runtime of this project has MCP servers at present; {hint} looks at those of an agent"
        ));
        return Ok(Exit::Ok);
    }
    let headings = [
        "SERVER",
        "STATE",
        "SCOPE",
        "OWNER",
        "ERA",
        "TOOLS",
        "BUSY",
        "CALLS",
        "RESTARTS",
        "LAST ERROR",
    ];
    context
        .out
        .table(&headings, servers.iter().map(row).collect())?;
    Ok(Exit::Ok)
}

fn row(server: &Value) -> Vec<String> {
    let text = |pointer: &str| match server.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let tools = server["tools"].as_array().map_or(0, Vec::len);
    vec![
        text("/name"),
        text("/state"),
        text("/scope"),
        owner(&server["owner"]),
        text("/info/revision"),
        tools.to_string(),
        text("/in_flight"),
        calls(&server["metrics"]).to_string(),
        text("/restarts"),
        clip(&text("/last_error"), 40),
    ]
}

/// All calls of all tools, however they ended.
fn calls(metrics: &Value) -> u64 {
    let tools = metrics["calls"].as_object().into_iter().flatten();
    let outcomes = tools.flat_map(|(_, outcomes)| outcomes.as_object().into_iter().flatten());
    outcomes
        .filter_map(|(_, figures)| figures["count"].as_u64())
        .sum()
}

/// Whose a server is, in a few letters.
fn owner(owner: &Value) -> String {
    match owner {
        Value::Object(map) => {
            let set = map.iter().filter(|(_, value)| !value.is_null());
            let pairs: Vec<String> = set
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("?")))
                .collect();
            clip(&pairs.join(" "), 40)
        }
        Value::String(text) => text.clone(),
        _ => "-".to_owned(),
    }
}

impl Restart {
    async fn run(&self, context: &Context) -> Result<Exit> {
        let dir = context.project.state_dir().join(RUN_DIR);
        let ask = Ask::RestartMcp {
            server: self.server.clone(),
        };
        let answers = socket::ask_all(&dir, &ask).await;
        let restarted: u64 = answers.iter().filter_map(|answer| answer.restarted).sum();
        if context.out.is_structured() {
            context
                .out
                .value(&json!({ "server": self.server, "restarted": restarted }))?;
        } else {
            context
                .out
                .note(&format!("restarted {restarted} of `{}`", self.server));
        }
        if restarted == 0 {
            let message = format!(
                "no live runtime of this project has a server `{}` up",
                self.server
            );
            return Err(Failure::failed(MCP_FAILED, message).hint("see `agent mcp list`"));
        }
        Ok(Exit::Ok)
    }
}

impl Of {
    async fn each(&self, context: &Context, look: Look) -> Result<Exit> {
        let (pool, caller) = open(context, &self.path)?;
        let names: Vec<String> = pool.names().map(str::to_owned).collect();
        if let Some(server) = self
            .server
            .as_ref()
            .filter(|server| !names.contains(server))
        {
            let message = format!("the agent has no server `{server}`");
            return Err(
                Failure::usage(USAGE, message).hint(format!("it has: {}", names.join(", ")))
            );
        }
        let mut seen = Vec::new();
        for name in names
            .iter()
            .filter(|name| self.server.as_ref().is_none_or(|only| only == *name))
        {
            context.out.note(&format!("asking {name}"));
            let since = std::time::Instant::now();
            let looked = async {
                let lease = pool
                    .acquire(name, &caller)
                    .map_err(|error| error.to_string())?;
                look.at(&lease).await
            };
            seen.push((name.clone(), looked.await, since.elapsed()));
        }
        pool.close().await;
        show(context, look, &seen)
    }
}

impl Look {
    async fn at(self, lease: &Lease) -> std::result::Result<Vec<Value>, String> {
        let error = |error: adjutant::mcp::Error| error.to_string();
        match self {
            Self::Probe => Ok(vec![json!(lease.info().await.map_err(error)?)]),
            Self::Tools => {
                let catalog = lease.tools().await.map_err(error)?;
                Ok(catalog.tools.iter().map(|tool| json!(tool.spec)).collect())
            }
            Self::Resources => lease.resources(false).await.map_err(error),
            Self::Prompts => lease.prompts().await.map_err(error),
        }
    }
}

type Seen = (
    String,
    std::result::Result<Vec<Value>, String>,
    std::time::Duration,
);

fn show(context: &Context, look: Look, seen: &[Seen]) -> Result<Exit> {
    let failed: Vec<String> = seen
        .iter()
        .filter_map(|(name, result, _)| Some(format!("{name}: {}", result.as_ref().err()?)))
        .collect();
    if context.out.is_structured() {
        let of = |(name, result, took): &Seen| {
            let (items, error) = match result {
                Ok(items) => (Some(items), None),
                Err(error) => (None, Some(error)),
            };
            json!({ "server": name, "items": items, "error": error, "milliseconds": took.as_millis() as u64 })
        };
        context
            .out
            .value(&seen.iter().map(of).collect::<Vec<_>>())?;
    } else if let Look::Probe = look {
        let rows = seen.iter().map(|(name, result, took)| {
            let said = match result {
                Ok(info) => clip(&info[0].to_string(), 80),
                Err(error) => clip(error, 80),
            };
            let state = if result.is_ok() { "ok" } else { "failed" };
            vec![name.clone(), state.to_owned(), show_duration(*took), said]
        });
        context
            .out
            .table(&["SERVER", "STATE", "TOOK", "SAYS"], rows.collect())?;
    } else {
        let mut rows = Vec::new();
        for (server, result, _) in seen {
            rows.extend(result.iter().flatten().map(|item| item_row(server, item)));
        }
        context
            .out
            .table(&["SERVER", "NAME", "EFFECT", "DESCRIPTION"], rows)?;
    }
    if failed.is_empty() {
        return Ok(Exit::Ok);
    }
    Err(Failure::failed(MCP_FAILED, "not every server answers")
        .because(failed.join("; "))
        .hint("what they wrote to stderr is in `agent logs`"))
}

fn item_row(server: &str, item: &Value) -> Vec<String> {
    let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
    let name = Some(text("name"))
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| text("uri"));
    let description = text("description");
    let first = description.lines().next().unwrap_or_default();
    vec![server.to_owned(), name, text("effect"), clip(first, 70)]
}

impl Call {
    async fn run(self, context: &Context) -> Result<Exit> {
        let (pool, caller) = open(context, &self.path)?;
        let outcome = self.call(context, &pool, &caller).await;
        pool.close().await;
        outcome
    }

    async fn call(&self, context: &Context, pool: &McpServerPool, caller: &Caller) -> Result<Exit> {
        let Some((server, tool)) = self.tool.split_once("__") else {
            let message = format!("`{}` names no server", self.tool);
            return Err(Failure::usage(USAGE, message)
                .hint("name it SERVER__TOOL, as `agent mcp tools` does"));
        };
        let arguments: Map<String, Value> = input::json_argument("ARGUMENTS", &self.arguments)?
            .to()
            .map_err(|error| {
                Failure::usage(USAGE, "the arguments are no JSON object").because(error.to_string())
            })?;
        let failed = |error: String| {
            Failure::failed(MCP_FAILED, format!("`{}` gave no answer", self.tool)).because(error)
        };
        let lease = pool
            .acquire(server, caller)
            .map_err(|error| failed(error.to_string()))?;
        let reply = lease.call(Request::new(tool, &arguments)).await;
        match reply.map_err(|error| failed(error.to_string()))? {
            Reply::Answer(answer) => {
                if context.out.is_structured() {
                    context.out.value(&answer)?;
                } else {
                    context.out.line(&answer.joined_text())?;
                }
                Ok(if answer.is_error {
                    Exit::Failed
                } else {
                    Exit::Ok
                })
            }
            Reply::InputRequired { requests, .. } => Err(failed(format!(
                "it asks for input, which only a run can give: {}",
                Value::Object(requests)
            ))),
        }
    }
}

/// The pool of one agent's servers, and who asks.
fn open(context: &Context, path: &std::path::Path) -> Result<(McpServerPool, Caller)> {
    let agent = Found::at(context, path)?;
    let pool = equipment::pool_of(context, &agent)?;
    Ok((pool, Caller::new(agent.key(), RunId::new())))
}
