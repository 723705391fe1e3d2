//! A host that remembers, and agents in scripts.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use adjutant_core::{
    Agent, AgentError, AgentKey, ApprovalRequest, ChildOutcome, ConversationId, Decision, Delegate,
    Error, ErrorInfo, HostStep, Json, NewEvent, Result, RunContext, RunHost, RunId, RunInput,
    RunResult, RunState, StepBody, Timestamp,
};
use adjutant_process::{
    AgentOptions, Environment, Helper, Manifest, NativeOptions, NativeProcesses, Ownership,
    ProcessAgent,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

/// What outlives an attempt.
#[derive(Default)]
pub struct Memory {
    pub journal: HashMap<String, Result<Json, ErrorInfo>>,
    pub checkpoints: Vec<Json>,
    pub events: Vec<NewEvent>,
    pub slept: Vec<(String, Duration)>,
    pub asked: Vec<ApprovalRequest>,
    /// Answers that are there; without one a wait never returns.
    pub decision: Option<Decision>,
    pub signal: Option<Json>,
    pub sleeps_return: bool,
    /// Whether every write fails because somebody else holds the run.
    pub lease_lost: bool,
}

pub struct Host {
    run: RunId,
    key: AgentKey,
    attempt: u32,
    input: Json,
    metadata: Json,
    pub memory: Arc<Mutex<Memory>>,
    pub cancel: watch::Sender<bool>,
}

impl Host {
    fn write(&self, change: impl FnOnce(&mut Memory)) -> Result<()> {
        let mut memory = self.memory.lock().unwrap();
        if memory.lease_lost {
            return Err(Error::LeaseLost {
                run: self.run,
                epoch: self.epoch(),
            });
        }
        change(&mut memory);
        Ok(())
    }
}

#[async_trait]
impl RunHost for Host {
    fn run_id(&self) -> RunId {
        self.run
    }
    fn agent(&self) -> &AgentKey {
        &self.key
    }
    fn attempt(&self) -> u32 {
        self.attempt
    }
    fn epoch(&self) -> u64 {
        u64::from(self.attempt) + 6
    }
    fn input(&self) -> &Json {
        &self.input
    }
    fn metadata(&self) -> &Json {
        &self.metadata
    }
    fn conversation_id(&self) -> Option<ConversationId> {
        None
    }
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
    fn cancelled(&self) -> bool {
        *self.cancel.borrow()
    }
    async fn cancellation(&self) {
        let mut cancel = self.cancel.subscribe();
        cancel.wait_for(|cancel| *cancel).await.unwrap();
    }

    async fn emit(&self, event: NewEvent) -> Result<u64> {
        // Give others a chance to overtake, if anything lets them.
        tokio::task::yield_now().await;
        self.write(|memory| memory.events.push(event))?;
        Ok(self.memory.lock().unwrap().events.len() as u64)
    }
    async fn checkpoint(&self, state: Json) -> Result<u64> {
        tokio::task::yield_now().await;
        self.write(|memory| memory.checkpoints.push(state))?;
        Ok(self.memory.lock().unwrap().checkpoints.len() as u64)
    }
    fn state(&self) -> Option<Json> {
        self.memory.lock().unwrap().checkpoints.last().cloned()
    }

    async fn step(&self, step: HostStep, body: &mut StepBody<'_>) -> Result<Json, AgentError> {
        let recorded = self.memory.lock().unwrap().journal.get(&step.name).cloned();
        if let Some(recorded) = recorded {
            return Ok(recorded?);
        }
        let result = body(1).await;
        match &result {
            Ok(value) => {
                let value = value.clone();
                self.write(|memory| drop(memory.journal.insert(step.name, Ok(value))))?;
            }
            Err(error) if !error.info().retriable => {
                let error = error.info().clone();
                self.write(|memory| drop(memory.journal.insert(step.name, Err(error))))?;
            }
            Err(_) => {}
        }
        result
    }
    async fn sleep(&self, name: &str, duration: Duration) -> Result<(), AgentError> {
        self.write(|memory| memory.slept.push((name.to_owned(), duration)))?;
        if !self.memory.lock().unwrap().sleeps_return {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
    async fn wait_for_signal(
        &self,
        _name: &str,
        _timeout: Option<Duration>,
    ) -> Result<Option<Json>, AgentError> {
        let signal = self.memory.lock().unwrap().signal.clone();
        match signal {
            Some(signal) => Ok(Some(signal)),
            None => std::future::pending().await,
        }
    }
    async fn request_approval(&self, request: ApprovalRequest) -> Result<Decision, AgentError> {
        self.write(|memory| memory.asked.push(request))?;
        let decision = self.memory.lock().unwrap().decision.clone();
        match decision {
            Some(decision) => Ok(decision),
            None => std::future::pending().await,
        }
    }
    async fn delegate(&self, delegate: Delegate) -> Result<Vec<ChildOutcome>, AgentError> {
        let echo = |(_, input): (AgentKey, RunInput)| ChildOutcome {
            run_id: RunId::new(),
            status: RunState::Succeeded,
            output: input.data,
            error: None,
        };
        Ok(delegate.children.into_iter().map(echo).collect())
    }
}

/// Processes of this machine, owned in one way or the best, with or without the helper.
pub fn native(
    ownership: Option<Ownership>,
    helper: bool,
) -> adjutant_process::Result<NativeProcesses> {
    let mut options = NativeOptions::default();
    options.ownership = ownership;
    options.helper = helper.then(|| Helper::new(env!("CARGO_BIN_EXE_adjutant-helper")));
    NativeProcesses::with(options)
}

/// An agent in a folder of its own, and one run of it.
pub struct Case {
    pub dir: TempDir,
    pub manifest: Manifest,
    pub memory: Arc<Mutex<Memory>>,
    pub cancel: watch::Sender<bool>,
    pub input: RunInput,
    pub processes: NativeProcesses,
    run: RunId,
}

impl Case {
    pub fn new<const N: usize>(command: [&str; N]) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            manifest: Manifest {
                stop_grace: Duration::from_millis(300),
                ..Manifest::new("tested", command)
            },
            memory: Arc::default(),
            cancel: watch::Sender::new(false),
            input: RunInput::data(json!({ "n": 3 })),
            processes: native(None, true).unwrap(),
            run: RunId::new(),
        }
    }

    /// An agent written with the Python library; `code` is the body of `work(run)`.
    pub fn python(code: &str) -> Self {
        let body: String = code.lines().map(|line| format!("    {line}\n")).collect();
        let text = format!(
            "import os, sys, time, threading\nfrom adjutant_agent import *\n@agent('tested')\ndef work(run):\n{body}\nserve()\n"
        );
        let mut case = Self::new(["python3", "agent.py"]);
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adjutant-agent/python");
        case.manifest
            .env
            .set("PYTHONPATH", library.to_str().unwrap());
        case.manifest.env.set("PYTHONDONTWRITEBYTECODE", "1");
        case.write("agent.py", &text);
        case
    }

    /// An agent that speaks the wire by hand: it has greeted and holds `scope`; `code` goes on from there.
    pub fn by_hand(code: &str) -> Self {
        let text = format!(
            r#"
import json, os, sys, time
def send(**message): print(json.dumps(dict(jsonrpc="2.0", **message)), flush=True)
def receive(): return json.loads(sys.stdin.readline())
receive()
send(id=1, result=dict(protocolVersion=1, info=dict(name="by-hand")))
start = receive()["params"]
scope = {{key: start[key] for key in ("runId", "attempt", "epoch")}}
def end(data): send(id=2, result=dict(stopReason="end_turn", output=dict(data=data)))
{code}
"#
        );
        let case = Self::new(["python3", "agent.py"]);
        case.write("agent.py", &text);
        case
    }

    pub fn shell(script: &str) -> Self {
        Self::new(["/bin/sh", "-c", script])
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.file(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub async fn attempt(&self, attempt: u32) -> Result<RunResult, ErrorInfo> {
        self.attempt_of(&self.agent(), attempt).await
    }

    /// The agent, which may keep processes for as long as it lives.
    pub fn agent(&self) -> ProcessAgent {
        self.agent_with(AgentOptions::default())
    }

    pub fn agent_with(&self, options: AgentOptions) -> ProcessAgent {
        let environment = Environment::inherited(std::env::vars());
        let processes = Arc::new(self.processes.clone());
        ProcessAgent::with(
            self.manifest.clone(),
            self.dir.path(),
            environment,
            processes,
            options,
        )
    }

    pub async fn attempt_of(
        &self,
        agent: &ProcessAgent,
        attempt: u32,
    ) -> Result<RunResult, ErrorInfo> {
        let ctx = RunContext::new(Arc::new(Host {
            run: self.run,
            key: agent.key(),
            attempt,
            input: Json::from_value(&self.input).unwrap(),
            metadata: Json::from(json!({ "cwd": "/somewhere" })),
            memory: Arc::clone(&self.memory),
            cancel: self.cancel.clone(),
        }));
        agent.run(&ctx).await.map_err(AgentError::into_info)
    }

    pub async fn output(&self) -> Value {
        let result = self.attempt(1).await.unwrap();
        result.final_output.to().unwrap()
    }

    pub async fn failure(&self) -> ErrorInfo {
        self.attempt(1).await.unwrap_err()
    }

    pub fn events(&self, event_type: &str) -> Vec<Value> {
        let memory = self.memory.lock().unwrap();
        let of_type = memory
            .events
            .iter()
            .filter(|event| event.event_type.as_str() == event_type);
        of_type.map(|event| event.payload.to().unwrap()).collect()
    }
}

/// Waits for a condition; a minute is for machines that do much else.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

/// Whether a process still runs; one that waits to be reaped does not.
pub fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .trim()
        .chars()
        .next();
    !matches!(state, None | Some('Z' | 'X'))
}
