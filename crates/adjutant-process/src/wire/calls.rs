//! The agent's requests, carried out through the run's context.

use std::time::Duration;

use adjutant_core::{AgentError, ApprovalRequest, Delegate, Json, RunContext};
use adjutant_wire::{
    AgentRequest, Call, CheckpointSave, CheckpointSaved, Delegated, Empty, ErrorCode, InputRequest,
    Outcome, RpcError, RunScope, Signal, SignalWait, Sleep,
};

use crate::convert;

/// Largest checkpoint: it has to fit, together with the input, into the one line that starts the next attempt.
pub(super) const MAX_CHECKPOINT_BYTES: usize = 8 * 1024 * 1024;

/// Refuses what is not about this attempt.
pub(super) fn check_scope(ctx: &RunContext, scope: &RunScope) -> Result<(), RpcError> {
    check_run(ctx, &scope.run_id)?;
    if (scope.attempt, scope.epoch) == (ctx.attempt(), ctx.epoch()) {
        return Ok(());
    }
    let why = format!(
        "this is attempt {} with epoch {}, not attempt {} with epoch {}",
        ctx.attempt(),
        ctx.epoch(),
        scope.attempt,
        scope.epoch
    );
    Err(RpcError::new(ErrorCode::Fenced, why))
}

/// Refuses what is about another run.
pub(super) fn check_run(ctx: &RunContext, run_id: &str) -> Result<(), RpcError> {
    if run_id == ctx.run_id().to_string() {
        return Ok(());
    }
    let why = format!("this process works on {}, not on {run_id:?}", ctx.run_id());
    Err(RpcError::new(ErrorCode::UnknownRun, why))
}

/// Refuses a request that is not about this attempt.
pub(super) fn check_request(ctx: &RunContext, request: &AgentRequest) -> Result<(), RpcError> {
    match request {
        AgentRequest::CheckpointSave(call) => check_scope(ctx, &call.scope),
        AgentRequest::CheckpointLoad(call) => check_scope(ctx, &call.scope),
        AgentRequest::StepBegin(call) => check_scope(ctx, &call.scope),
        AgentRequest::StepEnd(call) => check_scope(ctx, &call.scope),
        AgentRequest::Sleep(call) => check_scope(ctx, &call.scope),
        AgentRequest::SignalWait(call) => check_scope(ctx, &call.scope),
        AgentRequest::Delegate(call) => check_scope(ctx, &call.scope),
        AgentRequest::InputRequest(call) => check_scope(ctx, &call.scope),
        AgentRequest::ToolsList(call) => check_scope(ctx, &call.scope),
        AgentRequest::ToolsCall(call) => check_scope(ctx, &call.scope),
        AgentRequest::LlmGenerate(call) => check_scope(ctx, &call.scope),
        _ => Ok(()),
    }
}

/// Carries out a request that is neither a step, a checkpoint, a tool nor a model. May never return: then the run is suspended, and the
/// future dropped with everything else.
pub(super) async fn carry_out(ctx: &RunContext, request: AgentRequest) -> Outcome {
    match request {
        AgentRequest::Sleep(call) => sleep(ctx, call).await,
        AgentRequest::SignalWait(call) => wait_for_signal(ctx, call).await,
        AgentRequest::Delegate(call) => delegate(ctx, call).await,
        AgentRequest::InputRequest(call) => ask(ctx, call).await,
        _ => Err(RpcError::new(
            ErrorCode::MethodNotFound,
            "this version of the host does not carry that out",
        )),
    }
}

fn seconds(seconds: f64) -> Result<Duration, RpcError> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| RpcError::new(ErrorCode::InvalidParams, format!("seconds: {error}")))
}

async fn sleep(ctx: &RunContext, call: Sleep) -> Outcome {
    let duration = seconds(call.seconds)?;
    ctx.sleep(&call.key, duration)
        .await
        .map_err(|error| convert::rpc_error(&error))?;
    Sleep::write_answer(&Empty {})
}

async fn wait_for_signal(ctx: &RunContext, call: SignalWait) -> Outcome {
    let timeout = call.timeout_seconds.map(seconds).transpose()?;
    let signal = ctx.wait_for_signal(&call.name, timeout).await;
    let signal = signal
        .map_err(|error| convert::rpc_error(&error))?
        .map(|payload| Signal {
            payload: convert::tree(&payload),
        });
    SignalWait::write_answer(&signal)
}

async fn delegate(ctx: &RunContext, call: adjutant_wire::Delegate) -> Outcome {
    let mut delegate = Delegate::new(call.key).policy(convert::policy(call.policy));
    for child in call.children {
        let agent = child.agent.clone();
        let input = convert::child_input(child).map_err(|error| {
            RpcError::new(ErrorCode::InvalidParams, error.info().message.clone())
        })?;
        delegate = delegate.child(agent, input);
    }
    let outcomes = ctx
        .delegate(delegate)
        .await
        .map_err(|error| convert::rpc_error(&error))?;
    adjutant_wire::Delegate::write_answer(&Delegated {
        results: outcomes.iter().map(convert::child_result).collect(),
    })
}

async fn ask(ctx: &RunContext, call: InputRequest) -> Outcome {
    let mut request = ApprovalRequest::new(call.key, call.message);
    request.expires_in = call.timeout_seconds.map(seconds).transpose()?;
    request.data = convert::question(call.kind, call.schema, call.data.or(call.tool_call));
    let decision = ctx
        .request_approval(request)
        .await
        .map_err(|error| convert::rpc_error(&error))?;
    InputRequest::write_answer(&convert::answer(decision))
}

/// Saves a checkpoint. The answer's number is the host's; `last` is the agent's own last number.
pub(super) async fn save(ctx: &RunContext, call: CheckpointSave, last: u64) -> Outcome {
    if call.seq <= last {
        let why = format!("checkpoint {} does not rise above {last}", call.seq);
        return Err(RpcError::new(ErrorCode::InvalidParams, why));
    }
    let state = Json::from(call.state);
    if state.len() > MAX_CHECKPOINT_BYTES {
        let why = format!(
            "the checkpoint is {} bytes; the limit is {MAX_CHECKPOINT_BYTES} bytes",
            state.len()
        );
        return Err(RpcError::new(ErrorCode::TooLarge, why));
    }
    let saved = ctx.checkpoint(&state).await;
    let seq = saved.map_err(|error| convert::rpc_error(&AgentError::from(error)))?;
    CheckpointSave::write_answer(&CheckpointSaved { seq })
}
