//! Durable steps and checkpoints.

use adjutant_wire::{AgentRequest, ErrorCode, RpcError, StepDecision};
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
        "steps/done-once",
        2,
        Modes,
        "steps are begun, done and ended in order, each once",
        done_once,
    ),
    case(
        "steps/keys",
        2,
        Modes,
        "a name used again is numbered `#2`",
        keys,
    ),
    case(
        "steps/replayed",
        2,
        Modes,
        "recorded steps are not done again by a later attempt",
        replayed,
    ),
    case(
        "steps/recorded-result-counts",
        2,
        Modes,
        "the recorded result is used, not a new one",
        recorded_counts,
    ),
    case(
        "steps/failed-for-good",
        2,
        Modes,
        "a step that failed for good fails again without being done",
        failed_for_good,
    ),
    case(
        "steps/fingerprint",
        2,
        Modes,
        "a step with inputs has a fingerprint that is the same in each attempt",
        fingerprint,
    ),
    case(
        "steps/conflict",
        2,
        Modes,
        "-31012 fails the run for good",
        conflict,
    ),
    case(
        "steps/waits-for-the-record",
        2,
        Modes,
        "the agent goes on only after `step/end` is answered",
        waits_for_the_record,
    ),
    case(
        "steps/refused-overload",
        2,
        Modes,
        "-31005 to `step/begin` is a failure that may be tried again",
        overload,
    ),
    case(
        "fencing/stop",
        2,
        Modes,
        "-31002 stops the attempt, which says and asks nothing more, and spares the process",
        |program| fenced(program, ErrorCode::Fenced),
    ),
    case(
        "fencing/unknown-run",
        2,
        Modes,
        "-31001 does the same",
        |program| fenced(program, ErrorCode::UnknownRun),
    ),
    case(
        "checkpoint/saved",
        2,
        Modes,
        "a checkpoint is saved under a number above all before",
        saved,
    ),
    case(
        "checkpoint/numbers-go-on",
        2,
        Modes,
        "a later attempt's checkpoint has a number above the one it was given",
        numbers_go_on,
    ),
    case(
        "checkpoint/too-large",
        2,
        Modes,
        "a checkpoint that is refused with -31011 fails the run and spares the process",
        too_large,
    ),
];

const STEPS: [&str; 3] = ["a", "a#2", "sum"];

fn steps(program: &Program, attempt: u32, journal: &mut Journal) -> Check<Host> {
    let mut host = Host::start(program)?;
    let outcome = host.drive(&mode("steps", attempt), journal)?;
    ends(&outcome, "end_turn", &json!({"sum": 3}))?;
    Ok(host)
}

fn done_once(program: &Program) -> Check {
    let mut journal = Journal::default();
    steps(program, 1, &mut journal)?;
    ensure!(journal.done == STEPS, "recorded were {:?}", journal.done);
    Ok(())
}

fn keys(program: &Program) -> Check {
    let mut journal = Journal::default();
    steps(program, 1, &mut journal)?;
    let numbered = journal.hashes.contains_key("a#2");
    ensure!(numbered, "the keys are {:?}", journal.hashes.keys());
    Ok(())
}

fn replayed(program: &Program) -> Check {
    let mut journal = Journal::default();
    steps(program, 1, &mut journal)?;
    journal.done.clear();
    steps(program, 2, &mut journal)?;
    ensure!(
        journal.done.is_empty(),
        "done again were {:?}",
        journal.done
    );
    Ok(())
}

fn recorded_counts(program: &Program) -> Check {
    let mut journal = Journal::default();
    journal
        .steps
        .insert("a".to_owned(), StepDecision::Replay { result: json!(10) });
    let outcome = Host::start(program)?.drive(&mode("steps", 2), &mut journal)?;
    ends(&outcome, "end_turn", &json!({"sum": 12}))?;
    ensure!(
        journal.done == ["a#2", "sum"],
        "recorded were {:?}",
        journal.done
    );
    Ok(())
}

fn failed_for_good(program: &Program) -> Check {
    let mut journal = Journal::default();
    journal.fail_step("a", "recorded_failure");
    let Err(error) = Host::start(program)?.drive(&mode("steps", 2), &mut journal)? else {
        return broke("the run did not fail");
    };
    let kind = error.detail().and_then(|data| data.kind);
    ensure!(
        kind.as_deref() == Some("recorded_failure") && !error.retryable(),
        "the error is {error:?}"
    );
    ensure!(journal.done.is_empty(), "done were {:?}", journal.done);
    Ok(())
}

fn fingerprint(program: &Program) -> Check {
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let mut journal = Journal::default();
        steps(program, 1, &mut journal)?;
        hashes.push(journal.hashes.remove("sum").flatten());
    }
    ensure!(
        hashes.iter().all(Option::is_some),
        "the step `sum` has no `inputHash`"
    );
    ensure!(
        hashes.first() == hashes.last(),
        "two attempts have {hashes:?}"
    );
    Ok(())
}

fn conflict(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("steps", 1))?;
    let mut journal = Journal::default();
    let outcome = host.finish(&id, |request| match request {
        AgentRequest::StepBegin(step) if step.key == "sum" => {
            Err(RpcError::new(ErrorCode::CallConflict, "another input"))
        }
        other => journal.answer(other),
    })?;
    match outcome {
        Err(error) if !error.retryable() => host.barrier(),
        other => broke(format!("the attempt ended with {other:?}")),
    }
}

fn overload(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("steps", 1))?;
    let full = |_: &AgentRequest| Err(RpcError::new(ErrorCode::Overloaded, "too much at once"));
    match host.finish(&id, full)? {
        Err(error) if error.retryable() => host.barrier(),
        other => broke(format!("the attempt ended with {other:?}")),
    }
}

fn waits_for_the_record(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("steps", 1))?;
    let (begin, first) = host.next_call()?;
    ensure!(
        matches!(first, AgentRequest::StepBegin(_)),
        "first came {first:?}"
    );
    host.reply(begin, Ok(json!({"state": "execute", "attempt": 1})))?;
    let (end, second) = host.next_call()?;
    ensure!(
        matches!(second, AgentRequest::StepEnd(_)),
        "then came {second:?}"
    );
    // Nothing else may come as long as the record is not answered.
    host.barrier()?;
    host.reply(end, Ok(json!({})))?;
    let mut journal = Journal::default();
    let outcome = host.finish(&id, |request| journal.answer(request))?;
    ends(&outcome, "end_turn", &json!({"sum": 3}))
}

fn fenced(program: &Program, code: ErrorCode) -> Check {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("steps", 1))?;
    let mut calls = 0;
    let outcome = host.finish(&id, |_| {
        calls += 1;
        Err(RpcError::new(code, "somebody else has the run"))
    })?;
    ensure!(outcome.is_err(), "the attempt ended with {outcome:?}");
    ensure!(calls == 1, "{calls} calls were made");
    ensure!(
        host.events.is_empty(),
        "{} events were sent",
        host.events.len()
    );
    let outcome = host.drive(&mode("echo", 2), &mut Journal::default())?;
    ends(&outcome, "end_turn", &json!("hello"))
}

fn saved(program: &Program) -> Check {
    let mut journal = Journal::default();
    steps(program, 1, &mut journal)?;
    ensure!(
        journal.state == Some(json!({"n": 3})),
        "saved was {:?}",
        journal.state
    );
    ensure!(
        journal.saves.first().is_some_and(|seq| *seq >= 1),
        "the numbers are {:?}",
        journal.saves
    );
    Ok(())
}

fn numbers_go_on(program: &Program) -> Check {
    let mut journal = Journal::default();
    let mut start = mode("steps", 2);
    start.checkpoint = Some(adjutant_wire::Checkpoint {
        seq: 9,
        state: json!({}),
    });
    Host::start(program)?.drive(&start, &mut journal)?.ok();
    ensure!(
        journal.saves.first().is_some_and(|seq| *seq > 9),
        "after 9 came {:?}",
        journal.saves
    );
    Ok(())
}

fn too_large(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("steps", 1))?;
    let mut journal = Journal::default();
    let outcome = host.finish(&id, |request| match request {
        AgentRequest::CheckpointSave(_) => Err(RpcError::new(ErrorCode::TooLarge, "too large")),
        other => journal.answer(other),
    })?;
    ensure!(outcome.is_err(), "the attempt ended with {outcome:?}");
    host.barrier()
}
