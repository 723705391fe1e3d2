//! One attempt: from `initialize` to the result, or to whatever ends it otherwise.

use std::ops::ControlFlow;

use adjutant_core::{AgentError, EventType, Json, Message, NewEvent, RunContext, RunResult};
use adjutant_wire as wire;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    calls,
    desk::{Desk, Served},
    failure::{Alarm, Failure},
    farewell, handshake,
    link::Incoming,
    peer::Peer,
    steering::Steering,
    turn::Turn as Waiting,
};
use crate::{
    convert,
    ending::DRAIN,
    manifest::Manifest,
    port::{ExitReason, StopCause},
    usage::Working,
};

/// Intervals without a sign of life that end an attempt.
pub(super) const MISSED_HEARTBEATS: u32 = 3;

/// How far the conversation is.
enum Phase {
    /// `initialize` is open, until the process is late with it.
    Starting {
        initialize: wire::RequestId,
        by: Instant,
    },
    /// `run/start` is open.
    Running { start: wire::RequestId },
    /// The attempt has its end; what was said before is being written.
    Settled(Ending),
    /// The end has been taken.
    Over,
}

type Ending = Result<Conclusion, Failure>;

/// What an attempt comes to, if it does not fail.
pub(crate) enum Conclusion {
    /// The run's result.
    Result(Box<RunResult>),
    /// It has to wait; another attempt goes on.
    Turn(Waiting),
}

/// The next thing that happens.
enum Turn {
    Incoming(Incoming),
    Served(Served),
    Log(Option<Option<NewEvent>>),
    Exited(crate::Result<ExitReason>),
    Cancelled,
    Alarm(Alarm),
    Said(Vec<Message>),
}

pub(crate) struct Session<'a> {
    ctx: &'a RunContext,
    manifest: &'a Manifest,
    peer: Peer,
    /// Keeps the run among those that the instance works on.
    working: Working,
    desk: Desk<'a>,
    phase: Phase,
    /// When the agent last gave a sign of life.
    heard: Instant,
    /// The number of the agent's last event.
    last_event: u64,
    /// Whether `run/start` has been answered as the wire wants it, so that the process is free again.
    answered: bool,
    cancel_by: Option<Instant>,
    exit: Option<ExitReason>,
    drained_by: Option<Instant>,
    /// What people say to the run, where the agent listens.
    steering: Steering<'a>,
    /// Answers of people to an earlier attempt.
    resume: Option<Map<String, Value>>,
}

impl<'a> Session<'a> {
    /// A conversation about `ctx` with `peer`, with what earlier attempts have left.
    pub(crate) fn new(
        ctx: &'a RunContext,
        manifest: &'a Manifest,
        mut peer: Peer,
        resume: Option<Map<String, Value>>,
    ) -> Self {
        let mut desk = Desk::new(ctx);
        let mut started = json!({ "pid": peer.process.id(), "command": manifest.command });
        if peer.runs > 0 || peer.greeting().is_some() {
            started["warm"] = json!(true);
            started["runs"] = json!(peer.runs);
        }
        desk.event(NewEvent::new(EventType::ProcessStarted, started));
        peer.runs += 1;
        let working = peer.process.observer().working_on(&ctx.run_id());
        Self {
            ctx,
            manifest,
            peer,
            working,
            desk,
            phase: Phase::Over,
            heard: Instant::now(),
            last_event: 0,
            answered: false,
            cancel_by: None,
            exit: None,
            drained_by: None,
            steering: Steering::new(ctx),
            resume,
        }
    }

    /// Holds the conversation and returns what came out. Ends the process, unless it is to be kept and is fit for
    /// another run; then it comes back.
    pub(crate) async fn run(
        mut self,
        keep: bool,
    ) -> (Result<Conclusion, AgentError>, Option<Peer>) {
        let ending = match self.begin() {
            Ok(()) => self.talk().await,
            Err(error) => Err(error.into()),
        };
        let cause = match &ending {
            Ok(_) => StopCause::Finished,
            Err(failure) => failure.cause,
        };
        let ending = ending.map_err(|failure| failure.error);
        let Self {
            ctx, peer, working, ..
        } = self;
        if let Ok(Conclusion::Result(result)) = &ending {
            working.spent(&result.usage);
        }
        if keep && self.answered && self.exit.is_none() && !peer.link.ended() {
            return (ending, Some(farewell::pause(ctx, peer).await));
        }
        if peer.process.is_shared() && self.exit.is_none() {
            drop(farewell::pause(ctx, peer).await);
            return (ending, None);
        }
        farewell::part(ctx, peer, cause, self.manifest).await;
        (ending, None)
    }

    /// Sends `initialize`, or `run/start` to a process that has been greeted before.
    fn begin(&mut self) -> Result<(), AgentError> {
        if let Some(greeting) = self.peer.greeting() {
            let start = handshake::start(self.ctx, greeting, self.resume.take())?;
            return self.start(&start);
        }
        let offer = handshake::offer(self.ctx.agent_key(), self.peer.name.as_str(), self.manifest);
        self.phase = Phase::Starting {
            initialize: self.peer.call(&offer)?,
            by: Instant::now() + self.manifest.start_timeout,
        };
        Ok(())
    }

    fn start(&mut self, start: &wire::RunStart) -> Result<(), AgentError> {
        let start = self.peer.call(start)?;
        if self.peer.greeting().is_some_and(|it| it.capabilities.steer) {
            self.steering.listen();
        }
        self.phase = Phase::Running { start };
        self.heard = Instant::now();
        Ok(())
    }

    async fn talk(&mut self) -> Ending {
        loop {
            if self.desk.is_flushed()
                && let Some(ending) = self.take_ending()
            {
                return ending;
            }
            if self.exit.is_some()
                && self.peer.link.ended()
                && self.peer.logs.ended()
                && !self.settled()
            {
                self.settle(Err(Failure::process_exited(
                    self.exit,
                    self.manifest,
                    &self.peer.logs,
                )));
                continue;
            }
            let turn = self.turn().await;
            if let ControlFlow::Break(failure) = self.take(turn) {
                match self.take_ending() {
                    None => self.settle(Err(failure)),
                    // What the run failed with first says more than that it could not be written down.
                    Some(Err(first)) => return Err(first),
                    Some(Ok(_)) => return Err(failure),
                }
            }
        }
    }

    /// The attempt has come to its end, but for the writing of what was said and logged before.
    fn settle(&mut self, ending: Ending) {
        self.phase = Phase::Settled(ending);
        self.desk.keep_events_only();
    }

    fn take_ending(&mut self) -> Option<Ending> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Settled(ending) => Some(ending),
            other => {
                self.phase = other;
                None
            }
        }
    }

    fn settled(&self) -> bool {
        matches!(self.phase, Phase::Settled(_))
    }

    async fn turn(&mut self) -> Turn {
        let settled = self.settled();
        let may_read = !settled && !self.desk.is_full();
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
            incoming = self.peer.link.next(may_read), if !self.peer.link.ended() => Turn::Incoming(incoming),
            served = self.desk.next() => Turn::Served(served),
            line = self.peer.logs.next(self.ctx), if !self.peer.logs.ended() => Turn::Log(line),
            exit = self.peer.process.wait(), if self.exit.is_none() => Turn::Exited(exit),
            () = self.ctx.cancellation(), if self.cancel_by.is_none() && !settled => Turn::Cancelled,
            alarm = ring => Turn::Alarm(alarm),
            said = self.steering.next(), if !settled => Turn::Said(said),
        }
    }

    /// The earliest time at which patience ends.
    fn alarm(&self) -> Option<(Instant, Alarm)> {
        if self.settled() {
            return None;
        }
        let mut alarms = Vec::with_capacity(3);
        if let Phase::Starting { by, .. } = &self.phase {
            alarms.push((*by, Alarm::Start));
        }
        let is_its_turn = matches!(self.phase, Phase::Running { .. }) && !self.desk.is_answering();
        if is_its_turn && self.exit.is_none() {
            alarms.push((
                self.heard + self.manifest.heartbeat * MISSED_HEARTBEATS,
                Alarm::Silence,
            ));
        }
        alarms.extend(self.cancel_by.map(|by| (by, Alarm::CancelGrace)));
        alarms.extend(self.drained_by.map(|by| (by, Alarm::Drained)));
        alarms.into_iter().min_by_key(|(at, _)| *at)
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
            Turn::Said(messages) => {
                if let Err(error) = self.steer(&messages) {
                    tracing::warn!(run_id = %self.ctx.run_id(), error = %error.info().message, "a message did not reach the agent");
                }
            }
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
                self.peer.link.send(*response);
                return ControlFlow::Continue(());
            }
            Incoming::Garbage(line) => {
                let event = self.peer.logs.event("warn", "stdout", &line);
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
                format!(
                    "a line on stdout is longer than the limit of {limit} bytes; leave what is large in a file and name that"
                )
            }
        };
        ControlFlow::Break(Failure::misbehaved(broken, &self.peer.logs))
    }

    fn message(&mut self, message: wire::Message) -> ControlFlow<Failure> {
        match message {
            wire::Message::Response(response) => self.response(response),
            wire::Message::Notification(notification) => {
                self.notice(notification);
                ControlFlow::Continue(())
            }
            wire::Message::Request(request) if matches!(self.phase, Phase::Running { .. }) => {
                if let Some(refusal) = self.desk.request(request) {
                    self.peer.link.send(refusal);
                }
                ControlFlow::Continue(())
            }
            wire::Message::Request(request) => {
                let why = "`initialize` has to be answered first";
                let refusal = wire::RpcError::new(wire::ErrorCode::InvalidRequest, why);
                self.peer.link.send(request.answer(Err(refusal)));
                ControlFlow::Continue(())
            }
        }
    }

    fn response(&mut self, response: wire::Response) -> ControlFlow<Failure> {
        match (&response.id, &self.phase) {
            (None, _) if let Some(why) = skipped(&response.outcome) => {
                ControlFlow::Break(Failure::misbehaved(why, &self.peer.logs))
            }
            (Some(id), Phase::Starting { initialize, .. }) if id == initialize => {
                match self.greeted(response.outcome) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => ControlFlow::Break(error.into()),
                }
            }
            (Some(id), Phase::Running { start }) if id == start => {
                let ending = handshake::conclude(self.manifest, response.outcome);
                self.answered = !matches!(&ending, Err(failure) if failure.is_breach());
                self.settle(ending);
                ControlFlow::Continue(())
            }
            (id, _) => {
                tracing::debug!(run_id = %self.ctx.run_id(), ?id, "an answer without a question");
                ControlFlow::Continue(())
            }
        }
    }

    fn greeted(&mut self, outcome: wire::Outcome) -> Result<(), AgentError> {
        let greeting = handshake::greeting(outcome)?;
        let start = handshake::start(self.ctx, &greeting, self.resume.take())?;
        self.peer.greet(greeting);
        self.start(&start)
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
                let level = level.as_str().unwrap_or("info");
                let event = self.peer.logs.said(level, "wire", &log.message, log.fields);
                self.log(event);
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
            let event = self.peer.logs.event("warn", "host", &why);
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
            Served::Deltas => self.tell_deltas(),
            Served::Answer(response) => {
                self.tell_deltas();
                // From here on it is the agent's turn again.
                self.heard = Instant::now();
                self.peer.link.send(response);
            }
            Served::Refused(why) => {
                let event = self.peer.logs.event("warn", "host", &why);
                self.log(event);
            }
            Served::Broken(error) => return ControlFlow::Break(error.into()),
            Served::Silent => self.heard = Instant::now(),
        }
        ControlFlow::Continue(())
    }

    /// Shows the agent how far its models are, unless it has not read what it was shown before.
    fn tell_deltas(&mut self) {
        for delta in self.desk.deltas() {
            if let Ok(notice) = wire::Notification::notice(&delta)
                && !self.peer.link.is_behind()
            {
                self.peer.link.send(notice);
            }
        }
    }

    fn steer(&mut self, messages: &[Message]) -> Result<(), AgentError> {
        let steer = wire::RunSteer {
            scope: convert::scope(self.ctx),
            messages: convert::said(messages)?,
        };
        self.peer.link.send(wire::Notification::notice(&steer)?);
        Ok(())
    }

    fn cancel(&mut self) -> ControlFlow<Failure> {
        let grace = self.manifest.stop_grace;
        self.cancel_by = Some(Instant::now() + grace);
        if matches!(self.phase, Phase::Starting { .. }) {
            return ControlFlow::Break(self.rung(Alarm::CancelGrace));
        }
        let notice = wire::RunCancel {
            run_id: self.ctx.run_id().to_string(),
            epoch: Some(self.ctx.epoch()),
            reason: "cancelled".to_owned(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        };
        match wire::Notification::notice(&notice) {
            Ok(notification) => {
                self.peer.link.send(notification);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(AgentError::from(error).into()),
        }
    }

    fn rung(&self, alarm: Alarm) -> Failure {
        match alarm {
            Alarm::Start => Failure::slow_start(self.manifest, &self.peer.logs),
            Alarm::Silence => Failure::silence(self.manifest, &self.peer.logs),
            Alarm::CancelGrace => Failure::cancelled(&self.peer.logs),
            Alarm::Drained => Failure::process_exited(self.exit, self.manifest, &self.peer.logs),
        }
    }
}

/// Whether the agent could not take a line: what that said is lost, and the agent may wait for it for ever.
fn skipped(outcome: &wire::Outcome) -> Option<String> {
    let error = outcome.as_ref().err()?;
    let is_line = error.code == wire::ErrorCode::TooLarge.code();
    is_line.then(|| format!("the agent skipped a line of the host: {}", error.message))
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
