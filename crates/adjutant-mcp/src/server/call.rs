//! One call of a tool: waits for its turn, for the server, for the answer, and for nothing longer than it may.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use adjutant_core::Effect;
use adjutant_tools::{ClientPort, InputResume, ProgressSink, Reply, ToolError};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant as Clock, sleep_until, timeout_at},
};

use super::{Server, Word};
use crate::{
    config::Kind,
    metrics::count,
    peer::{Answer, Ask, Asked, MAX_WAITING_EVENTS, McpPeer, PeerError, PeerEvent, Pending, What},
};

/// A call, by the tool's name at the server.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) tool: &'a str,
    /// The name that whoever called knows it by, for messages.
    pub(crate) shown: &'a str,
    pub(crate) arguments: &'a Map<String, Value>,
    pub(crate) effect: Effect,
    pub(crate) trace: Option<&'a str>,
    pub(crate) idempotency_key: Option<&'a str>,
    pub(crate) progress: Option<&'a ProgressSink<'a>>,
    pub(crate) port: Option<&'a dyn ClientPort>,
    pub(crate) resume: Option<&'a InputResume>,
    pub(crate) clocks: Clocks,
}

/// How long a call may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    /// Without an answer or a notice of progress.
    pub(crate) idle: Duration,
    /// In all.
    pub(crate) total: Duration,
    /// When that is over.
    pub(crate) deadline: Clock,
}

impl Clocks {
    /// Begins to count.
    pub(crate) fn start(idle: Duration, total: Duration) -> Self {
        Self {
            idle,
            total,
            deadline: Clock::now() + total,
        }
    }
}

/// How long a server that a call could not reach may still count as up.
const GONE: Duration = Duration::from_secs(1);

/// Where a server that cares finds the key under which twice is once.
const IDEMPOTENCY_KEY: &str = "adjutant/idempotencyKey";

impl Call<'_> {
    fn meta(&self) -> Vec<(&'static str, String)> {
        let trace = self.trace.map(|trace| ("traceparent", trace.to_owned()));
        let key = self.idempotency_key;
        let key = key.map(|key| (IDEMPOTENCY_KEY, key.to_owned()));
        trace.into_iter().chain(key).collect()
    }
}

/// A question of the server's that is being answered.
type Question<'a> = BoxFuture<'a, ()>;

impl Server {
    /// Makes a call; `repeats` counts how often it was made again.
    pub(crate) async fn call(&self, call: Call<'_>, repeats: &mut u32) -> Result<Reply, ToolError> {
        let since = Instant::now();
        let turn = timeout_at(call.clocks.deadline, self.gate.enter()).await;
        let turn = turn.map_err(|_| timed_out(&call, call.clocks.total, false))?;
        let _turn = turn.map_err(|full| {
            count(&self.counters.busy);
            ToolError::Busy {
                tool: call.shown.to_owned(),
                retry_after: full.0,
            }
        })?;
        self.counters.waited(since.elapsed());
        loop {
            let mut peer = None;
            let error = match self.attempt(&call, &mut peer).await {
                Ok(reply) => {
                    self.timeouts_in_row.store(0, Ordering::Relaxed);
                    return Ok(reply);
                }
                Err(error) => error,
            };
            if !self.may_repeat(&call, &error, *repeats) {
                self.suspect(&error);
                return Err(error);
            }
            *repeats += 1;
            count(&self.counters.repeats);
            if let Some(peer) = peer {
                // What the call could not reach may not be known to be gone yet.
                let soon = (Clock::now() + GONE).min(call.clocks.deadline);
                let _ = timeout_at(soon, peer.closed().cancelled()).await;
            }
        }
    }

    /// Only the server's going away is a reason to make a call again, and only where twice is as good as once or the call
    /// never got out.
    fn may_repeat(&self, call: &Call<'_>, error: &ToolError, repeats: u32) -> bool {
        let gone = matches!(error, ToolError::Unavailable { source: None, .. });
        let safe = !error.sent_unanswered() || call.effect.may_repeat();
        let up_again = !matches!(self.view().state, crate::State::Open | crate::State::Failed);
        gone && safe && up_again && repeats < self.config.restart.max.max(1)
    }

    /// Two calls in a row without an answer make the owner ask whether the server is well, and so does one that did not
    /// reach a server far away, whose death nobody sees.
    fn suspect(&self, error: &ToolError) {
        let far = self.config.kind() == Kind::Http;
        if far && matches!(error, ToolError::Unavailable { .. }) {
            self.tell(Word::Suspect);
        }
        if matches!(error, ToolError::Timeout { sent: true, .. }) {
            let before = self.timeouts_in_row.fetch_add(1, Ordering::Relaxed);
            if before >= 1 {
                self.tell(Word::Suspect);
            }
        }
    }

    async fn attempt(
        &self,
        call: &Call<'_>,
        used: &mut Option<Arc<dyn McpPeer>>,
    ) -> Result<Reply, ToolError> {
        let deadline = call.clocks.deadline;
        let late = |_| timed_out(call, call.clocks.total, false);
        let (peer, _flight) = match self.board() {
            Some(aboard) => aboard,
            None => {
                let ready = timeout_at(deadline, self.ready()).await.map_err(late)?;
                ready.map_err(|error| error.into_tool_error(call.shown))?;
                // It may have gone again meanwhile; then the call is as good as never made.
                let aboard = self.board();
                aboard.ok_or_else(|| {
                    unavailable(call, "it went away before the call".into(), false)
                })?
            }
        };
        *used = Some(Arc::clone(&peer));
        let (tell, events) = mpsc::channel(MAX_WAITING_EVENTS);
        let ask = Ask {
            what: What::Call {
                tool: call.tool.to_owned(),
                arguments: call.arguments.clone(),
                resume: call.resume.cloned(),
            },
            meta: call.meta(),
            events: Some(tell),
        };
        let pending = timeout_at(deadline, peer.send(ask)).await.map_err(late)?;
        let pending = pending.map_err(|error| failure(call, error))?;
        converse(call, pending, events).await
    }
}

/// Waits for the answer and sees to what comes before it.
async fn converse(
    call: &Call<'_>,
    pending: Pending,
    mut events: mpsc::Receiver<PeerEvent>,
) -> Result<Reply, ToolError> {
    let Pending { mut answer, sent } = pending;
    let sent = || sent.load(Ordering::Acquire);
    let mut questions: FuturesUnordered<Question<'_>> = FuturesUnordered::new();
    let clocks = call.clocks;
    // One timer for both clocks, because each costs as much as the rest of the pool. It rings early after progress.
    let mut idle = Clock::now() + clocks.idle;
    let mut timer = std::pin::pin!(sleep_until(idle.min(clocks.deadline)));
    loop {
        tokio::select! {
            biased;
            answered = &mut answer => {
                while let Ok(PeerEvent::Progress(progress)) = events.try_recv() {
                    tell(call, progress);
                }
                return finish(call, answered);
            }
            Some(event) = events.recv() => {
                idle = Clock::now() + clocks.idle;
                match event {
                    PeerEvent::Progress(progress) => tell(call, progress),
                    PeerEvent::Asked { what, params, reply } => {
                        questions.push(consult(call.port, what, params, reply).boxed());
                    }
                    PeerEvent::TooLong => return Err(ToolError::Limit {
                        tool: call.shown.to_owned(),
                        problem: "its answer is longer than 16 MiB".into(),
                        sent: true,
                    }),
                }
            }
            Some(()) = questions.next(), if !questions.is_empty() => {
                idle = Clock::now() + clocks.idle;
            }
            () = &mut timer => {
                let now = Clock::now();
                if now >= clocks.deadline {
                    return Err(timed_out(call, clocks.total, sent()));
                }
                if !questions.is_empty() {
                    // While it waits for us it is not idle.
                    idle = now + clocks.idle;
                }
                if now >= idle {
                    return Err(timed_out(call, clocks.idle, sent()));
                }
                timer.as_mut().reset(idle.min(clocks.deadline));
            }
        }
    }
}

fn tell(call: &Call<'_>, progress: adjutant_tools::Progress) {
    if let Some(sink) = call.progress {
        sink(progress);
    }
}

/// Passes a question of the server's on to whoever made the call.
async fn consult(
    port: Option<&dyn ClientPort>,
    what: Asked,
    params: Value,
    reply: oneshot::Sender<Result<Value, String>>,
) {
    let answer = match (port, what) {
        (None, _) => Err("nobody is there to answer".to_owned()),
        (Some(port), Asked::Sample) => port.sample(params).await.map_err(|e| e.to_string()),
        (Some(port), Asked::Elicit) => port.elicit(params).await.map_err(|e| e.to_string()),
    };
    let _ = reply.send(answer);
}

fn finish(call: &Call<'_>, answered: Result<Answer, PeerError>) -> Result<Reply, ToolError> {
    match answered {
        Ok(Answer::Tool(reply)) => Ok(reply),
        Ok(Answer::Json(Value::Object(fields))) if fields.is_empty() => {
            // Some servers have nothing to say.
            Ok(Reply::Answer(adjutant_core::ToolAnswer::default()))
        }
        Ok(Answer::Json(_)) => Err(ToolError::failed(
            call.shown,
            "the server's answer is not one of a tool",
        )),
        Err(error) => Err(failure(call, error)),
    }
}

fn failure(call: &Call<'_>, error: PeerError) -> ToolError {
    match error {
        PeerError::Lost { sent, why } => unavailable(call, why, sent),
        PeerError::Refused { code, message } if code == INVALID_PARAMS => {
            ToolError::invalid(call.shown, "", message)
        }
        PeerError::Refused { code, message } => {
            ToolError::failed(call.shown, format!("{message} ({code})"))
        }
        PeerError::Nonsense(problem) => ToolError::failed(call.shown, problem),
    }
}

/// JSON-RPC's number for arguments that are not valid.
const INVALID_PARAMS: i32 = -32602;

fn unavailable(call: &Call<'_>, problem: String, sent: bool) -> ToolError {
    ToolError::Unavailable {
        tool: call.shown.to_owned(),
        problem,
        sent,
        source: None,
    }
}

fn timed_out(call: &Call<'_>, after: Duration, sent: bool) -> ToolError {
    ToolError::Timeout {
        tool: call.shown.to_owned(),
        after,
        sent,
    }
}
