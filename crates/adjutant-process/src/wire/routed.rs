//! Tools and models, which the host has and the agent uses.

use std::{collections::HashSet, sync::Arc};

use adjutant_core::{ModelCall, ModelDelta, RunContext};
use adjutant_wire::{
    Call, ErrorCode, LlmGenerate, Outcome, RpcError, RunScope, ToolsCall, ToolsList, ToolsPage,
};
use futures::future::{BoxFuture, FutureExt, ready};

use super::deltas::Deltas;
use crate::convert;

/// Tools on a page of `tools/list`.
const PAGE: usize = 100;

/// The calls of one attempt.
#[derive(Default)]
pub(super) struct Routed {
    /// All ids of this attempt, with what they are ids of.
    used: HashSet<String>,
    deltas: Arc<Deltas>,
}

impl Routed {
    /// What models say meanwhile.
    pub(super) fn deltas(&self) -> &Deltas {
        &self.deltas
    }

    pub(super) fn call_tool<'a>(
        &mut self,
        ctx: &'a RunContext,
        call: ToolsCall,
    ) -> BoxFuture<'a, Outcome> {
        match self.admit("tool", &call.call_id) {
            Ok(()) => call_tool(ctx, call).boxed(),
            Err(refusal) => ready(Err(refusal)).boxed(),
        }
    }

    pub(super) fn generate<'a>(
        &mut self,
        ctx: &'a RunContext,
        call: LlmGenerate,
    ) -> BoxFuture<'a, Outcome> {
        match self.admit("model", &call.call_id) {
            Ok(()) => generate(ctx, call, Arc::clone(&self.deltas)).boxed(),
            Err(refusal) => ready(Err(refusal)).boxed(),
        }
    }

    /// The host would number a second call of the same id as another one, and after a crash the numbers would not match.
    fn admit(&mut self, what: &str, call_id: &str) -> Result<(), RpcError> {
        if call_id.is_empty() {
            let why = "a call needs a `callId`";
            return Err(RpcError::new(ErrorCode::InvalidParams, why));
        }
        if self.used.insert(format!("{what}:{call_id}")) {
            return Ok(());
        }
        let why = format!(
            "the {what} call `{call_id}` was made before in this attempt; a second one is `{call_id}#2`"
        );
        Err(RpcError::new(ErrorCode::CallConflict, why))
    }
}

pub(super) async fn list_tools(ctx: &RunContext, call: ToolsList) -> Outcome {
    let from = call.cursor.as_deref().map_or(Ok(0), |cursor| {
        let unknown = |_| RpcError::new(ErrorCode::InvalidParams, "an unknown `cursor`");
        cursor.parse::<usize>().map_err(unknown)
    })?;
    let tools = ctx
        .tools()
        .await
        .map_err(|error| convert::call_error(&error, ErrorCode::ToolUnavailable))?;
    let page: Vec<_> = tools.iter().skip(from).take(PAGE).collect();
    let next = from.saturating_add(page.len());
    ToolsList::write_answer(&ToolsPage {
        tools: page.into_iter().map(convert::tool).collect(),
        generation: 0,
        next_cursor: (next < tools.len()).then(|| next.to_string()),
    })
}

async fn call_tool(ctx: &RunContext, call: ToolsCall) -> Outcome {
    let answer = ctx
        .call_tool(convert::tool_use(call))
        .await
        .map_err(|error| convert::call_error(&error, ErrorCode::AgentFailed))?;
    ToolsCall::write_answer(&convert::tool_answer(answer))
}

async fn generate(ctx: &RunContext, call: LlmGenerate, deltas: Arc<Deltas>) -> Outcome {
    let request = convert::model_request(call.request)?;
    let asked = ModelCall {
        key: format!("model:{}", call.call_id),
        request,
    };
    let answered = if call.stream {
        let mut tell = teller(call.scope, call.call_id, deltas);
        ctx.generate_streaming(asked, &mut tell).await
    } else {
        ctx.host().generate(asked, None).await
    };
    let answer = answered.map_err(|error| convert::call_error(&error, ErrorCode::Provider))?;
    LlmGenerate::write_answer(&convert::model_answer(answer))
}

/// Numbers the pieces of one answer and leaves them to be written.
fn teller(scope: RunScope, call_id: String, deltas: Arc<Deltas>) -> impl FnMut(ModelDelta) + Send {
    let mut seq = 0;
    move |delta| {
        seq += 1;
        let mut piece = convert::model_delta(delta);
        piece.scope.clone_from(&scope);
        piece.call_id.clone_from(&call_id);
        piece.seq = seq;
        deltas.push(piece);
    }
}
