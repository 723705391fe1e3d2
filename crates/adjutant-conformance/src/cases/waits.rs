//! What may take days.

use adjutant_wire::{AgentRequest, Checkpoint, RpcError};
use serde_json::{Value, json};

use super::{Case, Needs::Modes, case};
use crate::{
    fault::{Check, ensure},
    host::{Host, ends, mode, with_data},
    journal::Journal,
    program::Program,
};

pub(super) const CASES: &[Case] = &[
    case(
        "waits/parked",
        2,
        Modes,
        "-31014 ends the attempt with `yield`",
        parked,
    ),
    case(
        "waits/parked-for-good",
        2,
        Modes,
        "code that swallows the park still ends with `yield`, and asks nothing more",
        swallowed,
    ),
    case(
        "waits/later-attempts",
        2,
        Modes,
        "each later attempt comes one wait further and does no step again",
        later_attempts,
    ),
    case(
        "waits/answered-at-once",
        2,
        Modes,
        "waits that are over are answered and the run goes on",
        at_once,
    ),
    case("waits/declined", 2, Modes, "a no is an answer", declined),
    case(
        "waits/nobody-answered",
        2,
        Modes,
        "`cancel` and a signal that did not come are answers",
        nobody,
    ),
    case(
        "waits/long-wait",
        2,
        Modes,
        "a wait that is not answered blocks neither health checks nor heartbeats",
        long_wait,
    ),
    case(
        "delegate/in-order",
        2,
        Modes,
        "children come back in the order they were named",
        delegated,
    ),
    case(
        "waits/input-required",
        3,
        Modes,
        "an attempt may end with questions and a state, and a later one gets the answers",
        input_required,
    ),
    case(
        "waits/wake-at",
        3,
        Modes,
        "an attempt may end with a time and a state, and a later one begins with them",
        wake_at,
    ),
];

fn input_required(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let outcome = host.drive(&mode("suspend", 1), &mut Journal::default())?;
    ends(&outcome, "input_required", &Value::Null)?;
    let result = outcome.unwrap_or_default();
    let message = &result["inputRequests"]["ship"]["message"];
    ensure!(message == "May I?", "it asks {}", result["inputRequests"]);
    let mut next = mode("suspend", 2);
    next.checkpoint = Some(state_of(&result));
    let answers = json!({"ship": {"action": "accept", "by": "ann"}});
    next.resume = answers.as_object().cloned();
    let outcome = host.drive(&next, &mut Journal::default())?;
    let expected = json!({"action": "accept", "state": {"n": 1}});
    ends(&outcome, "end_turn", &expected)
}

fn wake_at(program: &Program) -> Check {
    const WHEN: &str = "2030-01-01T00:00:00Z";
    let mut host = Host::start(program)?;
    let first = with_data("run-1", 1, json!({"mode": "suspend", "wakeAt": WHEN}));
    let outcome = host.drive(&first, &mut Journal::default())?;
    ends(&outcome, "yield", &Value::Null)?;
    let result = outcome.unwrap_or_default();
    ensure!(result["wakeAt"] == WHEN, "it wakes at {}", result["wakeAt"]);
    let mut next = mode("suspend", 2);
    next.checkpoint = Some(state_of(&result));
    let outcome = host.drive(&next, &mut Journal::default())?;
    ends(&outcome, "end_turn", &json!({"state": {"n": 1}}))
}

/// The state that an attempt ended with, as the next one gets it.
fn state_of(result: &Value) -> Checkpoint {
    Checkpoint {
        seq: 1,
        state: result["state"].clone(),
    }
}

fn go(program: &Program, answers: &[(&str, Value)], expected: &Value) -> Check {
    let mut journal = Journal::with(answers);
    let outcome = Host::start(program)?.drive(&mode("waits", 1), &mut journal)?;
    ends(&outcome, "end_turn", expected)
}

fn parked(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let outcome = host.drive(&mode("waits", 1), &mut Journal::default())?;
    ends(&outcome, "yield", &Value::Null)?;
    host.barrier()
}

fn swallowed(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("swallow", 1))?;
    let mut calls = 0;
    let outcome = host.finish(&id, |_| {
        calls += 1;
        Err(RpcError::park("not yet"))
    })?;
    ends(&outcome, "yield", &Value::Null)?;
    ensure!(calls == 1, "{calls} calls were made");
    Ok(())
}

fn later_attempts(program: &Program) -> Check {
    let mut journal = Journal::default();
    let answers = [
        ("nap", json!({})),
        ("go", json!({"payload": {"now": true}})),
        ("ship", json!({"action": "accept", "by": "ann"})),
    ];
    for (attempt, (key, answer)) in (1..).zip(answers) {
        let outcome = Host::start(program)?.drive(&mode("waits", attempt), &mut journal)?;
        ends(&outcome, "yield", &Value::Null)?;
        journal.answers.insert(key.to_owned(), answer);
    }
    let outcome = Host::start(program)?.drive(&mode("waits", 4), &mut journal)?;
    ends(
        &outcome,
        "end_turn",
        &json!({"signal": {"now": true}, "approved": true}),
    )?;
    ensure!(
        journal.done == ["before"],
        "recorded were {:?}",
        journal.done
    );
    Ok(())
}

fn at_once(program: &Program) -> Check {
    let answers = [
        ("nap", json!({})),
        ("go", json!({"payload": 7})),
        ("ship", json!({"action": "accept"})),
    ];
    go(program, &answers, &json!({"signal": 7, "approved": true}))
}

fn declined(program: &Program) -> Check {
    let answers = [
        ("nap", json!({})),
        ("go", json!({"payload": null})),
        ("ship", json!({"action": "decline", "comment": "no"})),
    ];
    go(
        program,
        &answers,
        &json!({"signal": null, "approved": false}),
    )
}

fn nobody(program: &Program) -> Check {
    let answers = [
        ("nap", json!({})),
        ("go", Value::Null),
        ("ship", json!({"action": "cancel"})),
    ];
    go(
        program,
        &answers,
        &json!({"signal": null, "approved": false}),
    )
}

fn long_wait(program: &Program) -> Check {
    let fast = adjutant_wire::Initialize {
        heartbeat_ms: 30,
        ..crate::host::offer()
    };
    let mut host = Host::start_with(program, &fast)?;
    host.begin(&mode("waits", 1))?;
    let mut journal = Journal::default();
    loop {
        let (id, call) = host.next_call()?;
        if matches!(call, AgentRequest::Sleep(_)) {
            break;
        }
        let outcome = journal.answer(&call);
        host.reply(id, outcome)?;
    }
    let before = host.heartbeats.len();
    host.until(|host| host.heartbeats.len() >= before + 3)?;
    host.barrier()
}

fn delegated(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("delegate", 1))?;
    let mut seen = None;
    let outcome = host.finish(&id, |request| {
        if let AgentRequest::Delegate(call) = request {
            seen = Some((call.key.clone(), call.children.len()));
        }
        Ok(json!({"results": [
            {"runId": "c-1", "status": "succeeded", "output": {"text": "done"}},
            {"runId": "c-2", "status": "failed", "error": {"type": "E", "message": "m", "retriable": false}},
        ]}))
    })?;
    ensure!(
        seen == Some(("team".to_owned(), 2)),
        "delegated was {seen:?}"
    );
    ends(&outcome, "end_turn", &json!(["c-1", "c-2"]))
}
