//! A host that remembers, and agents in scripts.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use adjutant_core::{
    Agent, AgentError, AgentKey, ApprovalRequest, BudgetLeft, ChildOutcome, ConversationId,
    Decision, Delegate, DeltaSink, Effect, Error, ErrorInfo, Fingerprint, FinishReason, HostStep,
    Json, Message, ModelCall, ModelDelta, ModelResponse, NewEvent, OnInterrupt, Result,
    RetryPolicy, RunContext, RunHost, RunId, RunInput, RunResult, RunState, StepBody, StepKind,
    Timestamp, TokenUsage, ToolAnswer, ToolSpec, ToolUse,
};
use adjutant_process::{
    AgentOptions, Environment, Helper, Manifest, NativeOptions, NativeProcesses, Ownership,
    ProcessAgent,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

/// How many tools a host has that has some: more than a page of the wire.
pub const TOOLS: usize = 130;

/// What outlives an attempt.
#[derive(Default)]
pub struct Memory {
    pub journal: HashMap<String, (Fingerprint, Result<Json, ErrorInfo>)>,
    pub checkpoints: Vec<Json>,
    pub events: Vec<NewEvent>,
    pub slept: Vec<(String, Duration)>,
    pub asked: Vec<ApprovalRequest>,
    /// Answers that are there; without one a wait never returns.
    pub decision: Option<Decision>,
    pub signal: Option<Json>,
    pub sleeps_return: bool,
    /// What the tool `search` answers; without it there are no tools.
    pub tool_answer: Option<Result<ToolAnswer, ErrorInfo>>,
    pub tool_calls: Vec<ToolUse>,
    /// What the model answers, piece by piece; without it there is none.
    pub model_says: Option<Vec<String>>,
    pub model_calls: Vec<ModelCall>,
    pub said: Vec<Message>,
    pub variables: Vec<(String, String)>,
    pub budget: BudgetLeft,
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
    replayed: AtomicBool,
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
    fn note(&self, event: NewEvent) {
        self.write(|memory| memory.events.push(event)).unwrap();
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
        if let Some((input, recorded)) = recorded {
            if input != step.input {
                let why = "recorded with another input";
                return Err(AgentError::permanent("step_changed", why));
            }
            return Ok(recorded?);
        }
        let result = body(1).await;
        match &result {
            Ok(value) => {
                let value = value.clone();
                let entry = (step.input, Ok(value));
                self.write(|memory| drop(memory.journal.insert(step.name, entry)))?;
            }
            Err(error) if !error.info().retriable => {
                let entry = (step.input, Err(error.info().clone()));
                self.write(|memory| drop(memory.journal.insert(step.name, entry)))?;
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

    async fn tools(&self) -> Result<Vec<ToolSpec>, AgentError> {
        let memory = self.memory.lock().unwrap();
        let count = memory.tool_answer.iter().len() * TOOLS;
        let names = (0..count).map(|n| format!("search{n}"));
        let spec = |name| ToolSpec::new(name, "Searches.", json!({ "type": "object" }));
        Ok(names
            .map(|name| spec(name).effect(Effect::ReadOnly))
            .collect())
    }
    async fn call_tool(&self, call: ToolUse) -> Result<ToolAnswer, AgentError> {
        let step = HostStep {
            name: call.key.clone(),
            kind: StepKind::Tool,
            input: call.arguments.fingerprint(),
            retry: RetryPolicy::never(),
            timeout: call.timeout,
            description: None,
            on_interrupt: OnInterrupt::Repeat,
        };
        let answer = self.memory.lock().unwrap().tool_answer.clone();
        let Some(answer) = answer else {
            let why = "there is no tool";
            return Err(AgentError::permanent("tool_unavailable", why));
        };
        let recorded = self
            .step(step, &mut |_| {
                let (call, answer) = (call.clone(), answer.clone());
                Box::pin(async move {
                    self.memory.lock().unwrap().tool_calls.push(call);
                    Ok(Json::from_value(&answer?)?)
                })
            })
            .await?;
        Ok(recorded.to()?)
    }
    async fn generate(
        &self,
        call: ModelCall,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse, AgentError> {
        let says = self.memory.lock().unwrap().model_says.clone();
        let Some(says) = says else {
            let why = "there is no model";
            return Err(AgentError::permanent("model_unavailable", why));
        };
        if let Some(deltas) = deltas {
            for text in says.clone() {
                deltas(ModelDelta::Text { text });
                tokio::task::yield_now().await;
            }
        }
        self.memory.lock().unwrap().model_calls.push(call);
        Ok(ModelResponse {
            message: Message::assistant(says.concat()),
            finish_reason: FinishReason::Stop,
            model: "m-1".to_owned(),
            usage: TokenUsage {
                input_tokens: 3,
                output_tokens: 2,
                ..TokenUsage::default()
            },
            cost_usd: Some(0.5),
            response_id: None,
        })
    }
    fn is_recorded(&self, name: &str) -> bool {
        // These tests record one wait at most.
        let used = self.replayed.swap(true, Ordering::SeqCst);
        !used && self.memory.lock().unwrap().journal.contains_key(name)
    }
    async fn steering(&self, seen: usize) -> Result<Vec<Message>> {
        loop {
            let said = self.memory.lock().unwrap().said.clone();
            if let Some(more) = said.get(seen..).filter(|more| !more.is_empty()) {
                return Ok(more.to_vec());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    fn deadline(&self) -> Option<Timestamp> {
        Some(Timestamp::from_micros(60_000_000))
    }
    fn budget_left(&self) -> BudgetLeft {
        self.memory.lock().unwrap().budget
    }
    fn environment(&self) -> Vec<(String, String)> {
        self.memory.lock().unwrap().variables.clone()
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
        self.attempt_at(agent, self.run, attempt, &self.input).await
    }

    /// An attempt at a run of its own; all runs share the memory.
    pub async fn attempt_at(
        &self,
        agent: &ProcessAgent,
        run: RunId,
        attempt: u32,
        input: &RunInput,
    ) -> Result<RunResult, ErrorInfo> {
        let ctx = RunContext::new(Arc::new(Host {
            run,
            key: agent.key(),
            attempt,
            input: Json::from_value(input).unwrap(),
            metadata: Json::from(json!({ "cwd": "/somewhere" })),
            memory: Arc::clone(&self.memory),
            cancel: self.cancel.clone(),
            replayed: AtomicBool::new(false),
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
