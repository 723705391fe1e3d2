//! What the host accepts.

use std::collections::VecDeque;

use adjutant_wire::{ErrorCode, HealthCheck, Limits, Message};
use serde_json::json;

use super::{Case, Needs::Modes, case};
use crate::{
    fault::{Check, broke, ensure},
    host::{Host, ends, limited, mode, with_data},
    journal::Journal,
    program::Program,
};

pub(super) const CASES: &[Case] = &[
    case(
        "limits/line-of-an-answer",
        1,
        Modes,
        "an output over `maxLineBytes` becomes -31011, and no longer line is sent",
        answer_line,
    ),
    case(
        "limits/line-of-an-event",
        1,
        Modes,
        "an event over `maxLineBytes` is not sent and fails in the agent",
        event_line,
    ),
    case(
        "limits/line-that-just-fits",
        1,
        Modes,
        "what fits `maxLineBytes` is sent",
        just_fits,
    ),
    case(
        "limits/calls-in-flight",
        2,
        Modes,
        "no more calls are open than `maxInflightCalls`, and all are made in the end",
        in_flight,
    ),
];

const LINE: usize = 4_000;

fn small() -> adjutant_wire::Initialize {
    limited(Limits {
        max_line_bytes: LINE,
        ..Limits::default()
    })
}

fn answer_line(program: &Program) -> Check {
    let mut host = Host::start_with(program, &small())?;
    let data = json!({"mode": "large", "n": LINE + 500});
    match host.drive(&with_data("run-1", 1, data), &mut Journal::default())? {
        Err(error) if error.is(ErrorCode::TooLarge) => {}
        other => return broke(format!("the attempt ended with {other:?}")),
    }
    let outcome = host.drive(&mode("echo", 2), &mut Journal::default())?;
    ends(&outcome, "end_turn", &json!("hello"))
}

fn event_line(program: &Program) -> Check {
    let mut host = Host::start_with(program, &small())?;
    let data = json!({"mode": "events", "n": 1, "pad": LINE});
    let outcome = host.drive(&with_data("run-1", 1, data), &mut Journal::default())?;
    ensure!(outcome.is_err(), "the attempt ended with {outcome:?}");
    ensure!(host.events.is_empty(), "the event came all the same");
    host.barrier()
}

fn just_fits(program: &Program) -> Check {
    let mut host = Host::start_with(program, &small())?;
    let data = json!({"mode": "large", "n": LINE - 500});
    let outcome = host.drive(&with_data("run-1", 1, data), &mut Journal::default())?;
    ends(&outcome, "end_turn", &json!("x".repeat(LINE - 500)))
}

fn in_flight(program: &Program) -> Check {
    let two = limited(Limits {
        max_inflight_calls: 2,
        ..Limits::default()
    });
    let mut host = Host::start_with(program, &two)?;
    let id = host.begin(&with_data("run-1", 1, json!({"mode": "fan", "n": 6})))?;
    let (mut open, mut seen) = (VecDeque::new(), 0);
    loop {
        // A barrier before each answer lets everything come that would come.
        let barrier = host.request(&HealthCheck {})?;
        let mut passed = false;
        while !passed {
            match host.next()? {
                Message::Request(request) => {
                    seen += 1;
                    open.push_back(request.id);
                }
                Message::Response(response) if response.id.as_ref() == Some(&id) => {
                    return end_of_fan(&crate::host::output(&response.outcome), seen);
                }
                Message::Response(response) => passed = response.id.as_ref() == Some(&barrier),
                Message::Notification(_) => {}
            }
        }
        ensure!(open.len() <= 2, "{} calls are open", open.len());
        if let Some(call) = open.pop_front() {
            host.reply(call, Ok(json!({})))?;
        }
    }
}

fn end_of_fan(output: &Check<(String, serde_json::Value)>, seen: u32) -> Check {
    match output {
        Ok((reason, value)) if reason == "end_turn" => {
            ensure!(
                seen == 6 && *value == json!(6),
                "{seen} calls were made, {value} came back"
            );
            Ok(())
        }
        _ if seen == 0 => Err(crate::fault::Fault::Skip(
            "the agent does not have this mode".to_owned(),
        )),
        other => broke(format!("the attempt ended with {other:?}")),
    }
}
