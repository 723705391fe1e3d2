//! Tools and models of the host.

use adjutant_wire::{AgentRequest, ErrorCode, ErrorData, LlmDelta, Outcome, RpcError};
use serde_json::json;

use super::{Case, Needs::Modes, case};
use crate::{
    fault::{Check, broke, ensure},
    host::{Host, ends, mode, output, with_data},
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
        "tools/denied",
        2,
        Modes,
        "-31008 fails the run with the kind that the host names, not retryable",
        denied,
    ),
    case(
        "tools/conflict",
        2,
        Modes,
        "-31012 fails the run, not retryable: its code is not the one that made the call",
        conflict,
    ),
    case(
        "llm/budget",
        2,
        Modes,
        "-31003 fails the run, not retryable, and spares the process",
        budget,
    ),
    case(
        "run/environment",
        2,
        Modes,
        "the variables of an attempt are its own",
        environment,
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

/// Refuses the first call in `mode`, and returns what the attempt ends with.
fn refused(program: &Program, what: &str, code: ErrorCode, kind: &str) -> Check<RpcError> {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode(what, 1))?;
    let refusal = RpcError::new(code, "no").with_data(&ErrorData {
        code: code.name().to_owned(),
        kind: Some(kind.to_owned()),
        ..ErrorData::default()
    });
    match host.finish(&id, |_| Err(refusal.clone()))? {
        Err(error) => host.barrier().map(|()| error),
        Ok(result) => broke(format!("the attempt ended with {result}")),
    }
}

fn fails_with(error: &RpcError, kind: &str) -> Check {
    let named = error.detail().and_then(|data| data.kind);
    ensure!(named.as_deref() == Some(kind), "it failed with {error:?}");
    ensure!(!error.retryable(), "it may be tried again: {error:?}");
    Ok(())
}

fn denied(program: &Program) -> Check {
    let error = refused(program, "tools", ErrorCode::Denied, "tool_denied")?;
    fails_with(&error, "tool_denied")
}

fn conflict(program: &Program) -> Check {
    let error = refused(program, "tools", ErrorCode::CallConflict, "call_conflict")?;
    fails_with(&error, "call_conflict")
}

fn budget(program: &Program) -> Check {
    let error = refused(program, "generate", ErrorCode::Budget, "budget_exceeded")?;
    fails_with(&error, "budget_exceeded")
}

fn environment(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    for (run, value) in [("run-1", Some("one")), ("run-2", None)] {
        let mut start = with_data(
            run,
            1,
            json!({"mode": "environment", "name": "CONFORMANCE"}),
        );
        let given = value.map(|value| ("CONFORMANCE".to_owned(), value.to_owned()));
        start.environment = given.into_iter().collect();
        let id = host.begin(&start)?;
        let outcome = host.finish(&id, |_| Err(RpcError::method_not_found("any")))?;
        let (_, got) = output(&outcome)?;
        ensure!(
            got == json!(value),
            "{run} was given {value:?} and has {got}"
        );
    }
    Ok(())
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
