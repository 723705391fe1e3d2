//! Where the agent's messages wait their turn.
//!
//! Events and checkpoints are written one after the other in the order they came, and a call begins only when what came
//! before it is durable: a call may suspend the run for good, and nothing that the agent said earlier may be lost then.
//! Calls themselves run beside each other.

use std::collections::{HashMap, VecDeque};

use adjutant_core::{AgentError, Error, NewEvent, RetryAdvice, RunContext};
use adjutant_wire::{
    AgentRequest, Call, Checkpoint, CheckpointLoad, CheckpointSave, ErrorCode, Limits, LlmDelta,
    Outcome, Request, RequestId, Response, RpcError,
};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Either, select},
    stream::FuturesUnordered,
};
use tokio::sync::oneshot;

use super::{
    calls,
    routed::{self, Routed},
    steps::Steps,
};

/// When this much waits, nothing more is read from the agent.
const MAX_WAITING: usize = 256;

/// What waits its turn.
enum Work {
    Event(NewEvent),
    Request(RequestId, Box<AgentRequest>),
}

/// Something that has been dealt with.
pub(super) enum Served {
    /// The answer to a request.
    Answer(Response),
    /// An event that the host does not take, and why.
    Refused(String),
    /// Pieces of models' answers wait to be written, see [`Desk::deltas`].
    Deltas,
    /// The host fails.
    Broken(AgentError),
    /// Nothing that anybody has to hear of.
    Silent,
}

pub(super) struct Desk<'a> {
    ctx: &'a RunContext,
    waiting: VecDeque<Work>,
    /// What everything waiting waits for.
    current: Option<BoxFuture<'a, Served>>,
    calls: FuturesUnordered<BoxFuture<'a, Served>>,
    steps: Steps<'a>,
    routed: Routed,
    /// Drop an entry's sender, and its call is given up.
    open: HashMap<RequestId, oneshot::Sender<()>>,
    checkpoint: u64,
}

impl<'a> Desk<'a> {
    pub(super) fn new(ctx: &'a RunContext) -> Self {
        Self {
            ctx,
            waiting: VecDeque::new(),
            current: None,
            calls: FuturesUnordered::new(),
            steps: Steps::default(),
            routed: Routed::default(),
            open: HashMap::new(),
            checkpoint: 0,
        }
    }

    /// Takes in an event.
    pub(super) fn event(&mut self, event: NewEvent) {
        self.waiting.push_back(Work::Event(event));
    }

    /// Takes in a request, or answers it at once when it cannot be carried out.
    pub(super) fn request(&mut self, request: Request) -> Option<Response> {
        let id = request.id.clone();
        match self.admit(request) {
            Ok(call) => {
                self.waiting.push_back(Work::Request(id, Box::new(call)));
                None
            }
            Err(refusal) => Some(Response::error(Some(id), refusal)),
        }
    }

    fn admit(&self, request: Request) -> Result<AgentRequest, RpcError> {
        let call = AgentRequest::read(request)?;
        calls::check_request(self.ctx, &call)?;
        // The end of a step makes room, so it is never refused for want of room.
        let limit = Limits::default().max_inflight_calls as usize;
        if self.open_calls() >= limit && !matches!(call, AgentRequest::StepEnd(_)) {
            let why = format!("{limit} calls are open");
            return Err(RpcError::new(ErrorCode::Overloaded, why));
        }
        Ok(call)
    }

    fn open_calls(&self) -> usize {
        let waiting = self.waiting.iter();
        self.calls.len()
            + waiting
                .filter(|work| matches!(work, Work::Request(..)))
                .count()
    }

    /// Gives up on a request that the agent no longer wants answered.
    pub(super) fn give_up(&mut self, id: &RequestId) {
        self.open.remove(id);
    }

    /// Whether the agent waits for us rather than we for it.
    pub(super) fn is_answering(&self) -> bool {
        !self.calls.is_empty() || self.current.is_some() || !self.waiting.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    /// Whether all that the agent said is durable.
    pub(super) fn is_flushed(&self) -> bool {
        self.waiting.is_empty() && self.current.is_none()
    }

    /// Forgets the requests, because nobody waits for their answers any more.
    pub(super) fn keep_events_only(&mut self) {
        self.waiting.retain(|work| matches!(work, Work::Event(_)));
        self.calls.clear();
    }

    /// Works, and returns the next thing that is done. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Served {
        self.advance();
        let current = async {
            match &mut self.current {
                Some(current) => current.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            served = current => {
                self.current = None;
                if let Served::Answer(response) = &served {
                    self.close(response);
                }
                served
            }
            Some(served) = self.calls.next(), if !self.calls.is_empty() => {
                if let Served::Answer(response) = &served {
                    self.close(response);
                }
                served
            }
            () = self.routed.deltas().come() => Served::Deltas,
            never = self.steps.drive() => match never {},
        }
    }

    /// Pieces of models' answers that are to be written before anything else.
    pub(super) fn deltas(&self) -> VecDeque<LlmDelta> {
        self.routed.deltas().take()
    }

    fn close(&mut self, response: &Response) {
        if let Some(id) = &response.id {
            self.open.remove(id);
        }
    }

    fn advance(&mut self) {
        while self.current.is_none()
            && let Some(work) = self.waiting.pop_front()
        {
            match work {
                Work::Event(event) => self.current = Some(emit(self.ctx, event).boxed()),
                Work::Request(id, call) => match *call {
                    AgentRequest::CheckpointSave(call) => self.save(id, call),
                    other => self.begin(id, other),
                },
            }
        }
    }

    fn save(&mut self, id: RequestId, call: CheckpointSave) {
        let last = self.checkpoint;
        self.checkpoint = last.max(call.seq);
        let saved = calls::save(self.ctx, call, last);
        let served = saved.map(|outcome| {
            Served::Answer(Response {
                id: Some(id),
                outcome,
            })
        });
        self.current = Some(served.boxed());
    }

    fn begin(&mut self, id: RequestId, call: AgentRequest) {
        let work: BoxFuture<'a, Outcome> = match call {
            AgentRequest::StepBegin(step) => self.steps.begin(self.ctx, step),
            AgentRequest::StepEnd(step) => self.steps.end(step),
            AgentRequest::CheckpointLoad(call) => std::future::ready(self.load(&call)).boxed(),
            AgentRequest::ToolsList(call) => routed::list_tools(self.ctx, call).boxed(),
            AgentRequest::ToolsCall(call) => self.routed.call_tool(self.ctx, call),
            AgentRequest::LlmGenerate(call) => self.routed.generate(self.ctx, call),
            other => calls::carry_out(self.ctx, other).boxed(),
        };
        let (keep, given_up) = oneshot::channel();
        self.open.insert(id.clone(), keep);
        let served = async move {
            let outcome = match select(work, given_up).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right(_) => Err(RpcError::new(ErrorCode::Cancelled, "given up on request")),
            };
            Served::Answer(Response {
                id: Some(id),
                outcome,
            })
        };
        self.calls.push(served.boxed());
    }

    fn load(&self, call: &CheckpointLoad) -> Outcome {
        if call.seq.is_some_and(|seq| seq != self.checkpoint) {
            let why = "only the latest checkpoint can be loaded; leave `seq` out";
            return Err(RpcError::new(ErrorCode::InvalidParams, why));
        }
        CheckpointLoad::write_answer(&latest(self.ctx, self.checkpoint))
    }
}

/// The latest state. The context does not tell its number, so that 1 stands for "some earlier attempt's".
pub(super) fn latest(ctx: &RunContext, seq: u64) -> Option<Checkpoint> {
    let state = ctx.get_state().ok().flatten()?;
    Some(Checkpoint {
        seq: seq.max(1),
        state,
    })
}

async fn emit(ctx: &RunContext, event: NewEvent) -> Served {
    let name = event.event_type.clone();
    match ctx.emit(event.event_type, event.payload).await {
        Ok(_) => Served::Silent,
        Err(error @ (Error::TooLarge { .. } | Error::Invalid { .. })) => {
            Served::Refused(format!("event `{name}` was not written: {error}"))
        }
        Err(error) => {
            tracing::warn!(run_id = %ctx.run_id(), %error, retry = error.retry() != RetryAdvice::Never, "an agent's event was not written");
            Served::Broken(AgentError::from(error))
        }
    }
}
