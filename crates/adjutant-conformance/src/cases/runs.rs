//! An attempt from start to end.

use adjutant_wire::{AgentFailure, Checkpoint, ErrorCode, StopReason};
use serde_json::{Value, json};

use super::{
    Case,
    Needs::{Alone, Modes, Nothing},
    case,
};
use crate::{
    fault::{Check, Fault, broke, ensure},
    host::{Host, ends, mode, mode_of, output, with_data},
    journal::Journal,
    program::Program,
};

pub(super) const CASES: &[Case] = &[
    case(
        "run/ends",
        1,
        Nothing,
        "`run/start` is answered with a known stop reason, or with an error that has a code",
        run_ends,
    ),
    case(
        "run/output",
        1,
        Modes,
        "what the agent returns is the output",
        run_output,
    ),
    case(
        "run/input",
        1,
        Modes,
        "messages, data, params and state reach the agent",
        run_input,
    ),
    case(
        "run/unknown-fields",
        1,
        Modes,
        "unknown fields of `run/start` are ignored",
        unknown_fields,
    ),
    case(
        "run/several-in-turn",
        1,
        Modes,
        "a process takes one run after the other",
        in_turn,
    ),
    case(
        "run/next-at-once",
        1,
        Modes,
        "the next run may begin as soon as the last is answered",
        next_at_once,
    ),
    case(
        "run/failure",
        1,
        Modes,
        "a failure is -31000 with type, retryable and details, and spares the process",
        failure,
    ),
    case(
        "run/crash",
        1,
        Modes,
        "an unexpected failure of the code is a retryable -31000 and spares the process",
        crash,
    ),
    case(
        "run/same-run-twice",
        1,
        Modes,
        "a second attempt while the first is open is refused with -31005",
        same_run_twice,
    ),
    case(
        "run/one-at-a-time",
        1,
        Alone,
        "a run over `maxConcurrentRuns` is refused with -31005, retryable",
        one_at_a_time,
    ),
    case(
        "run/scope-is-echoed",
        1,
        Modes,
        "all that is said of a run carries its id, attempt and epoch",
        scope_is_echoed,
    ),
];

fn run_ends(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let mut start = with_data("run-1", 1, json!({"mode": "echo"}));
    let names: Vec<String> = host
        .profile
        .agents
        .iter()
        .map(|agent| agent.name.clone())
        .collect();
    if let Some(name) = names.first().filter(|_| !names.contains(&start.agent)) {
        start.agent = name.clone();
    }
    match host.drive(&start, &mut Journal::generous())? {
        Ok(result) => {
            let read: Result<StopReason, _> =
                serde_json::from_value(result.get("stopReason").cloned().unwrap_or_default());
            ensure!(
                read.is_ok(),
                "the stop reason is {:?}",
                result.get("stopReason")
            );
            Ok(())
        }
        Err(error) => {
            ensure!(error.kind().is_some(), "the error's code is {}", error.code);
            Ok(())
        }
    }
}

fn run_output(program: &Program) -> Check {
    let outcome = Host::start(program)?.drive(&mode("echo", 1), &mut Journal::default())?;
    ends(&outcome, "end_turn", &json!("hello"))
}

fn run_input(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let mut start = mode("state", 2);
    let outcome = host.drive(&start, &mut Journal::default())?;
    ends(
        &outcome,
        "end_turn",
        &json!({"state": null, "params": {"p": 1}}),
    )?;
    start.checkpoint = Some(Checkpoint {
        seq: 4,
        state: json!([1, {"two": 2}]),
    });
    start.params = json!({"q": "é"});
    let outcome = host.drive(&start, &mut Journal::default())?;
    ends(
        &outcome,
        "end_turn",
        &json!({"state": [1, {"two": 2}], "params": {"q": "é"}}),
    )
}

fn unknown_fields(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let mut params =
        serde_json::to_value(mode("echo", 1)).map_err(|error| Fault::Broke(error.to_string()))?;
    params["later"] = json!({"deep": [1]});
    params["input"]["later"] = json!(true);
    params["_meta"] = json!({"traceparent": "00-1-2-01", "com.example/x": 1});
    host.raw(&json!("later"), "run/start", &params)?;
    let outcome = host.answer_to(&"later".into())?;
    ends(&outcome, "end_turn", &json!("hello"))
}

fn in_turn(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    for n in 0..5 {
        let start = mode_of(&format!("run-{n}"), "echo", 1);
        let outcome = host.drive(&start, &mut Journal::default())?;
        ends(&outcome, "end_turn", &json!("hello"))?;
    }
    Ok(())
}

fn next_at_once(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    for attempt in 1..=50 {
        let outcome = host.drive(&mode("echo", attempt), &mut Journal::default())?;
        ends(&outcome, "end_turn", &json!("hello"))?;
    }
    Ok(())
}

fn failure(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let Err(error) = host.drive(&mode("fail", 1), &mut Journal::default())? else {
        return broke("the run did not fail");
    };
    ensure!(
        error.is(ErrorCode::AgentFailed),
        "the code is {}",
        error.code
    );
    let failure = AgentFailure::from(error);
    ensure!(
        failure.kind == "conformance_failure",
        "the type is {:?}",
        failure.kind
    );
    ensure!(!failure.retriable, "it is retryable");
    ensure!(
        failure.details.as_deref() == Some(&json!({"a": 1})),
        "the details are {:?}",
        failure.details
    );
    host.barrier()
}

fn crash(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let Err(error) = host.drive(&mode("crash", 1), &mut Journal::default())? else {
        return broke("the run did not fail");
    };
    ensure!(
        error.is(ErrorCode::AgentFailed) && error.retryable(),
        "the error is {error:?}"
    );
    let outcome = host.drive(&mode("echo", 2), &mut Journal::default())?;
    ends(&outcome, "end_turn", &json!("hello"))
}

fn refused(host: &mut Host, start: &adjutant_wire::RunStart) -> Check {
    match host.call(start)? {
        Err(error) if error.is(ErrorCode::Overloaded) && error.retryable() => Ok(()),
        other => broke(format!("answered with {other:?}")),
    }
}

fn same_run_twice(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.begin(&mode("busy", 1))?;
    host.until_ready("run-1")?;
    refused(&mut host, &mode("echo", 2))
}

fn one_at_a_time(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.begin(&mode("busy", 1))?;
    host.until_ready("run-1")?;
    refused(&mut host, &mode_of("run-2", "echo", 1))
}

fn scope_is_echoed(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let mut start = mode("steps", 7);
    // The largest number that every language can hold.
    start.scope.epoch = 9_007_199_254_740_991;
    let outcome = host.drive(&start, &mut Journal::default())?;
    let (reason, value) = output(&outcome)?;
    ensure!(
        reason == "end_turn" && value != Value::Null,
        "it ended with {reason}: {value}"
    );
    ensure!(!host.events.is_empty(), "no event was sent");
    Ok(())
}
