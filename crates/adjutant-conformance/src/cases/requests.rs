//! Requests and notifications in general, and the health of the process.

use adjutant_wire::{ErrorCode, HealthCheck, HealthStatus, Request, Response};
use serde_json::{Value, json};

use super::{
    Case,
    Needs::{Modes, Nothing},
    case,
};
use crate::{
    fault::{Check, broke, ensure},
    host::{Host, mode},
    journal::Journal,
    program::Program,
};

pub(super) const CASES: &[Case] = &[
    case(
        "requests/unknown-method",
        1,
        Nothing,
        "an unknown request is answered with -32601",
        unknown_method,
    ),
    case(
        "requests/unknown-notification",
        1,
        Nothing,
        "an unknown notification is dropped",
        unknown_notification,
    ),
    case(
        "requests/missing-params",
        1,
        Nothing,
        "`run/start` without a scope is answered with -32602",
        |program| bad_params(program, &json!({})),
    ),
    case(
        "requests/wrong-params",
        1,
        Nothing,
        "`run/start` with an array of parameters is answered with -32602",
        |program| bad_params(program, &json!([1, 2])),
    ),
    case(
        "requests/no-params",
        1,
        Nothing,
        "`health/check` may leave its parameters out",
        no_params,
    ),
    case(
        "requests/answer-to-nothing",
        1,
        Nothing,
        "an answer that nobody waits for is dropped",
        answer_to_nothing,
    ),
    case(
        "requests/large-id",
        1,
        Nothing,
        "an id up to 2^53 - 1 comes back exactly",
        large_id,
    ),
    case(
        "requests/many-in-flight",
        1,
        Nothing,
        "200 requests in a row are all answered",
        many,
    ),
    case(
        "health/idle",
        1,
        Nothing,
        "an idle process is well and works on nothing",
        idle,
    ),
    case(
        "health/at-work",
        1,
        Modes,
        "`health/check` is answered while the agent works, and names the run",
        at_work,
    ),
    case(
        "health/after-a-run",
        1,
        Modes,
        "a run that is over is not named any more",
        after_a_run,
    ),
];

fn unknown_method(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.raw(&json!("odd"), "rpc/discover", &json!({}))?;
    match host.answer_to(&"odd".into())? {
        Err(error) if error.is(ErrorCode::MethodNotFound) => Ok(()),
        other => broke(format!("answered with {other:?}")),
    }
}

fn unknown_notification(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.write(b"{\"jsonrpc\":\"2.0\",\"method\":\"later/thing\",\"params\":{\"x\":1}}\n")?;
    host.barrier()
}

fn bad_params(program: &Program, params: &Value) -> Check {
    let mut host = Host::start(program)?;
    host.raw(&json!("bad"), "run/start", params)?;
    match host.answer_to(&"bad".into())? {
        Err(error) if error.is(ErrorCode::InvalidParams) => host.barrier(),
        other => broke(format!("answered with {other:?}")),
    }
}

fn no_params(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.raw(&json!("bare"), "health/check", &Value::Null)?;
    let outcome = host.answer_to(&"bare".into())?;
    ensure!(outcome.is_ok(), "answered with {outcome:?}");
    Ok(())
}

fn answer_to_nothing(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.send(Response::ok(987_654.into(), json!({"x": 1})))?;
    host.send(Response::ok("never asked".into(), Value::Null))?;
    host.barrier()
}

fn large_id(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let id = 9_007_199_254_740_991_i64;
    host.send(Request::call(id, &HealthCheck {})?)?;
    host.answer_to(&id.into()).map(drop)
}

fn many(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(host.request(&HealthCheck {})?);
    }
    for _ in 0..200 {
        let response = host.response()?;
        let Some(place) = ids.iter().position(|id| Some(id) == response.id.as_ref()) else {
            return broke(format!("an answer with id {:?}", response.id));
        };
        ids.swap_remove(place);
    }
    Ok(())
}

fn idle(program: &Program) -> Check {
    let health = Host::start(program)?.expect(&HealthCheck {})?;
    ensure!(
        health.status == HealthStatus::Ok,
        "its status is {:?}",
        health.status
    );
    ensure!(health.runs.is_empty(), "it names {:?}", health.runs);
    Ok(())
}

fn at_work(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.begin(&mode("busy", 1))?;
    host.until_ready("run-1")?;
    let health = host.expect(&HealthCheck {})?;
    let named = health.runs.iter().any(|run| run.run_id == "run-1");
    ensure!(named, "it names {:?}", health.runs);
    Ok(())
}

fn after_a_run(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.drive(&mode("echo", 1), &mut Journal::default())?.ok();
    let health = host.expect(&HealthCheck {})?;
    ensure!(health.runs.is_empty(), "it names {:?}", health.runs);
    Ok(())
}
