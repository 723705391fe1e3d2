//! The runtime's end of the pipes, as a script.

use std::{
    collections::HashMap,
    io::{Read, Write},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use adjutant_wire::{
    AgentNotice, AgentRequest, Call, CancelRequest, CheckpointSaved, Decoder, Empty, Frame,
    Initialize, Initialized, Limits, Message, Notice, Notification, Outcome, PROTOCOL_VERSION,
    Request, RequestId, Response, RpcError, RunEvent, RunHeartbeat, RunInput, RunMessage, RunScope,
    RunStart, StepDecision, encode,
};
use serde_json::{Value, json};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which of the two fixtures is driven.
#[derive(Clone, Copy, PartialEq)]
pub enum Language {
    Rust,
    Python,
}

impl Language {
    fn command(self) -> Command {
        if self == Self::Rust {
            return Command::new(env!("CARGO_BIN_EXE_adjutant-agent-fixture"));
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("python3");
        command.arg(root.join("tests/fixture/agent.py"));
        command
            .env("PYTHONPATH", root.join("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// An agent process and what was heard of it.
pub struct Host {
    child: Child,
    stdin: Option<ChildStdin>,
    frames: Receiver<Frame>,
    next_id: i64,
    pub events: Vec<RunEvent>,
    pub heartbeats: Vec<RunHeartbeat>,
    pub given_up: Vec<CancelRequest>,
}

impl Host {
    pub fn start(language: Language) -> Self {
        Self::start_with(language, Limits::default())
    }

    pub fn start_with(language: Language, limits: Limits) -> Self {
        let mut command = language.command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("these tests need {:?}: {error}", command.get_program());
        });
        let mut stdout = child.stdout.take().unwrap();
        let (sender, frames) = channel();
        thread::spawn(move || {
            let (mut decoder, mut piece) = (Decoder::default(), [0; 4096]);
            while let Ok(count @ 1..) = stdout.read(&mut piece) {
                decoder.push(&piece[..count]);
                while let Some(frame) = decoder.next_frame() {
                    let _ = sender.send(frame);
                }
            }
        });
        let stdin = child.stdin.take();
        let mut host = Self {
            child,
            stdin,
            frames,
            next_id: 1,
            events: Vec::new(),
            heartbeats: Vec::new(),
            given_up: Vec::new(),
        };
        let offer = Initialize {
            protocol_version: PROTOCOL_VERSION + 1,
            heartbeat_ms: 20,
            limits,
            ..Initialize::default()
        };
        let answer: Initialized = host.call(&offer).unwrap();
        assert_eq!(
            answer.protocol_version, PROTOCOL_VERSION,
            "the highest it knows below the offer"
        );
        assert_eq!(
            (answer.max_concurrent_runs, answer.agents[0].name.as_str()),
            (1, "fixture")
        );
        assert!(answer.capabilities.steps && answer.capabilities.checkpoint);
        host
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn send(&mut self, message: impl Into<Message>) {
        self.write(encode(&message.into()).as_bytes());
    }

    pub fn notify<N: Notice>(&mut self, notice: &N) {
        self.send(Notification::notice(notice).unwrap());
    }

    pub fn request<C: Call>(&mut self, call: &C) -> RequestId {
        let id = self.next_id;
        self.next_id += 1;
        self.send(Request::call(id, call).unwrap());
        id.into()
    }

    /// The next message that is no notification; those are kept.
    pub fn next(&mut self) -> Message {
        loop {
            match self
                .frames
                .recv_timeout(PATIENCE)
                .expect("the agent says nothing any more")
            {
                Frame::Message(Message::Notification(notification)) => self.keep(notification),
                Frame::Message(message) => return message,
                frame => panic!("the agent must speak the protocol only: {frame:?}"),
            }
        }
    }

    fn keep(&mut self, notification: Notification) {
        match AgentNotice::read(notification).unwrap() {
            AgentNotice::RunEvent(event) => self.events.push(event),
            AgentNotice::RunHeartbeat(heartbeat) => self.heartbeats.push(heartbeat),
            AgentNotice::CancelRequest(cancel) => self.given_up.push(cancel),
            notice => panic!("not expected: {notice:?}"),
        }
    }

    /// Reads until a notification makes `seen` true.
    pub fn wait_until(&mut self, seen: impl Fn(&Self) -> bool) {
        while !seen(self) {
            match self
                .frames
                .recv_timeout(PATIENCE)
                .expect("the agent says nothing any more")
            {
                Frame::Message(Message::Notification(notification)) => self.keep(notification),
                frame => panic!("not expected: {frame:?}"),
            }
        }
    }

    pub fn next_response(&mut self) -> Response {
        match self.next() {
            Message::Response(response) => response,
            message => panic!("not a response: {message:?}"),
        }
    }

    pub fn next_request(&mut self) -> (RequestId, AgentRequest) {
        match self.next() {
            Message::Request(request) => (request.id.clone(), AgentRequest::read(request).unwrap()),
            message => panic!("not a request: {message:?}"),
        }
    }

    pub fn call<C: Call>(&mut self, call: &C) -> Result<C::Answer, RpcError> {
        let id = self.request(call);
        let response = self.next_response();
        assert_eq!(response.id, Some(id));
        response
            .outcome
            .map(|result| C::read_answer(result).unwrap())
    }

    /// Starts an attempt and answers its calls until it ends.
    pub fn drive(
        &mut self,
        start: &RunStart,
        mut answer: impl FnMut(&AgentRequest) -> Outcome,
    ) -> Outcome {
        let started = self.request(start);
        loop {
            match self.next() {
                Message::Response(response) if response.id.as_ref() == Some(&started) => {
                    return response.outcome;
                }
                Message::Request(request) => {
                    let outcome = answer(&AgentRequest::read(request.clone()).unwrap());
                    self.send(request.answer(outcome));
                }
                message => panic!("not expected: {message:?}"),
            }
        }
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the agent does not exit");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An attempt of the run `r-1` at what `mode` says.
pub fn start(mode: &str, attempt: u32) -> RunStart {
    RunStart {
        scope: RunScope {
            run_id: "r-1".into(),
            attempt,
            epoch: u64::from(attempt) + 10,
        },
        agent: "fixture".into(),
        input: RunInput {
            messages: vec![RunMessage::new("user", "hello")],
            data: Some(json!({ "mode": mode })),
        },
        params: json!({"p": 1}),
        ..RunStart::default()
    }
}

/// What a runtime remembers of a run.
#[derive(Default)]
pub struct Journal {
    pub steps: HashMap<String, StepDecision>,
    /// Keys of steps that were done, in order.
    pub done: Vec<String>,
    /// Steps' tries as they were reported.
    pub tries: Vec<u32>,
    pub state: Option<Value>,
    /// Answers to waits; a wait without one is parked.
    pub waits: HashMap<String, Value>,
    pub hashes: HashMap<String, Option<String>>,
}

impl Journal {
    pub fn answer(&mut self, request: &AgentRequest) -> Outcome {
        let wait = |key: &String| {
            self.waits
                .get(key)
                .cloned()
                .ok_or_else(|| RpcError::park("not yet"))
        };
        match request {
            AgentRequest::StepBegin(begin) => {
                self.hashes
                    .insert(begin.key.clone(), begin.input_hash.clone());
                let known = self.steps.get(&begin.key).cloned();
                Ok(json!(known.unwrap_or(StepDecision::Execute { attempt: 1 })))
            }
            AgentRequest::StepEnd(end) => {
                self.done.push(end.key.clone());
                self.tries.extend(end.retry.map(|retry| retry.tries));
                let decision = match end.clone().outcome() {
                    Ok(result) => StepDecision::Replay { result },
                    Err(error) => StepDecision::Failed { error },
                };
                self.steps.insert(end.key.clone(), decision);
                Ok(json!(Empty {}))
            }
            AgentRequest::CheckpointSave(save) => {
                self.state = Some(save.state.clone());
                Ok(json!(CheckpointSaved { seq: save.seq }))
            }
            AgentRequest::Sleep(sleep) => wait(&sleep.key),
            AgentRequest::SignalWait(signal) => wait(&signal.key),
            AgentRequest::InputRequest(question) => wait(&question.key),
            AgentRequest::Delegate(delegate) => wait(&delegate.key),
            other => panic!("not expected: {other:?}"),
        }
    }
}
