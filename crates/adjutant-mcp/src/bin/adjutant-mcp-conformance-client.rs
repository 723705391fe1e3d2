//! What the protocol's published conformance suite starts: the pool as a client of one server of the suite's.
//!
//! The last argument is the server's address, `MCP_CONFORMANCE_SCENARIO` names the scenario. Nearly all scenarios want the
//! same of a client: that it uses whatever it finds. So each tool is called, each resource read, each prompt got.

use std::{
    env, fs,
    path::Path,
    process::{self, ExitCode},
    sync::Arc,
    time::Duration,
};

use adjutant_core::RunId;
use adjutant_mcp::{
    Lease, McpServerPool, OAuth, PoolOptions, Request, ServerConfig, ServerTool, ServersConfig,
};
use adjutant_process::NativeProcesses;
use adjutant_tools::{Caller, ClientPort, InputResume, Reply, ToolError};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

type Failed = Box<dyn std::error::Error>;

/// A tool that asks more often than this asks for ever.
const MOST_ROUNDS: usize = 10;

/// A server that wants more logins than this is never content.
const MOST_LOGINS: usize = 3;

/// What a person is told to do.
const LOGIN: &str = "agent mcp login";

/// Longest time for a login.
const PATIENCE: Duration = Duration::from_secs(5);

/// The document that the suite's authorization servers know.
const DOCUMENT: &str = "https://conformance-test.local/client-metadata.json";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match drive().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn drive() -> Result<(), Failed> {
    let url = std::env::args().next_back().unwrap_or_default();
    let mut config = ServersConfig::default();
    let mut server = ServerConfig::at(url);
    server.oauth = Some(oauth()?);
    config.servers.insert("suite".to_owned(), server);
    let folder = env::temp_dir().join(format!("adjutant-conformance-{}", process::id()));
    let done = log_in_and_use(&config, &folder).await;
    let _ = fs::remove_dir_all(folder);
    done
}

/// Does what a person would: uses the server, logs in when it is told to, and uses it again.
async fn log_in_and_use(config: &ServersConfig, folder: &Path) -> Result<(), Failed> {
    let caller = Caller::new("suite", RunId::new());
    let mut logins = 0;
    loop {
        let processes = Arc::new(NativeProcesses::new()?);
        let options = PoolOptions::new(processes).token_dir(folder);
        let pool = McpServerPool::new(config.clone(), options);
        let lease = pool.acquire("suite", &caller)?;
        let used = use_all(&lease).await;
        drop(lease);
        let told = used.as_ref().err().map(ToString::to_string);
        let Some(told) = told.filter(|told| told.contains(LOGIN) && logins < MOST_LOGINS) else {
            pool.close().await;
            return used;
        };
        logins += 1;
        let logged_in = log_in(&pool, &caller, &told).await;
        pool.close().await;
        logged_in?;
    }
}

/// Opens the address as a browser would, which goes wherever it is sent.
async fn log_in(pool: &McpServerPool, caller: &Caller, told: &str) -> Result<(), Failed> {
    let scopes = told.split_once("--scope '").map(|(_, rest)| rest);
    let scopes = scopes
        .and_then(|rest| rest.split_once('\''))
        .map(|(scopes, _)| scopes);
    let scopes: Vec<String> = scopes
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let login = pool.login("suite", caller, &scopes).await?;
    let browser = reqwest::Client::builder().no_proxy().build()?;
    let opened = browser.get(login.url().to_owned()).send();
    let (finished, opened) = tokio::join!(login.finish(PATIENCE), opened);
    opened?;
    Ok(finished?)
}

/// Uses all that the server has.
async fn use_all(lease: &Lease) -> Result<(), Failed> {
    let scenario = std::env::var("MCP_CONFORMANCE_SCENARIO").unwrap_or_default();
    let catalog = lease.tools().await?;
    let calls = if scenario == "json-schema-2020-12-preservation" {
        vec![preserved(&catalog.tools)?]
    } else {
        match given() {
            Some(calls) => calls,
            None => catalog.tools.iter().map(guessed).collect(),
        }
    };
    // All at a time, as agents do: scenarios look whether calls are mixed up.
    let calls = calls
        .iter()
        .map(|(tool, arguments)| call(lease, tool, arguments));
    for called in futures::future::join_all(calls).await {
        called?;
    }
    read_all(lease).await;
    Ok(())
}

/// What the suite tells besides the scenario's name.
fn context() -> Option<Value> {
    let context = std::env::var("MCP_CONFORMANCE_CONTEXT").ok()?;
    serde_json::from_str(&context).ok()
}

/// Who the client is: what the suite says, or the document that it knows.
fn oauth() -> Result<OAuth, Failed> {
    let context = context().unwrap_or_default();
    let mut oauth = json!({ "client_metadata_url": DOCUMENT });
    for field in ["client_id", "client_secret"] {
        if let Some(value) = context.get(field) {
            oauth[field] = value.clone();
        }
    }
    let scenario = std::env::var("MCP_CONFORMANCE_SCENARIO").unwrap_or_default();
    if !scenario.contains("client-credentials") {
        oauth["flow"] = json!("authorization_code");
    }
    Ok(serde_json::from_value(oauth)?)
}

/// The calls that the suite asks for, if it does.
fn given() -> Option<Vec<(String, Map<String, Value>)>> {
    let context = context()?;
    let calls = context.get("toolCalls")?.as_array()?;
    let call = |call: &Value| {
        let name = call.get("name")?.as_str()?.to_owned();
        Some((name, call.get("arguments")?.as_object()?.clone()))
    };
    calls.iter().map(call).collect()
}

/// A call with a value for each argument that there must be.
fn guessed(tool: &ServerTool) -> (String, Map<String, Value>) {
    let schema = tool.spec.input_schema.to::<Value>().unwrap_or_default();
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let names = required.iter().filter_map(Value::as_str);
    let arguments = names.map(|name| (name.to_owned(), value_of(&schema["properties"][name])));
    (tool.name.clone(), arguments.collect())
}

/// Some value of a schema.
fn value_of(schema: &Value) -> Value {
    if let Some(default) = schema.get("default") {
        return default.clone();
    }
    if let Some(first) = schema.get("enum").and_then(|all| all.get(0)) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => json!("text"),
    }
}

/// Gives one tool's schema to another tool, as the pool shows it to agents.
fn preserved(tools: &[ServerTool]) -> Result<(String, Map<String, Value>), Failed> {
    let takes = |tool: &ServerTool| {
        let schema = tool.spec.input_schema.to::<Value>().unwrap_or_default();
        schema["properties"].get("schema").is_some()
    };
    let echo = tools.iter().find(|tool| takes(tool)).ok_or("no echo")?;
    let other = tools.iter().find(|tool| !takes(tool)).ok_or("no other")?;
    let schema = other.spec.input_schema.to::<Value>()?;
    let arguments = Map::from_iter([("schema".to_owned(), schema)]);
    Ok((echo.name.clone(), arguments))
}

/// Calls a tool, and again with answers for as long as it asks.
async fn call(lease: &Lease, tool: &str, arguments: &Map<String, Value>) -> Result<(), ToolError> {
    let mut resume: Option<InputResume> = None;
    for _ in 0..MOST_ROUNDS {
        let request = Request {
            port: Some(&Answers),
            resume: resume.as_ref(),
            ..Request::new(tool, arguments)
        };
        let Reply::InputRequired { requests, state } = lease.call(request).await? else {
            return Ok(());
        };
        let answers = requests
            .into_iter()
            .map(|(key, asked)| (key, answer(&asked)));
        resume = Some(InputResume {
            responses: answers.collect(),
            state,
        });
    }
    Err(ToolError::denied(tool, "it asks for ever"))
}

fn answer(asked: &Value) -> Value {
    match asked["method"].as_str() {
        Some("sampling/createMessage") => sampled(),
        Some("roots/list") => json!({ "roots": [] }),
        _ => accepted(&asked["params"]),
    }
}

/// A form that somebody has sent as it was, with something in each field.
fn accepted(params: &Value) -> Value {
    let fields = params["requestedSchema"]["properties"].as_object();
    let fields = fields.into_iter().flatten();
    let content: Map<String, Value> = fields
        .map(|(name, schema)| (name.clone(), value_of(schema)))
        .collect();
    json!({ "action": "accept", "content": content })
}

fn sampled() -> Value {
    let content = json!({ "type": "text", "text": "an answer" });
    json!({ "role": "assistant", "content": content, "model": "test", "stopReason": "endTurn" })
}

/// Whoever is asked while a call lasts.
struct Answers;

#[async_trait]
impl ClientPort for Answers {
    async fn sample(&self, _request: Value) -> Result<Value, ToolError> {
        Ok(sampled())
    }

    async fn elicit(&self, request: Value) -> Result<Value, ToolError> {
        Ok(accepted(&request))
    }
}

/// Reads what can be read; servers without resources and prompts refuse.
async fn read_all(lease: &Lease) {
    for resource in lease.resources(false).await.unwrap_or_default() {
        if let Some(uri) = resource["uri"].as_str() {
            let _ = lease.read_resource(uri).await;
        }
    }
    for prompt in lease.prompts().await.unwrap_or_default() {
        if let Some(name) = prompt["name"].as_str() {
            let _ = lease.prompt(name, &Map::new()).await;
        }
    }
}
