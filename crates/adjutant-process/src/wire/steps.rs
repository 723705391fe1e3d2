//! Steps whose work is done in the process and whose results are kept by the host.
//!
//! To the host a step is one call with a body; to the agent it is two requests with its work in between. The call runs
//! beside the conversation: its body answers `step/begin` with "execute" and waits for what `step/end` brings.

use std::{
    collections::{HashMap, HashSet},
    sync::OnceLock,
};

use adjutant_core::{AgentError, ErrorInfo, Json, RunContext, StepKind};
use adjutant_wire::{
    AgentFailure, Call, Empty, ErrorCode, Outcome, RpcError, StepBegin, StepDecision, StepEnd,
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::convert;

/// Steps that may be under way at once.
const MAX_OPEN_STEPS: usize = 64;

/// What the agent says a step came to.
type Report = Result<Value, AgentFailure>;

#[derive(Default)]
pub(super) struct Steps<'a> {
    /// The host's calls; each yields its step's key.
    running: FuturesUnordered<BoxFuture<'a, String>>,
    open: HashMap<String, Open>,
    /// All keys of this attempt.
    used: HashSet<String>,
}

/// The agent's way into a running call.
struct Open {
    report: oneshot::Sender<Report>,
    recorded: oneshot::Receiver<Outcome>,
}

/// The other ends.
struct Bridge {
    decide: oneshot::Sender<Outcome>,
    report: oneshot::Receiver<Report>,
}

impl<'a> Steps<'a> {
    /// Begins a step; the future is the answer.
    pub(super) fn begin(&mut self, ctx: &'a RunContext, step: StepBegin) -> BoxFuture<'a, Outcome> {
        if let Err(refusal) = self.check(&step.key) {
            return Box::pin(std::future::ready(Err(refusal)));
        }
        let (decide, decided) = oneshot::channel();
        let (report, reported) = oneshot::channel();
        let (record, recorded) = oneshot::channel();
        self.used.insert(step.key.clone());
        self.open
            .insert(step.key.clone(), Open { report, recorded });
        let bridge = Bridge {
            decide,
            report: reported,
        };
        self.running.push(Box::pin(async move {
            let key = step.key.clone();
            carry_out(ctx, step, bridge, record).await;
            key
        }));
        Box::pin(async move { decided.await.unwrap_or_else(|_| Err(gone())) })
    }

    fn check(&self, key: &str) -> Result<(), RpcError> {
        let refuse = |code, why: String| Err(RpcError::new(code, why));
        if key.is_empty() {
            return refuse(ErrorCode::InvalidParams, "a step needs a key".to_owned());
        }
        if self.used.contains(key) {
            // The host would number it as another step, and after a crash the numbers would not match.
            let why =
                format!("step `{key}` was begun before in this attempt; a second one is `{key}#2`");
            return refuse(ErrorCode::CallConflict, why);
        }
        if self.running.len() >= MAX_OPEN_STEPS {
            let why = format!("{MAX_OPEN_STEPS} steps are under way");
            return refuse(ErrorCode::Overloaded, why);
        }
        Ok(())
    }

    /// Ends a step; the future is the answer and comes when the end is durable.
    pub(super) fn end(&mut self, step: StepEnd) -> BoxFuture<'a, Outcome> {
        let Some(open) = self.open.remove(&step.key) else {
            let why = format!("no step `{}` is under way", step.key);
            let refusal = RpcError::new(ErrorCode::InvalidParams, why);
            return Box::pin(std::future::ready(Err(refusal)));
        };
        // When nobody listens, `recorded` is closed too and says so.
        let _ = open.report.send(step.outcome());
        let recorded = open.recorded;
        Box::pin(async move { recorded.await.unwrap_or_else(|_| Err(gone())) })
    }

    /// Drives the calls. Never returns; dropping the future loses nothing.
    pub(super) async fn drive(&mut self) -> std::convert::Infallible {
        loop {
            match self.running.next().await {
                Some(key) => drop(self.open.remove(&key)),
                None => std::future::pending().await,
            }
        }
    }
}

fn gone() -> RpcError {
    RpcError::new(ErrorCode::Internal, "the step was given up")
}

/// The host's call for one step.
async fn carry_out(
    ctx: &RunContext,
    step: StepBegin,
    bridge: Bridge,
    record: oneshot::Sender<Outcome>,
) {
    let reported = OnceLock::new();
    let mut bridge = Some(bridge);
    let result = call_host(ctx, step, &mut bridge, &reported).await;
    // A receiver that is gone means that the agent gave up on the request.
    let _ = match bridge {
        Some(untouched) => untouched.decide.send(recorded_before(result)),
        None => record.send(recorded_now(&result, reported.get())),
    };
}

/// Takes the bridge out when, and only when, the work has to be done.
async fn call_host(
    ctx: &RunContext,
    step: StepBegin,
    bridge: &mut Option<Bridge>,
    reported: &OnceLock<ErrorInfo>,
) -> Result<Json, AgentError> {
    let mut builder = ctx.step_builder(&step.key).kind(kind(step.kind.as_deref()));
    if let Some(hash) = &step.input_hash {
        builder = builder.input(hash)?;
    }
    builder
        .run(|| {
            let bridge = bridge.take();
            async move { in_the_process(ctx, bridge, reported).await }
        })
        .await
}

async fn in_the_process(
    ctx: &RunContext,
    bridge: Option<Bridge>,
    reported: &OnceLock<ErrorInfo>,
) -> Result<Json, AgentError> {
    let gone = || AgentError::retriable("process_gone", "the process gave up on the step");
    let Bridge { decide, report } = bridge.ok_or_else(gone)?;
    let execute = StepDecision::Execute {
        attempt: ctx.attempt(),
    };
    decide
        .send(StepBegin::write_answer(&execute))
        .map_err(|_| gone())?;
    match report.await.map_err(|_| gone())? {
        Ok(result) => Ok(Json::from(result)),
        Err(failure) => {
            let error = convert::agent_error(failure);
            let _ = reported.set(error.info().clone());
            Err(error)
        }
    }
}

fn kind(name: Option<&str>) -> StepKind {
    match name {
        Some("model") => StepKind::Model,
        Some("tool") => StepKind::Tool,
        _ => StepKind::Code,
    }
}

/// The answer to `step/begin` when the host did not ask for the work.
fn recorded_before(result: Result<Json, AgentError>) -> Outcome {
    let decision = match result {
        Ok(result) => StepDecision::Replay {
            result: convert::tree(&result),
        },
        Err(error) if convert::is_host_failure(error.info()) => {
            return Err(convert::rpc_error(&error));
        }
        Err(error) => StepDecision::Failed {
            error: convert::failure(error.info()),
        },
    };
    StepBegin::write_answer(&decision)
}

/// The answer to `step/end`: the agent's own failure, taken down as reported, is a success of the recording.
fn recorded_now(result: &Result<Json, AgentError>, reported: Option<&ErrorInfo>) -> Outcome {
    match result {
        Err(error) if Some(error.info()) != reported => Err(convert::rpc_error(error)),
        _ => StepEnd::write_answer(&Empty {}),
    }
}
