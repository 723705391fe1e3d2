//! The runtime's part, as a script: what a case says to the agent, and what it expects.

use std::{
    collections::{HashMap, HashSet},
    io::Write,
    process::ExitStatus,
    sync::mpsc::RecvTimeoutError,
    thread,
    time::{Duration, Instant},
};

use adjutant_wire::{
    AgentNotice, AgentRequest, Call, CancelRequest, Frame, Hello, Initialize, Initialized, Limits,
    Message, Notice, Notification, Outcome, PROTOCOL_VERSION, Request, RequestId, Response,
    RpcError, RunEvent, RunHeartbeat, RunInput, RunMessage, RunScope, RunStart,
    transport::same_token,
};
use serde_json::{Value, json};

use crate::{
    fault::{Check, Fault, broke, ensure},
    journal::Journal,
    pipes::{Pipes, TOKEN, line},
    program::{Program, Transport},
};

/// The agent that does as it is told.
pub(crate) const CONFORMANCE: &str = "conformance";

/// One live agent and what was heard of it. Everything that it says is held to the rules that hold always: ids are
/// unique, scopes are those of an open attempt, events count up by one.
pub(crate) struct Host {
    pub(crate) pipes: Pipes,
    pub(crate) profile: Initialized,
    patience: Duration,
    next_id: i64,
    ids: HashSet<RequestId>,
    open: HashMap<String, RunScope>,
    seqs: HashMap<RunScope, u64>,
    pub(crate) events: Vec<RunEvent>,
    pub(crate) heartbeats: Vec<RunHeartbeat>,
    pub(crate) given_up: Vec<CancelRequest>,
    /// Messages of a run either way, counted.
    boundary: u32,
    /// Kill the process when this many were.
    pub(crate) kill_at: Option<u32>,
}

impl Host {
    /// Starts the program without a word.
    pub(crate) fn silent(program: &Program) -> Check<Self> {
        let mut host = Self {
            pipes: Pipes::start(program)?,
            profile: Initialized::default(),
            patience: program.patience,
            next_id: 1,
            ids: HashSet::new(),
            open: HashMap::new(),
            seqs: HashMap::new(),
            events: Vec::new(),
            heartbeats: Vec::new(),
            given_up: Vec::new(),
            boundary: 0,
            kill_at: None,
        };
        if program.transport != Transport::Stdio {
            host.expect_hello()?;
        }
        Ok(host)
    }

    /// Starts the program and greets it.
    pub(crate) fn start(program: &Program) -> Check<Self> {
        Self::start_with(program, &offer())
    }

    pub(crate) fn start_with(program: &Program, offer: &Initialize) -> Check<Self> {
        let mut host = Self::silent(program)?;
        host.profile = host.expect(offer)?;
        Ok(host)
    }

    fn expect_hello(&mut self) -> Check {
        let frame = self.frame()?;
        let Frame::Message(Message::Notification(notification)) = frame else {
            return broke(format!("`hello` comes first on a socket, not {frame:?}"));
        };
        ensure!(
            notification.method == Hello::METHOD,
            "`hello` comes first on a socket, not `{}`",
            notification.method
        );
        let token = notification.params.get("token").and_then(Value::as_str);
        ensure!(
            same_token(token.unwrap_or_default(), TOKEN),
            "the token of `hello` is not the one in AGENT_WIRE_TOKEN"
        );
        Ok(())
    }

    // ---- writing

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Check {
        let Some(out) = &mut self.pipes.out else {
            return broke("the connection is closed");
        };
        let written = out.write_all(bytes).and_then(|()| out.flush());
        written.map_err(|error| self.gone(&error.to_string()))
    }

    pub(crate) fn send(&mut self, message: impl Into<Message>) -> Check {
        self.write(&line(message))
    }

    pub(crate) fn notify<N: Notice>(&mut self, notice: &N) -> Check {
        self.send(Notification::notice(notice)?)
    }

    pub(crate) fn request<C: Call>(&mut self, call: &C) -> Check<RequestId> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(Request::call(id, call)?)?;
        Ok(id.into())
    }

    pub(crate) fn raw(&mut self, id: &Value, method: &str, params: &Value) -> Check {
        let mut message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        if params.is_null()
            && let Some(object) = message.as_object_mut()
        {
            object.remove("params");
        }
        self.write(format!("{message}\n").as_bytes())
    }

    /// Begins an attempt; its scope is good from here on.
    pub(crate) fn begin(&mut self, start: &RunStart) -> Check<RequestId> {
        self.open
            .insert(start.scope.run_id.clone(), start.scope.clone());
        self.request(start)
    }

    // ---- reading

    fn gone(&mut self, why: &str) -> Fault {
        // A moment for the last words to arrive; without them the message is only poorer.
        let _ = self.pipes.child.try_wait();
        thread::sleep(Duration::from_millis(20));
        let words = self.pipes.last_words();
        Fault::Broke(if words.is_empty() {
            why.to_owned()
        } else {
            format!("{why}; stderr ends: {words}")
        })
    }

    pub(crate) fn frame(&mut self) -> Check<Frame> {
        match self.pipes.frames.recv_timeout(self.patience) {
            Ok(frame) => Ok(frame),
            Err(RecvTimeoutError::Timeout) => {
                let why = format!("the agent says nothing for {:?}", self.patience);
                Err(self.gone(&why))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.gone("the agent closed its end")),
        }
    }

    /// The next request or response; notifications are kept.
    pub(crate) fn next(&mut self) -> Check<Message> {
        loop {
            if let Some(message) = self.step()? {
                return Ok(message);
            }
        }
    }

    /// Takes in one frame: a request or response comes back, a notification is kept.
    fn step(&mut self) -> Check<Option<Message>> {
        match self.frame()? {
            Frame::Message(Message::Notification(notification)) => {
                self.keep(notification)?;
                Ok(None)
            }
            Frame::Message(Message::Request(request)) => {
                self.inspect(&request)?;
                self.count()?;
                Ok(Some(request.into()))
            }
            Frame::Message(message) => Ok(Some(message)),
            Frame::Garbage { excerpt } => broke(format!("a line that is no message: {excerpt:?}")),
            other => broke(format!("not a message: {other:?}")),
        }
    }

    fn inspect(&mut self, request: &Request) -> Check {
        ensure!(
            self.ids.insert(request.id.clone()),
            "the id {} was used before",
            request.id
        );
        self.check_scope(&request.method, &request.params)
    }

    fn check_scope(&self, method: &str, params: &Value) -> Check {
        let field = |name: &str| params.get(name).and_then(Value::as_u64);
        let run_id = params
            .get("runId")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let Some(scope) = self.open.get(run_id) else {
            return broke(format!(
                "`{method}` names the run {run_id:?}, which is not open"
            ));
        };
        ensure!(
            field("attempt") == Some(u64::from(scope.attempt))
                && field("epoch") == Some(scope.epoch),
            "`{method}` has attempt {:?} and epoch {:?}, not {} and {}",
            params.get("attempt"),
            params.get("epoch"),
            scope.attempt,
            scope.epoch
        );
        Ok(())
    }

    fn keep(&mut self, notification: Notification) -> Check {
        let method = notification.method.clone();
        let scoped = matches!(method.as_str(), "run/event" | "run/heartbeat");
        if scoped {
            self.check_scope(&method, &notification.params)?;
        }
        let notice = AgentNotice::read(notification);
        match notice.map_err(|error| Fault::Broke(format!("`{method}`: {error}")))? {
            AgentNotice::RunEvent(event) => {
                let last = self.seqs.entry(event.scope.clone()).or_default();
                ensure!(
                    event.seq == *last + 1,
                    "event {} comes after event {last}",
                    event.seq
                );
                *last = event.seq;
                self.events.push(event);
                self.count()
            }
            AgentNotice::RunHeartbeat(heartbeat) => {
                self.heartbeats.push(heartbeat);
                Ok(())
            }
            AgentNotice::CancelRequest(cancel) => {
                self.given_up.push(cancel);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One more message of a run; the process is killed when it is the one.
    fn count(&mut self) -> Check {
        self.boundary += 1;
        if self.kill_at == Some(self.boundary) {
            self.pipes.child.kill()?;
            return Err(Fault::Killed);
        }
        Ok(())
    }

    /// Reads until something kept makes `seen` true.
    pub(crate) fn until(&mut self, seen: impl Fn(&Self) -> bool) -> Check {
        while !seen(self) {
            if let Some(message) = self.step()? {
                return broke(format!("not expected: {message:?}"));
            }
        }
        Ok(())
    }

    /// Reads until the agent says that the run is under way.
    pub(crate) fn until_ready(&mut self, run_id: &str) -> Check {
        self.until(|host| {
            let ready = |event: &RunEvent| {
                event.kind == "conformance.ready" && event.scope.run_id == run_id
            };
            host.events.iter().any(ready)
        })
    }

    pub(crate) fn response(&mut self) -> Check<Response> {
        match self.next()? {
            Message::Response(response) => Ok(response),
            message => broke(format!("not a response: {message:?}")),
        }
    }

    /// The answer to `id`; an answer to anything else is a fault.
    pub(crate) fn answer_to(&mut self, id: &RequestId) -> Check<Outcome> {
        let response = self.response()?;
        ensure!(
            response.id.as_ref() == Some(id),
            "an answer with id {:?} where {id} was expected",
            response.id
        );
        Ok(response.outcome)
    }

    pub(crate) fn next_call(&mut self) -> Check<(RequestId, AgentRequest)> {
        match self.next()? {
            Message::Request(request) => {
                let id = request.id.clone();
                let call = AgentRequest::read(request);
                Ok((id, call.map_err(|error| Fault::Broke(error.to_string()))?))
            }
            message => broke(format!("not a request: {message:?}")),
        }
    }

    pub(crate) fn reply(&mut self, id: RequestId, outcome: Outcome) -> Check {
        self.send(Response {
            id: Some(id),
            outcome,
        })?;
        self.count()
    }

    pub(crate) fn call<C: Call>(&mut self, call: &C) -> Check<Result<C::Answer, RpcError>> {
        let id = self.request(call)?;
        match self.answer_to(&id)? {
            Ok(result) => Ok(Ok(C::read_answer(result)?)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// A call that has to succeed.
    pub(crate) fn expect<C: Call>(&mut self, call: &C) -> Check<C::Answer> {
        let answer = self.call(call)?;
        answer.map_err(|error| Fault::Broke(format!("`{}` is refused: {error}", C::METHOD)))
    }

    // ---- runs

    /// Starts an attempt and answers its calls from the journal until it ends.
    pub(crate) fn drive(&mut self, start: &RunStart, journal: &mut Journal) -> Check<Outcome> {
        let id = self.begin(start)?;
        self.count()?;
        self.finish(&id, |request| journal.answer(request))
    }

    /// Answers calls until an attempt ends.
    pub(crate) fn finish(
        &mut self,
        started: &RequestId,
        mut answer: impl FnMut(&AgentRequest) -> Outcome,
    ) -> Check<Outcome> {
        loop {
            match self.next()? {
                Message::Response(response) if response.id.as_ref() == Some(started) => {
                    return modes_known(response.outcome);
                }
                Message::Request(request) => {
                    let id = request.id.clone();
                    let call = AgentRequest::read(request);
                    let outcome = match &call {
                        Ok(call) => answer(call),
                        Err(error) => Err(error.clone()),
                    };
                    self.reply(id, outcome)?;
                }
                message => return broke(format!("not expected: {message:?}")),
            }
        }
    }

    /// The process answers, and says nothing else before: what it was told before is behind it.
    pub(crate) fn barrier(&mut self) -> Check {
        self.expect(&adjutant_wire::HealthCheck {}).map(drop)
    }

    // ---- the end

    pub(crate) fn hang_up(&mut self) {
        self.pipes.out = None;
    }

    pub(crate) fn exit(&mut self) -> Check<ExitStatus> {
        let by = Instant::now() + self.patience;
        loop {
            if let Some(status) = self.pipes.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= by {
                return Err(self.gone("the process does not exit"));
            }
            // Nobody may block on us on the way out.
            let _ = self.pipes.frames.recv_timeout(Duration::from_millis(2));
        }
    }
}

/// A mode that the agent does not have is no fault of it.
fn modes_known(outcome: Outcome) -> Check<Outcome> {
    if let Err(error) = &outcome
        && error
            .detail()
            .is_some_and(|data| data.kind.as_deref() == Some("bad_mode"))
    {
        return Err(Fault::Skip("the agent does not have this mode".to_owned()));
    }
    Ok(outcome)
}

/// What this host offers.
pub(crate) fn offer() -> Initialize {
    Initialize {
        protocol_version: PROTOCOL_VERSION,
        info: adjutant_wire::Info {
            name: "adjutant-conformance".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        capabilities: adjutant_wire::HostCapabilities {
            steps: true,
            tools: true,
            llm: Some(adjutant_wire::LlmAbility { stream: true }),
            checkpoint: Some(adjutant_wire::CheckpointAbility::default()),
            input: true,
            steer: true,
        },
        heartbeat_ms: 10_000,
        ..Initialize::default()
    }
}

/// The same with limits.
pub(crate) fn limited(limits: Limits) -> Initialize {
    Initialize { limits, ..offer() }
}

pub(crate) fn scope(run_id: &str, attempt: u32) -> RunScope {
    RunScope {
        run_id: run_id.to_owned(),
        attempt,
        epoch: u64::from(attempt) + 40,
    }
}

/// An attempt of `run-1` by the conformance agent.
pub(crate) fn mode(mode: &str, attempt: u32) -> RunStart {
    mode_of("run-1", mode, attempt)
}

pub(crate) fn mode_of(run_id: &str, mode: &str, attempt: u32) -> RunStart {
    with_data(run_id, attempt, json!({ "mode": mode }))
}

pub(crate) fn with_data(run_id: &str, attempt: u32, data: Value) -> RunStart {
    RunStart {
        scope: scope(run_id, attempt),
        agent: CONFORMANCE.to_owned(),
        input: RunInput {
            messages: vec![RunMessage::new("user", "hello")],
            data: Some(data),
        },
        params: json!({"p": 1}),
        metadata: json!({}),
        ..RunStart::default()
    }
}

/// Stop reason and output of an attempt that succeeded.
pub(crate) fn output(outcome: &Outcome) -> Check<(String, Value)> {
    let result = outcome
        .as_ref()
        .map_err(|error| Fault::Broke(format!("the attempt failed: {error}")))?;
    let reason = result.get("stopReason").and_then(Value::as_str);
    let output = result.get("output");
    let value = output.and_then(|output| output.get("data").or_else(|| output.get("text")));
    Ok((
        reason.unwrap_or_default().to_owned(),
        value.cloned().unwrap_or_default(),
    ))
}

/// Fails unless the attempt ended so.
pub(crate) fn ends(outcome: &Outcome, reason: &str, value: &Value) -> Check {
    let (said, got) = output(outcome)?;
    ensure!(
        said == reason,
        "the attempt ended with `{said}`, not with `{reason}`"
    );
    ensure!(got == *value, "the output is {got}, not {value}");
    Ok(())
}
