//! Several runs at once: level 3.

use std::collections::HashMap;

use adjutant_wire::{AgentRequest, ErrorCode, Message, RequestId, RunCancel, RunEvent};
use serde_json::{Value, json};

use super::{Case, Needs::Parallel, case};
use crate::{
    fault::{Check, broke, ensure},
    host::{Host, ends, mode_of, scope},
    journal::Journal,
    program::Program,
};

pub(super) const CASES: &[Case] = &[
    case(
        "parallel/at-once",
        3,
        Parallel,
        "as many runs are at work at once as `maxConcurrentRuns` says",
        at_once,
    ),
    case(
        "parallel/no-more",
        3,
        Parallel,
        "one run more is refused with -31005",
        no_more,
    ),
    case(
        "parallel/do-not-mix",
        3,
        Parallel,
        "runs at once keep their own keys, numbers and results",
        do_not_mix,
    ),
    case(
        "parallel/cancel-one",
        3,
        Parallel,
        "cancelling one run leaves the others at work",
        cancel_one,
    ),
    case(
        "parallel/fence-one",
        3,
        Parallel,
        "fencing one run leaves the others at work",
        fence_one,
    ),
    case(
        "parallel/fail-one",
        3,
        Parallel,
        "a failing run leaves the others at work",
        fail_one,
    ),
    case(
        "parallel/room-again",
        3,
        Parallel,
        "a run that ended makes room for another",
        room_again,
    ),
];

/// Runs whose code is at work until they are cancelled.
fn busy(program: &Program, count: u32) -> Check<(Host, Vec<RequestId>)> {
    let mut host = Host::start(program)?;
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(host.begin(&mode_of(&format!("run-{n}"), "busy", 1))?);
    }
    host.until(|host| {
        let ready = host
            .events
            .iter()
            .filter(|event: &&RunEvent| event.kind == "conformance.ready");
        ready.count() == count as usize
    })?;
    Ok((host, ids))
}

fn capacity(program: &Program) -> Check<u32> {
    // Enough to prove the rule, and no burden for a program that takes a thousand.
    Ok(Host::start(program)?.profile.max_concurrent_runs.min(8))
}

fn at_once(program: &Program) -> Check {
    let count = capacity(program)?;
    let (mut host, _) = busy(program, count)?;
    let health = host.expect(&adjutant_wire::HealthCheck {})?;
    ensure!(
        health.runs.len() == count as usize,
        "at work are {:?}",
        health.runs
    );
    Ok(())
}

fn no_more(program: &Program) -> Check {
    let count = Host::start(program)?.profile.max_concurrent_runs;
    if count > 64 {
        return Err(crate::fault::Fault::Skip(
            "it takes more than 64 runs at once".to_owned(),
        ));
    }
    let (mut host, _) = busy(program, count)?;
    match host.call(&mode_of("one-more", "echo", 1))? {
        Err(error) if error.is(ErrorCode::Overloaded) => Ok(()),
        other => broke(format!("answered with {other:?}")),
    }
}

fn do_not_mix(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let mut open = HashMap::new();
    let mut journals: HashMap<String, Journal> = HashMap::new();
    for n in 0..3 {
        let run_id = format!("run-{n}");
        open.insert(host.begin(&mode_of(&run_id, "steps", 1))?, run_id.clone());
        journals.insert(run_id, Journal::default());
    }
    while !open.is_empty() {
        match host.next()? {
            Message::Request(request) => {
                let run_id = request
                    .params
                    .get("runId")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let Some(journal) = journals.get_mut(run_id) else {
                    return broke(format!("no run {run_id:?} is open"));
                };
                let id = request.id.clone();
                let outcome = match AgentRequest::read(request) {
                    Ok(call) => journal.answer(&call),
                    Err(error) => Err(error),
                };
                host.reply(id, outcome)?;
            }
            Message::Response(response) => {
                let known = response.id.as_ref().and_then(|id| open.remove(id));
                ensure!(known.is_some(), "an answer with id {:?}", response.id);
                ends(&response.outcome, "end_turn", &json!({"sum": 3}))?;
            }
            Message::Notification(_) => {}
        }
    }
    for (run_id, journal) in journals {
        ensure!(
            journal.done == ["a", "a#2", "sum"],
            "{run_id} recorded {:?}",
            journal.done
        );
    }
    Ok(())
}

fn others_work(host: &mut Host, count: usize) -> Check {
    let health = host.expect(&adjutant_wire::HealthCheck {})?;
    ensure!(health.runs.len() == count, "at work are {:?}", health.runs);
    Ok(())
}

fn cancel(host: &mut Host, run_id: &str, id: &RequestId) -> Check {
    host.notify(&RunCancel {
        run_id: run_id.to_owned(),
        epoch: Some(scope(run_id, 1).epoch),
        ..RunCancel::default()
    })?;
    let mut journal = Journal::default();
    let outcome = host.finish(id, |request| journal.answer(request))?;
    ends(&outcome, "cancelled", &Value::Null)
}

fn cancel_one(program: &Program) -> Check {
    let (mut host, ids) = busy(program, 3)?;
    if let Some(id) = ids.get(1) {
        cancel(&mut host, "run-1", id)?;
    }
    others_work(&mut host, 2)
}

fn room_again(program: &Program) -> Check {
    let count = capacity(program)?;
    let (mut host, ids) = busy(program, count)?;
    if let Some(id) = ids.first() {
        cancel(&mut host, "run-0", id)?;
    }
    let outcome = host.drive(&mode_of("another", "echo", 1), &mut Journal::default())?;
    ends(&outcome, "end_turn", &json!("hello"))
}

fn fence_one(program: &Program) -> Check {
    let (mut host, _) = busy(program, 2)?;
    let id = host.begin(&mode_of("fenced", "steps", 1))?;
    let fenced = |_: &AgentRequest| Err(adjutant_wire::RpcError::new(ErrorCode::Fenced, "lost"));
    let outcome = host.finish(&id, fenced)?;
    ensure!(outcome.is_err(), "the attempt ended with {outcome:?}");
    others_work(&mut host, 2)
}

fn fail_one(program: &Program) -> Check {
    let (mut host, _) = busy(program, 2)?;
    let outcome = host.drive(&mode_of("failing", "crash", 1), &mut Journal::default())?;
    ensure!(outcome.is_err(), "the attempt ended with {outcome:?}");
    others_work(&mut host, 2)
}
