//! What the agent's server is told of a run.

use adjutant_core::{AgentError, RunContext};
use serde_json::{Value, json};

use crate::convert;

/// Who asks, and for which run. A server that must do things once tells repeated attempts by the key.
pub(super) fn headers(ctx: &RunContext) -> [(&'static str, String); 5] {
    let run = ctx.run_id().to_string();
    [
        ("x-adjutant-attempt", ctx.attempt().to_string()),
        ("x-adjutant-epoch", ctx.epoch().to_string()),
        // The name that servers written for the hosted contract look for.
        ("x-amzn-bedrock-agentcore-runtime-session-id", run.clone()),
        ("idempotency-key", run.clone()),
        ("x-adjutant-run-id", run),
    ]
}

/// The run's input: data as they are, messages as `messages` with the last one's text as `prompt`.
pub(super) fn body(ctx: &RunContext) -> Result<Vec<u8>, AgentError> {
    let messages = ctx.input_messages();
    let data = convert::tree(&ctx.input().data);
    let mut body = match data {
        Value::Null => json!({}),
        data => data,
    };
    if let Value::Object(fields) = &mut body {
        if let Some(last) = messages.last() {
            fields.entry("prompt").or_insert_with(|| last.text().into());
            fields
                .entry("messages")
                .or_insert_with(|| convert::value(messages));
        }
        let params = convert::tree(ctx.params());
        if !params.is_null() {
            fields.entry("params").or_insert(params);
        }
    }
    Ok(serde_json::to_vec(&body)?)
}
