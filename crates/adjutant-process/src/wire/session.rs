//! One attempt: from `initialize` to the result, or to whatever ends it otherwise.

use std::{ops::ControlFlow, time::Duration};

use adjutant_core::{AgentError, ErrorInfo, EventType, Json, NewEvent, RunContext, RunResult};
use adjutant_wire as wire;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    calls::{self, MAX_CHECKPOINT_BYTES},
    desk::{Desk, Served, latest},
    link::{Incoming, Link},
};
use crate::{
    convert,
    logs::Logs,
    manifest::Manifest,
    port::{ExitReason, Process, Spawned, StopCause},
};

/// Intervals without a sign of life that end an attempt.
const MISSED_HEARTBEATS: u32 = 3;

/// How long a finished agent may take to notice that its stdin is closed, before TERM.
const HANG_UP_GRACE: Duration = Duration::from_secs(1);

/// How long the pipes of an ended process are read on. They close with its group; what left the group may hold them.
const DRAIN: Duration = Duration::from_secs(1);

/// Exit status for "try again later", as in `sysexits.h`.
const EXIT_TRY_LATER: i32 = wire::exec::EXIT_TRY_LATER;

const INITIALIZE: wire::RequestId = wire::RequestId::Number(1);
const RUN_START: wire::RequestId = wire::RequestId::Number(2);

/// How far the conversation is.
enum Phase {
    /// `initialize` is open.
    Starting { by: Instant },
    /// `run/start` is open.
    Running,
    /// The agent has answered; what it said before is being written.
    Answered(Ending),
}

type Ending = Result<RunResult, Failure>;

/// Why an attempt ends without a result, and what that means for the process.
struct Failure {
    error: AgentError,
    cause: StopCause,
}

/// What the clock says.
#[derive(Clone, Copy)]
enum Alarm {
    Start,
    Silence,
    CancelGrace,
    Drained,
}

/// The next thing that happens.
enum Turn {
    Incoming(Incoming),
    Served(Served),
    Log(Option<Option<NewEvent>>),
    Exited(crate::Result<ExitReason>),
    Cancelled,
    Alarm(Alarm),
}

pub(crate) struct Session<'a> {
    ctx: &'a RunContext,
    manifest: &'a Manifest,
    process: Box<dyn Process>,
    link: Link,
    logs: Logs,
    desk: Desk<'a>,
    phase: Phase,
    /// When the agent last gave a sign of life.
    heard: Instant,
    /// The number of the agent's last event.
    last_event: u64,
    cancel_by: Option<Instant>,
    exit: Option<ExitReason>,
    drained_by: Option<Instant>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(ctx: &'a RunContext, manifest: &'a Manifest, spawned: Spawned) -> Self {
        let now = Instant::now();
        let mut desk = Desk::new(ctx);
        let started = json!({ "pid": spawned.process.id(), "command": manifest.command });
        desk.event(NewEvent::new(EventType::ProcessStarted, started));
        Self {
            ctx,
            manifest,
            process: spawned.process,
            link: Link::new(spawned.stdin, spawned.stdout),
            logs: Logs::new(spawned.stderr),
            desk,
            phase: Phase::Starting {
                by: now + manifest.start_timeout,
            },
            heard: now,
            last_event: 0,
            cancel_by: None,
            exit: None,
            drained_by: None,
        }
    }

    /// Holds the conversation, ends the process, and returns what came out.
    pub(crate) async fn run(mut self) -> Result<RunResult, AgentError> {
        let ending = match self.initialize() {
            Ok(()) => self.talk().await,
            Err(error) => Err(error.into()),
        };
        let cause = match &ending {
            Ok(_) => StopCause::Finished,
            Err(failure) => failure.cause,
        };
        self.close(cause).await;
        ending.map_err(|failure| failure.error)
    }

    fn initialize(&mut self) -> Result<(), AgentError> {
        let offer = wire::Initialize {
            protocol_version: wire::PROTOCOL_VERSION,
            info: wire::Info {
                name: "adjutant".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            instance: wire::Instance {
                agent_id: self.ctx.agent_key().to_string(),
                instance_id: format!("{}-{}", self.ctx.run_id(), self.ctx.attempt()),
            },
            capabilities: wire::HostCapabilities {
                steps: true,
                input: true,
                checkpoint: Some(wire::CheckpointAbility {
                    max_bytes: Some(MAX_CHECKPOINT_BYTES as u64),
                }),
                ..wire::HostCapabilities::default()
            },
            limits: wire::Limits::default(),
            endpoints: None,
            heartbeat_ms: u64::try_from(self.manifest.heartbeat.as_millis()).unwrap_or(u64::MAX),
        };
        self.link.send(wire::Request::call(INITIALIZE, &offer)?);
        Ok(())
    }

    async fn talk(&mut self) -> Ending {
        loop {
            if matches!(self.phase, Phase::Answered(_)) && self.desk.is_flushed() {
                let phase = std::mem::replace(&mut self.phase, Phase::Running);
                if let Phase::Answered(ending) = phase {
                    return ending;
                }
            }
            if self.exit.is_some() && self.link.ended() && self.logs.ended() && !self.answered() {
                return Err(self.ended());
            }
            let turn = self.turn().await;
            if let ControlFlow::Break(failure) = self.take(turn) {
                return Err(failure);
            }
        }
    }

    fn answered(&self) -> bool {
        matches!(self.phase, Phase::Answered(_))
    }

    async fn turn(&mut self) -> Turn {
        let answered = self.answered();
        let may_read = !answered && !self.desk.is_full();
        let alarm = self.alarm();
        let ring = async {
            match alarm {
                Some((at, alarm)) => {
                    sleep_until(at).await;
                    alarm
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            incoming = self.link.next(may_read), if !self.link.ended() => Turn::Incoming(incoming),
            served = self.desk.next() => Turn::Served(served),
            line = self.logs.next(self.ctx), if !self.logs.ended() => Turn::Log(line),
            exit = self.process.wait(), if self.exit.is_none() => Turn::Exited(exit),
            () = self.ctx.cancellation(), if self.cancel_by.is_none() && !answered => Turn::Cancelled,
            alarm = ring => Turn::Alarm(alarm),
        }
    }

    /// The earliest time at which patience ends.
    fn alarm(&self) -> Option<(Instant, Alarm)> {
        let mut alarms = Vec::with_capacity(3);
        if let Phase::Starting { by } = &self.phase {
            alarms.push((*by, Alarm::Start));
        }
        let is_its_turn = matches!(self.phase, Phase::Running) && !self.desk.is_answering();
        if is_its_turn && self.exit.is_none() {
            alarms.push((self.heard + self.patience(), Alarm::Silence));
        }
        alarms.extend(self.cancel_by.map(|by| (by, Alarm::CancelGrace)));
        if !self.answered() {
            alarms.extend(self.drained_by.map(|by| (by, Alarm::Drained)));
        }
        alarms.into_iter().min_by_key(|(at, _)| *at)
    }

    fn patience(&self) -> Duration {
        self.manifest.heartbeat * MISSED_HEARTBEATS
    }

    fn take(&mut self, turn: Turn) -> ControlFlow<Failure> {
        match turn {
            Turn::Incoming(incoming) => return self.incoming(incoming),
            Turn::Served(served) => return self.served(served),
            Turn::Log(event) => self.log(event.flatten()),
            Turn::Exited(Ok(reason)) => {
                self.exit = Some(reason);
                self.drained_by = Some(Instant::now() + DRAIN);
            }
            Turn::Exited(Err(error)) => return ControlFlow::Break(error.into_agent_error().into()),
            Turn::Cancelled => return self.cancel(),
            Turn::Alarm(alarm) => return ControlFlow::Break(self.rung(alarm)),
        }
        ControlFlow::Continue(())
    }

    fn incoming(&mut self, incoming: Incoming) -> ControlFlow<Failure> {
        let broken = match incoming {
            Incoming::Message(message) => {
                self.heard = Instant::now();
                return self.message(message);
            }
            Incoming::Invalid(response) => {
                self.link.send(*response);
                return ControlFlow::Continue(());
            }
            Incoming::Garbage(line) => {
                let event = self.logs.event("warn", "stdout", &line);
                self.log(event);
                return ControlFlow::Continue(());
            }
            Incoming::End => {
                self.drained_by.get_or_insert(Instant::now() + DRAIN);
                return ControlFlow::Continue(());
            }
            Incoming::TooMuchGarbage => format!(
                "{} lines in a row on stdout were no messages of the agent wire; print to stderr, or set `protocol: exec`",
                wire::MAX_GARBAGE_LINES
            ),
            Incoming::TooLong(limit) => {
                format!("a line on stdout is longer than the limit of {limit} bytes")
            }
        };
        ControlFlow::Break(self.misbehaved(broken))
    }

    fn message(&mut self, message: wire::Message) -> ControlFlow<Failure> {
        match message {
            wire::Message::Response(response) => self.response(response),
            wire::Message::Notification(notification) => {
                self.notice(notification);
                ControlFlow::Continue(())
            }
            wire::Message::Request(request) if matches!(self.phase, Phase::Running) => {
                if let Some(refusal) = self.desk.request(request) {
                    self.link.send(refusal);
                }
                ControlFlow::Continue(())
            }
            wire::Message::Request(request) => {
                let why = "`initialize` has to be answered first";
                let refusal = wire::RpcError::new(wire::ErrorCode::InvalidRequest, why);
                self.link.send(request.answer(Err(refusal)));
                ControlFlow::Continue(())
            }
        }
    }

    fn response(&mut self, response: wire::Response) -> ControlFlow<Failure> {
        let starting = matches!(self.phase, Phase::Starting { .. });
        match (response.id, starting) {
            (Some(INITIALIZE), true) => match self.greeted(response.outcome) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error.into()),
            },
            (Some(RUN_START), false) => {
                let ending = self.conclude(response.outcome);
                self.phase = Phase::Answered(ending);
                self.desk.keep_events_only();
                ControlFlow::Continue(())
            }
            (id, _) => {
                tracing::debug!(run_id = %self.ctx.run_id(), ?id, "an answer without a question");
                ControlFlow::Continue(())
            }
        }
    }

    /// Reads the answer to `initialize` and starts the run.
    fn greeted(&mut self, outcome: wire::Outcome) -> Result<(), AgentError> {
        use wire::Call as _;

        let answer = outcome.map_err(|error| convert::agent_error(error.into()))?;
        let answer = wire::Initialize::read_answer(answer)
            .map_err(|error| protocol_error(&AgentError::from(error).info().message))?;
        if answer.protocol_version == 0 || answer.protocol_version > wire::PROTOCOL_VERSION {
            let why = format!(
                "the agent wants version {} of the wire",
                answer.protocol_version
            );
            return Err(protocol_error(&why));
        }
        let scope = convert::scope(self.ctx);
        let start = wire::RunStart {
            scope,
            agent: self.name_among(&answer.agents)?,
            session: self.ctx.conversation_id().map(|id| id.to_string()),
            input: convert::input(self.ctx)?,
            params: convert::tree(self.ctx.params()),
            metadata: convert::tree(self.ctx.metadata()),
            checkpoint: latest(self.ctx, 0),
            ..wire::RunStart::default()
        };
        self.link.send(wire::Request::call(RUN_START, &start)?);
        self.phase = Phase::Running;
        self.heard = Instant::now();
        Ok(())
    }

    /// The agent's name in a program that may hold several.
    fn name_among(&self, agents: &[wire::AgentDescription]) -> Result<String, AgentError> {
        let key = self.ctx.agent_key().as_str();
        match agents {
            [] => Ok(key.to_owned()),
            [only] => Ok(only.name.clone()),
            several if several.iter().any(|agent| agent.name == key) => Ok(key.to_owned()),
            several => {
                let names: Vec<&str> = several.iter().map(|agent| agent.name.as_str()).collect();
                let why = format!(
                    "the program has no agent `{key}`; it has {}",
                    names.join(", ")
                );
                Err(AgentError::permanent("unknown_agent", why))
            }
        }
    }

    fn conclude(&self, outcome: wire::Outcome) -> Ending {
        use wire::{Call as _, StopReason};

        let answer = outcome.map_err(|error| convert::agent_error(error.into()))?;
        let answer = wire::RunStart::read_answer(answer)
            .map_err(|error| protocol_error(&AgentError::from(error).info().message))?;
        match answer.stop_reason {
            StopReason::EndTurn | StopReason::MaxTokens | StopReason::MaxTurns => {}
            StopReason::Refusal => {
                let why = answer
                    .output
                    .text
                    .unwrap_or_else(|| "the agent declined".to_owned());
                return Err(AgentError::permanent("refusal", why).into());
            }
            StopReason::Cancelled => {
                let error = AgentError::permanent("cancelled", "the agent stopped the run");
                let cause = StopCause::Cancelled;
                return Err(Failure { error, cause });
            }
            StopReason::InputRequired | StopReason::Yield => {
                let why = "the agent ended its attempt to wait, although no call was parked; \
                           wait with `input/request`, `sleep` or `signal/wait`";
                return Err(protocol_error(why).into());
            }
        }
        let result = convert::result(answer.output, answer.usage)?;
        check_output(self.manifest, &result.final_output)?;
        Ok(result)
    }

    fn notice(&mut self, notification: wire::Notification) {
        let notice = match wire::AgentNotice::read(notification) {
            Ok(notice) => notice,
            Err(error) => {
                tracing::debug!(run_id = %self.ctx.run_id(), %error, "a notification was dropped");
                return;
            }
        };
        match notice {
            wire::AgentNotice::RunEvent(event) => self.event(event),
            wire::AgentNotice::Log(log) => {
                let level = convert::value(&log.level);
                let event = self
                    .logs
                    .event(level.as_str().unwrap_or("info"), "wire", &log.message);
                self.log(event.map(|event| with_fields(event, log.fields)));
            }
            wire::AgentNotice::CancelRequest(call) => self.desk.give_up(&call.request_id),
            // Like any message it was a sign of life, which is all there is to it.
            _ => {}
        }
    }

    fn event(&mut self, event: wire::RunEvent) {
        if let Err(error) = calls::check_scope(self.ctx, &event.scope) {
            tracing::debug!(run_id = %self.ctx.run_id(), %error, "an event was dropped");
            return;
        }
        if event.seq <= self.last_event {
            return;
        }
        self.last_event = event.seq;
        let event_type = EventType::from(event.kind.as_str());
        if is_the_runtimes(&event_type) {
            let why = format!("event `{event_type}` was dropped: only the runtime tells that");
            let event = self.logs.event("warn", "host", &why);
            self.log(event);
            return;
        }
        self.desk
            .event(NewEvent::new(event_type, Json::from(event.data)));
    }

    fn log(&mut self, event: Option<NewEvent>) {
        // A log is worth less than the run: when events pile up, lines are not added to the pile.
        if let Some(event) = event.filter(|_| !self.desk.is_full()) {
            self.desk.event(event);
        }
    }

    fn served(&mut self, served: Served) -> ControlFlow<Failure> {
        match served {
            Served::Answer(response) => {
                // From here on it is the agent's turn again.
                self.heard = Instant::now();
                self.link.send(response);
            }
            Served::Refused(why) => {
                let event = self.logs.event("warn", "host", &why);
                self.log(event);
            }
            Served::Broken(error) => return ControlFlow::Break(error.into()),
            Served::Silent => self.heard = Instant::now(),
        }
        ControlFlow::Continue(())
    }

    fn cancel(&mut self) -> ControlFlow<Failure> {
        let grace = self.manifest.stop_grace;
        self.cancel_by = Some(Instant::now() + grace);
        if matches!(self.phase, Phase::Starting { .. }) {
            return ControlFlow::Break(self.rung(Alarm::CancelGrace));
        }
        let notice = wire::RunCancel {
            run_id: self.ctx.run_id().to_string(),
            reason: "cancelled".to_owned(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        };
        match wire::Notification::notice(&notice) {
            Ok(notification) => {
                self.link.send(notification);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(AgentError::from(error).into()),
        }
    }

    fn rung(&self, alarm: Alarm) -> Failure {
        let (error, cause) = match alarm {
            Alarm::Start => {
                let why = format!(
                    "the agent did not answer `initialize` within {:?}; does `command` speak the agent wire?",
                    self.manifest.start_timeout
                );
                (
                    ErrorInfo::retriable("start_timeout", why),
                    StopCause::Unresponsive,
                )
            }
            Alarm::Silence => {
                let why = format!(
                    "the agent was silent for {:?}, {MISSED_HEARTBEATS} heartbeats of {:?}",
                    self.patience(),
                    self.manifest.heartbeat
                );
                (
                    ErrorInfo::retriable("heartbeat_missed", why),
                    StopCause::Unresponsive,
                )
            }
            Alarm::CancelGrace => {
                let why = "the run was cancelled";
                (ErrorInfo::permanent("cancelled", why), StopCause::Cancelled)
            }
            Alarm::Drained => return self.ended(),
        };
        let details = json!({ "stderr": self.logs.tail() });
        Failure {
            error: error.with_details(details).into(),
            cause,
        }
    }

    /// The process has ended, or said its last word, before it answered.
    fn ended(&self) -> Failure {
        let tail = self.logs.tail();
        let what = match self.exit {
            Some(ExitReason::Exited(EXIT_TRY_LATER)) => {
                "asks to try again later (status 75)".to_owned()
            }
            Some(reason) => format!("{reason} before it answered"),
            None => "closed its stdout before it answered".to_owned(),
        };
        let last = tail
            .last()
            .map_or(String::new(), |line| format!(": {line}"));
        let (code, signal) = match self.exit {
            Some(ExitReason::Exited(code)) => (Some(code), None),
            Some(ExitReason::Signal(signal)) => (None, Some(signal)),
            _ => (None, None),
        };
        let details = json!({ "exit_code": code, "signal": signal, "stderr": tail });
        let info = ErrorInfo::retriable(
            "process_exited",
            format!("the agent's process {what}{last}"),
        );
        Failure {
            error: info.with_details(details).into(),
            cause: StopCause::Misbehaved,
        }
    }

    fn misbehaved(&self, why: String) -> Failure {
        let info = ErrorInfo::permanent("protocol_error", why);
        Failure {
            error: info
                .with_details(json!({ "stderr": self.logs.tail() }))
                .into(),
            cause: StopCause::Misbehaved,
        }
    }

    /// Ends the process and writes down what it logged last and how it ended.
    async fn close(mut self, cause: StopCause) {
        let pid = self.process.id();
        let mut last_words = Vec::new();
        self.link.hang_up();
        let reason = {
            let (logs, link, ctx) = (&mut self.logs, &mut self.link, self.ctx);
            let listen = async {
                while let Some(event) = logs.next(ctx).await {
                    last_words.extend(event);
                }
            };
            let mut drain = std::pin::pin!(futures::future::join(listen, link.discard()));
            let stop = stop(&mut *self.process, cause, self.manifest.stop_grace);
            let mut stop = std::pin::pin!(stop);
            tokio::select! {
                reason = &mut stop => {
                    let _ = timeout(DRAIN, drain).await;
                    reason
                }
                _ = &mut drain => stop.await,
            }
        };
        match reason {
            Ok(reason) => {
                let payload = json!({ "pid": pid, "reason": reason });
                last_words.push(NewEvent::new(EventType::ProcessExited, payload));
            }
            Err(error) => {
                tracing::warn!(run_id = %self.ctx.run_id(), pid, %error, "a process's end was not seen");
            }
        }
        for event in last_words {
            if let Err(error) = self.ctx.emit(event.event_type, event.payload).await {
                // Nothing but records of the process is lost, and whoever took the run over has its own.
                tracing::debug!(run_id = %self.ctx.run_id(), pid, %error, "a process's last events were not written");
                return;
            }
        }
    }
}

/// Ends a process whose stdin is closed: politely when all is well.
async fn stop(
    process: &mut dyn Process,
    cause: StopCause,
    grace: Duration,
) -> crate::Result<ExitReason> {
    let patience = match cause {
        StopCause::Finished | StopCause::Cancelled => HANG_UP_GRACE,
        StopCause::Unresponsive | StopCause::Misbehaved => Duration::ZERO,
    };
    match timeout(patience, process.wait()).await {
        Ok(reason) => reason,
        Err(_) => process.stop(cause, grace).await,
    }
}

/// Refuses an output over the manifest's limit.
pub(crate) fn check_output(manifest: &Manifest, output: &Json) -> Result<(), AgentError> {
    let limit = manifest.max_output_bytes;
    if output.len() <= limit.0 {
        return Ok(());
    }
    let why = format!(
        "the output is {} bytes; `max_output_bytes` is {limit}: write it to a file and return its name",
        output.len()
    );
    Err(AgentError::permanent("output_too_large", why))
}

fn protocol_error(why: &str) -> AgentError {
    AgentError::permanent("protocol_error", why)
}

/// Facts that only the runtime can know; an agent that claims them is not believed.
fn is_the_runtimes(event_type: &EventType) -> bool {
    const OURS: &[&str] = &[
        "run.",
        "lease.",
        "process.",
        "approval.",
        "step.",
        "signal.",
        "budget.",
    ];
    event_type.is_terminal()
        || OURS
            .iter()
            .any(|prefix| event_type.as_str().starts_with(prefix))
}

fn with_fields(event: NewEvent, fields: serde_json::Map<String, Value>) -> NewEvent {
    if fields.is_empty() {
        return event;
    }
    let mut payload = convert::tree(&event.payload);
    if let Some(payload) = payload.as_object_mut() {
        payload.insert("fields".to_owned(), Value::Object(fields));
    }
    NewEvent {
        payload: payload.into(),
        ..event
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        Self {
            error,
            cause: StopCause::Finished,
        }
    }
}
