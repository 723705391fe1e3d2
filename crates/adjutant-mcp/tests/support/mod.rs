//! A pool of servers that misbehave.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_core::{RunId, ToolAnswer};
use adjutant_mcp::{
    Lease, McpServerPool, PoolOptions, Request, ServerConfig, ServerView, ServersConfig,
};
use adjutant_process::{Environment, NativeProcesses};
use adjutant_tools::{Caller, Reply, ToolError};
use serde_json::{Map, Value, json};

pub const FIXTURE: &str = env!("CARGO_BIN_EXE_adjutant-mcp-fixture");

/// A server that misbehaves in these ways.
pub fn fixture(flags: &[&str]) -> ServerConfig {
    let mut config = ServerConfig::program(FIXTURE, flags.iter().copied());
    config.restart.delay = Duration::from_millis(10);
    config.restart.max_delay = Duration::from_millis(100);
    config
}

pub fn pool_of(servers: &[(&str, ServerConfig)]) -> McpServerPool {
    let servers = servers
        .iter()
        .map(|(name, one)| ((*name).to_owned(), one.clone()));
    let config = ServersConfig {
        servers: servers.collect(),
    };
    assert_eq!(config.problems(), []);
    let processes = Arc::new(NativeProcesses::new().unwrap());
    let options = PoolOptions::new(processes).base(Environment::inherited(std::env::vars()));
    McpServerPool::new(config, options)
}

pub fn pool(config: ServerConfig) -> McpServerPool {
    pool_of(&[("s", config)])
}

pub fn caller(agent: &str) -> Caller {
    Caller::new(agent, RunId::new())
}

pub fn lease(pool: &McpServerPool) -> Lease {
    pool.acquire("s", &caller("a")).unwrap()
}

pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

pub async fn call(lease: &Lease, tool: &str, arguments: Value) -> Result<ToolAnswer, ToolError> {
    let arguments = object(arguments);
    match lease.call(Request::new(tool, &arguments)).await? {
        Reply::Answer(answer) => Ok(answer),
        other => panic!("{other:?} is no answer"),
    }
}

pub async fn text(lease: &Lease, tool: &str, arguments: Value) -> String {
    call(lease, tool, arguments).await.unwrap().joined_text()
}

pub async fn echo(lease: &Lease, word: &str) {
    assert_eq!(text(lease, "echo", json!({ "text": word })).await, word);
}

pub fn view(pool: &McpServerPool) -> ServerView {
    pool.list().into_iter().find(|one| one.name == "s").unwrap()
}

/// Waits until something holds; what it is worth waiting for happens long before the time is over.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process lives; one that is only to be buried does not.
pub fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

/// Processes with these words in their arguments.
pub fn marked(mark: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let arguments = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let texts = arguments.map(|text| String::from_utf8_lossy(&text).replace('\0', " "));
    texts.filter(|text| text.contains(mark)).count()
}

/// Lines of a file, which may not be there.
pub fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

pub fn flag(name: &str, file: &Path) -> String {
    format!("--{name}={}", file.display())
}

pub fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("count");
    (dir, file)
}
