//! Tools and models of the host.

use adjutant_wire::{AgentRequest, LlmDelta, Outcome};
use serde_json::json;

use super::{Case, Needs::Modes, case};
use crate::{
    fault::{Check, broke, ensure},
    host::{Host, ends, mode},
    journal::Journal,
    program::Program,
};

pub(super) const CASES: &[Case] = &[
    case(
        "tools/listed",
        2,
        Modes,
        "all pages of the tools are read",
        listed,
    ),
    case(
        "tools/called",
        2,
        Modes,
        "a tool's answer reaches the agent",
        called,
    ),
    case(
        "tools/call-ids",
        2,
        Modes,
        "the same calls have the same ids in each attempt, each its own",
        call_ids,
    ),
    case(
        "tools/unavailable",
        2,
        Modes,
        "-31006 fails the run, retryable, and spares the process",
        unavailable,
    ),
    case(
        "llm/generated",
        2,
        Modes,
        "a model's answer reaches the agent",
        generated,
    ),
    case(
        "llm/streamed",
        2,
        Modes,
        "`llm/delta` is heard, and the answer is whole all the same",
        streamed,
    ),
];

const TOOLS: [&str; 2] = ["search", "search#2"];

fn tool_answers() -> Journal {
    Journal::with(&[
        (
            "search",
            json!({"content": [{"type": "text", "text": "one"}]}),
        ),
        (
            "search#2",
            json!({"content": [{"type": "text", "text": "two"}], "isError": false}),
        ),
    ])
}

fn listed(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("list", 1))?;
    let outcome = host.finish(&id, |request| match request {
        AgentRequest::ToolsList(list) if list.cursor.is_none() => Ok(json!({
            "tools": [{"name": "a", "inputSchema": {"type": "object"}}], "generation": 1, "nextCursor": "p2"
        })),
        _ => Ok(json!({"tools": [{"name": "b", "later": 1}], "generation": 1})),
    })?;
    ends(&outcome, "end_turn", &json!(["a", "b"]))
}

fn called(program: &Program) -> Check {
    let outcome = Host::start(program)?.drive(&mode("tools", 1), &mut tool_answers())?;
    ends(&outcome, "end_turn", &json!(["one", "two"]))
}

fn call_ids(program: &Program) -> Check {
    for attempt in 1..=2 {
        let mut journal = tool_answers();
        Host::start(program)?
            .drive(&mode("tools", attempt), &mut journal)?
            .ok();
        ensure!(
            journal.calls == TOOLS,
            "attempt {attempt} calls {:?}",
            journal.calls
        );
    }
    Ok(())
}

fn unavailable(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    match host.drive(&mode("tools", 1), &mut Journal::default())? {
        Err(error) if error.retryable() => host.barrier(),
        other => broke(format!("the attempt ended with {other:?}")),
    }
}

fn answer() -> Outcome {
    Ok(json!({
        "message": {"role": "assistant", "content": "a b"}, "finishReason": "stop", "model": "m",
        "usage": {"inputTokens": 3, "outputTokens": 2},
    }))
}

fn generated(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("generate", 1))?;
    let outcome = host.finish(&id, |_| answer())?;
    ends(&outcome, "end_turn", &json!({"text": "a b", "deltas": 0}))
}

fn streamed(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let start = mode("stream", 1);
    let id = host.begin(&start)?;
    let (call_id, call) = match host.next_call()? {
        (id, AgentRequest::LlmGenerate(call)) => (id, call),
        (_, other) => return broke(format!("not expected: {other:?}")),
    };
    ensure!(call.stream, "`stream` is not asked for");
    for (seq, text) in (1..).zip(["a", " b"]) {
        let delta = LlmDelta {
            scope: start.scope.clone(),
            call_id: call.call_id.clone(),
            seq,
            text: Some(text.to_owned()),
            ..LlmDelta::default()
        };
        host.notify(&delta)?;
    }
    host.reply(call_id, answer())?;
    let outcome = host.finish(&id, |_| answer())?;
    ends(&outcome, "end_turn", &json!({"text": "a b", "deltas": 2}))
}
