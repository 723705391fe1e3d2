//! Death between any two messages.

use serde_json::{Value, json};

use super::{Case, Needs::Modes, case};
use crate::{
    fault::{Check, Fault, broke, ensure},
    host::{Host, ends, mode},
    journal::Journal,
    program::Program,
};

pub(super) const CASES: &[Case] = &[
    case(
        "crash/at-every-message-of-steps",
        2,
        Modes,
        "killed at any message, a later attempt ends the run; nothing recorded is done again",
        steps,
    ),
    case(
        "crash/at-every-message-of-waits",
        2,
        Modes,
        "the same for a run that waits",
        waits,
    ),
    case(
        "crash/at-every-message-of-calls",
        2,
        Modes,
        "the same for a run that calls tools: later attempts make the same calls",
        calls,
    ),
    case(
        "crash/before-the-first-message",
        1,
        super::Needs::Nothing,
        "killed before `initialize`, the program starts again as before",
        first,
    ),
];

/// More messages than any of these runs has.
const LIMIT: u32 = 60;

/// Kills the process at one message after the other until a run comes through unharmed; each time a second attempt has
/// to end as `expected`.
fn at_every_message(
    program: &Program,
    name: &str,
    journal: fn() -> Journal,
    expected: &Value,
    check: fn(&Journal) -> Check,
) -> Check {
    for kill_at in 1..LIMIT {
        let mut memory = journal();
        let mut host = Host::start(program)?;
        host.kill_at = Some(kill_at);
        let unharmed = match host.drive(&mode(name, 1), &mut memory) {
            Err(Fault::Killed) => false,
            Ok(outcome) => {
                ends(&outcome, "end_turn", expected)?;
                true
            }
            Err(other) => return Err(other),
        };
        drop(host);
        if !unharmed {
            let outcome = Host::start(program)?.drive(&mode(name, 2), &mut memory)?;
            ends(&outcome, "end_turn", expected).map_err(|fault| at(kill_at, fault))?;
        }
        check(&memory).map_err(|fault| at(kill_at, fault))?;
        if unharmed {
            return Ok(());
        }
    }
    broke(format!("the run has more than {LIMIT} messages"))
}

fn at(message: u32, fault: Fault) -> Fault {
    match fault {
        Fault::Broke(why) => Fault::Broke(format!("killed at message {message}: {why}")),
        other => other,
    }
}

fn steps(program: &Program) -> Check {
    at_every_message(
        program,
        "steps",
        Journal::default,
        &json!({"sum": 3}),
        |journal| {
            ensure!(
                journal.done == ["a", "a#2", "sum"],
                "recorded were {:?}",
                journal.done
            );
            Ok(())
        },
    )
}

fn waits(program: &Program) -> Check {
    let journal = || {
        Journal::with(&[
            ("nap", json!({})),
            ("go", json!({"payload": 1})),
            ("ship", json!({"action": "accept"})),
        ])
    };
    at_every_message(
        program,
        "waits",
        journal,
        &json!({"signal": 1, "approved": true}),
        |journal| {
            ensure!(
                journal.done == ["before"],
                "recorded were {:?}",
                journal.done
            );
            Ok(())
        },
    )
}

fn calls(program: &Program) -> Check {
    let journal = || {
        Journal::with(&[
            (
                "search",
                json!({"content": [{"type": "text", "text": "one"}]}),
            ),
            (
                "search#2",
                json!({"content": [{"type": "text", "text": "two"}]}),
            ),
        ])
    };
    at_every_message(
        program,
        "tools",
        journal,
        &json!(["one", "two"]),
        |journal| {
            let mut ids = journal.calls.clone();
            ids.sort_unstable();
            ids.dedup();
            ensure!(
                ids == ["search", "search#2"],
                "the calls were {:?}",
                journal.calls
            );
            Ok(())
        },
    )
}

fn first(program: &Program) -> Check {
    drop(Host::silent(program)?);
    Host::start(program)?.barrier()
}
