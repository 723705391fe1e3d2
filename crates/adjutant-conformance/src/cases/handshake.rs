//! The first request.

use adjutant_wire::{ErrorCode, Frame, Initialize, Message, PROTOCOL_VERSION};
use serde_json::json;

use super::{Case, Needs::Nothing, case};
use crate::{
    fault::{Check, broke, ensure},
    host::{Host, offer},
    program::Program,
};

pub(super) const CASES: &[Case] = &[
    case(
        "handshake/answered",
        1,
        Nothing,
        "`initialize` is answered with a version and a name",
        answered,
    ),
    case(
        "handshake/version-not-above-offer",
        1,
        Nothing,
        "the answered version is not above the offered one",
        not_above,
    ),
    case(
        "handshake/version-of-the-future",
        1,
        Nothing,
        "a higher offer gets the highest version that the agent knows",
        future,
    ),
    case(
        "handshake/version-zero",
        1,
        Nothing,
        "a version that the agent does not speak is refused",
        version_zero,
    ),
    case(
        "handshake/unknown-fields",
        1,
        Nothing,
        "unknown fields of `initialize` are ignored",
        unknown_fields,
    ),
    case(
        "handshake/smallest-offer",
        1,
        Nothing,
        "`initialize` with only version and name is enough",
        smallest,
    ),
    case(
        "handshake/room-for-a-run",
        1,
        Nothing,
        "`maxConcurrentRuns` is at least 1",
        room,
    ),
    case(
        "handshake/text-id",
        1,
        Nothing,
        "an id of text comes back as it was",
        text_id,
    ),
    case(
        "handshake/nothing-unasked",
        1,
        Nothing,
        "before `initialize` the agent says nothing (but `hello` on a socket)",
        nothing_unasked,
    ),
];

fn answered(program: &Program) -> Check {
    let answer = Host::start(program)?.profile;
    ensure!(!answer.info.name.is_empty(), "`info.name` is empty");
    ensure!(answer.protocol_version >= 1, "version 0 is answered");
    Ok(())
}

fn not_above(program: &Program) -> Check {
    let answer = Host::start(program)?.profile;
    let version = answer.protocol_version;
    ensure!(
        version <= PROTOCOL_VERSION,
        "{version} is answered, {PROTOCOL_VERSION} was offered"
    );
    Ok(())
}

fn future(program: &Program) -> Check {
    let high = Initialize {
        protocol_version: 1_000,
        ..offer()
    };
    let version = Host::start_with(program, &high)?.profile.protocol_version;
    ensure!(
        (1..1_000).contains(&version),
        "{version} is answered, 1000 was offered"
    );
    Ok(())
}

fn version_zero(program: &Program) -> Check {
    let mut host = Host::silent(program)?;
    let none = Initialize {
        protocol_version: 0,
        ..offer()
    };
    match host.call(&none)? {
        Err(error) if error.is(ErrorCode::InvalidParams) => Ok(()),
        Err(error) => broke(format!("refused with {}, not with -32602", error.code)),
        Ok(_) => broke("version 0 is accepted"),
    }
}

fn raw(program: &Program, id: &serde_json::Value, params: &serde_json::Value) -> Check {
    let mut host = Host::silent(program)?;
    host.raw(id, "initialize", params)?;
    let response = host.response()?;
    ensure!(
        json!(response.id) == *id,
        "the answer's id is {:?}, not {id}",
        response.id
    );
    ensure!(response.outcome.is_ok(), "refused: {:?}", response.outcome);
    Ok(())
}

fn unknown_fields(program: &Program) -> Check {
    let params = json!({
        "protocolVersion": 1, "info": {"name": "host", "later": [1]}, "later": {"deep": {"er": null}},
        "capabilities": {"steps": true, "telepathy": {"range": 3}}, "limits": {"moonPhase": 2},
    });
    raw(program, &json!(1), &params)
}

fn smallest(program: &Program) -> Check {
    raw(
        program,
        &json!(1),
        &json!({"protocolVersion": 1, "info": {"name": "host"}}),
    )
}

fn room(program: &Program) -> Check {
    let runs = Host::start(program)?.profile.max_concurrent_runs;
    ensure!(runs >= 1, "`maxConcurrentRuns` is {runs}");
    Ok(())
}

fn text_id(program: &Program) -> Check {
    raw(
        program,
        &json!("first é \"quoted\""),
        &json!({"protocolVersion": 1, "info": {"name": "host"}}),
    )
}

fn nothing_unasked(program: &Program) -> Check {
    let mut host = Host::silent(program)?;
    let id = host.request(&offer())?;
    match host.frame()? {
        Frame::Message(Message::Response(response)) if response.id.as_ref() == Some(&id) => Ok(()),
        frame => broke(format!("before the answer to `initialize` came {frame:?}")),
    }
}
