//! Events, heartbeats, and a host that does not keep up.

use adjutant_wire::Initialize;
use serde_json::json;

use super::{
    Case,
    Needs::{Modes, Steer},
    case,
};
use crate::{
    fault::{Check, ensure},
    host::{Host, ends, mode, offer, scope, with_data},
    journal::Journal,
    program::Program,
};

pub(super) const CASES: &[Case] = &[
    case(
        "events/in-order",
        1,
        Modes,
        "events are numbered from 1 without gap, in the order they were sent",
        in_order,
    ),
    case(
        "events/anew-each-attempt",
        1,
        Modes,
        "each attempt numbers its events from 1",
        anew,
    ),
    case(
        "events/before-the-end",
        1,
        Modes,
        "all events of a run come before its answer",
        before_the_end,
    ),
    case(
        "events/heartbeats",
        1,
        Modes,
        "a run at work is heard of at every interval that `heartbeatMs` names",
        heartbeats,
    ),
    case(
        "events/back-pressure",
        1,
        Modes,
        "a host that stops reading gets everything, in order, when it reads on",
        back_pressure,
    ),
    case(
        "steer/heard",
        3,
        Steer,
        "`run/steer` reaches the run at work",
        steer_heard,
    ),
    case(
        "steer/other-epoch",
        3,
        Steer,
        "`run/steer` with another epoch is ignored",
        steer_other_epoch,
    ),
];

fn counted(program: &Program, count: u64, pad: usize, stall: bool) -> Check<Host> {
    let mut host = Host::start(program)?;
    let data = json!({"mode": "events", "n": count, "pad": pad});
    let id = host.begin(&with_data("run-1", 1, data))?;
    if stall {
        host.pipes.stop_reading(true);
        // Long enough for any agent to fill the pipe; nothing is concluded from the time itself.
        std::thread::sleep(std::time::Duration::from_millis(300));
        host.pipes.stop_reading(false);
    }
    let mut journal = Journal::default();
    let outcome = host.finish(&id, |request| journal.answer(request))?;
    ends(&outcome, "end_turn", &json!(count))?;
    Ok(host)
}

fn in_order(program: &Program) -> Check {
    let host = counted(program, 50, 0, false)?;
    for (n, event) in (1_u64..).zip(&host.events) {
        ensure!(
            event.data["n"] == json!(n),
            "event {n} holds {}",
            event.data
        );
    }
    Ok(())
}

fn before_the_end(program: &Program) -> Check {
    let host = counted(program, 500, 10, false)?;
    ensure!(
        host.events.len() == 500,
        "{} of 500 events came",
        host.events.len()
    );
    Ok(())
}

fn anew(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    for attempt in 1..=2 {
        let data = json!({"mode": "events", "n": 3, "pad": 0});
        host.events.clear();
        host.drive(&with_data("run-1", attempt, data), &mut Journal::default())?
            .ok();
        let seqs: Vec<u64> = host.events.iter().map(|event| event.seq).collect();
        ensure!(seqs == [1, 2, 3], "attempt {attempt} has {seqs:?}");
    }
    Ok(())
}

fn heartbeats(program: &Program) -> Check {
    let fast = Initialize {
        heartbeat_ms: 30,
        ..offer()
    };
    let mut host = Host::start_with(program, &fast)?;
    host.begin(&mode("busy", 1))?;
    host.until(|host| host.heartbeats.len() >= 5)
}

fn back_pressure(program: &Program) -> Check {
    let host = counted(program, 3_000, 1_000, true)?;
    ensure!(
        host.events.len() == 3_000,
        "{} of 3000 events came",
        host.events.len()
    );
    Ok(())
}

fn steer(host: &mut Host, epoch: u64, text: &str) -> Check {
    let mut scope = scope("run-1", 1);
    scope.epoch = epoch;
    let messages = vec![adjutant_wire::RunMessage::new("user", text)];
    host.notify(&adjutant_wire::RunSteer { scope, messages })
}

fn steered(program: &Program, texts: &[(u64, &str)]) -> Check {
    let mut host = Host::start(program)?;
    let id = host.begin(&mode("steered", 1))?;
    host.until_ready("run-1")?;
    for (epoch, text) in texts {
        steer(&mut host, *epoch, text)?;
    }
    let outcome = host.finish(&id, |_| Ok(json!({})))?;
    ends(&outcome, "end_turn", &json!("to the left"))
}

fn steer_heard(program: &Program) -> Check {
    steered(program, &[(scope("run-1", 1).epoch, "to the left")])
}

fn steer_other_epoch(program: &Program) -> Check {
    let epoch = scope("run-1", 1).epoch;
    steered(
        program,
        &[(epoch - 1, "to the right"), (epoch, "to the left")],
    )
}
