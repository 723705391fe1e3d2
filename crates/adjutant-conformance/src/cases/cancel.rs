//! Stopping a run.

use adjutant_wire::{AgentRequest, CancelRequest, ErrorCode, RequestId, RunCancel};
use serde_json::{Value, json};

use super::{
    Case,
    Needs::{Modes, Nothing},
    case,
};
use crate::{
    fault::{Check, broke, ensure},
    host::{Host, ends, mode, scope},
    journal::Journal,
    program::Program,
};

pub(super) const CASES: &[Case] = &[
    case(
        "cancel/at-work",
        1,
        Modes,
        "`run/cancel` ends the run with `cancelled`",
        at_work,
    ),
    case(
        "cancel/saves-before",
        2,
        Modes,
        "a cancelled run may still save a checkpoint",
        saves_before,
    ),
    case(
        "cancel/another-run",
        1,
        Modes,
        "`run/cancel` of another run changes nothing",
        another_run,
    ),
    case(
        "cancel/another-epoch",
        1,
        Modes,
        "`run/cancel` with another epoch changes nothing",
        another_epoch,
    ),
    case(
        "cancel/no-run",
        1,
        Nothing,
        "`run/cancel` of a run that is not there is dropped",
        no_run,
    ),
    case(
        "cancel/ends-a-wait",
        2,
        Modes,
        "cancelling ends a wait at once, and the host is told with `$/cancel_request`",
        ends_a_wait,
    ),
    case(
        "cancel/answers-cross",
        2,
        Modes,
        "an answer that crosses with the cancel is dropped",
        answers_cross,
    ),
    case(
        "cancel/run-start-given-up",
        1,
        Modes,
        "`$/cancel_request` for `run/start` ends it with -32800",
        given_up,
    ),
    case(
        "cancel/unknown-request",
        1,
        Nothing,
        "`$/cancel_request` for an unknown id is dropped",
        unknown_request,
    ),
    case(
        "cancel/before-a-wait",
        2,
        Modes,
        "a run that is cancelled before it waits does not wait",
        before_a_wait,
    ),
];

fn cancel() -> RunCancel {
    RunCancel {
        run_id: "run-1".to_owned(),
        epoch: Some(scope("run-1", 1).epoch),
        reason: "conformance".to_owned(),
        grace_ms: 5_000,
    }
}

fn busy(program: &Program) -> Check<(Host, RequestId)> {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("busy", 1))?;
    host.until_ready("run-1")?;
    Ok((host, id))
}

fn at_work(program: &Program) -> Check {
    let (mut host, id) = busy(program)?;
    host.notify(&cancel())?;
    let mut journal = Journal::default();
    let outcome = host.finish(&id, |request| journal.answer(request))?;
    ends(&outcome, "cancelled", &Value::Null)
}

fn saves_before(program: &Program) -> Check {
    let (mut host, id) = busy(program)?;
    host.notify(&cancel())?;
    let mut journal = Journal::default();
    host.finish(&id, |request| journal.answer(request))?.ok();
    ensure!(
        journal.state == Some(json!("tidied up")),
        "saved was {:?}",
        journal.state
    );
    Ok(())
}

fn untouched(program: &Program, other: &RunCancel) -> Check {
    let (mut host, id) = busy(program)?;
    host.notify(other)?;
    // The run is at work after that: it answers and has not ended.
    host.barrier()?;
    let health = host.expect(&adjutant_wire::HealthCheck {})?;
    ensure!(health.runs.len() == 1, "at work are {:?}", health.runs);
    host.notify(&cancel())?;
    let mut journal = Journal::default();
    let outcome = host.finish(&id, |request| journal.answer(request))?;
    ends(&outcome, "cancelled", &Value::Null)
}

fn another_run(program: &Program) -> Check {
    untouched(
        program,
        &RunCancel {
            run_id: "run-11".to_owned(),
            ..RunCancel::default()
        },
    )
}

fn another_epoch(program: &Program) -> Check {
    untouched(
        program,
        &RunCancel {
            epoch: Some(1),
            ..cancel()
        },
    )
}

fn no_run(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.notify(&cancel())?;
    host.barrier()
}

/// A run whose sleep is open, and the sleep's id.
fn asleep(program: &Program) -> Check<(Host, RequestId, RequestId)> {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("waits", 1))?;
    let mut journal = Journal::default();
    loop {
        match host.next_call()? {
            (sleep, AgentRequest::Sleep(_)) => return Ok((host, id, sleep)),
            (call, other) => {
                let outcome = journal.answer(&other);
                host.reply(call, outcome)?;
            }
        }
    }
}

fn ends_a_wait(program: &Program) -> Check {
    let (mut host, id, sleep) = asleep(program)?;
    host.notify(&cancel())?;
    let outcome = host.answer_to(&id)?;
    ends(&outcome, "cancelled", &Value::Null)?;
    let told = host
        .given_up
        .iter()
        .any(|cancel| cancel.request_id == sleep);
    ensure!(told, "given up were {:?}, not {sleep}", host.given_up);
    Ok(())
}

fn answers_cross(program: &Program) -> Check {
    let (mut host, id, sleep) = asleep(program)?;
    host.notify(&cancel())?;
    host.reply(sleep, Ok(json!({})))?;
    let mut journal = Journal::default();
    let outcome = host.finish(&id, |request| journal.answer(request))?;
    let (reason, _) = crate::host::output(&outcome)?;
    // Either came first; both are fine, and neither may break anything.
    ensure!(
        reason == "cancelled" || reason == "yield",
        "it ended with `{reason}`"
    );
    let outcome = host.drive(&mode("echo", 2), &mut Journal::default())?;
    ends(&outcome, "end_turn", &json!("hello"))
}

fn given_up(program: &Program) -> Check {
    let (mut host, id) = busy(program)?;
    host.notify(&CancelRequest {
        request_id: id.clone(),
    })?;
    let mut journal = Journal::default();
    match host.finish(&id, |request| journal.answer(request))? {
        Err(error) if error.is(ErrorCode::Cancelled) => Ok(()),
        other => broke(format!("the attempt ended with {other:?}")),
    }
}

fn unknown_request(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.notify(&CancelRequest {
        request_id: 4_242.into(),
    })?;
    host.notify(&CancelRequest {
        request_id: "no such".into(),
    })?;
    host.barrier()
}

fn before_a_wait(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("waits", 1))?;
    // The step before the wait is open; the cancel comes first.
    let (call, _) = host.next_call()?;
    host.notify(&cancel())?;
    host.barrier()?;
    host.reply(call, Ok(json!({"state": "replay", "result": null})))?;
    let mut slept = false;
    let outcome = host.finish(&id, |request| {
        slept |= matches!(request, AgentRequest::Sleep(_));
        Ok(json!({}))
    })?;
    ends(&outcome, "cancelled", &Value::Null)?;
    ensure!(!slept, "it went to sleep all the same");
    Ok(())
}
