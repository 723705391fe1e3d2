//! Lines.

use adjutant_wire::{DEFAULT_MAX_LINE_BYTES, ErrorCode, HealthCheck, MAX_GARBAGE_LINES, Request};
use serde_json::{Value, json};

use super::{
    Case,
    Needs::{Modes, Nothing},
    case,
};
use crate::{
    fault::{Check, Fault, ensure},
    host::{Host, ends, mode},
    journal::Journal,
    pipes::line,
    program::{Program, Transport},
};

pub(super) const CASES: &[Case] = &[
    case(
        "framing/blank-lines",
        1,
        Nothing,
        "blank lines are ignored",
        |program| survives(program, b"\n\n  \n\r\n"),
    ),
    case(
        "framing/garbage",
        1,
        Nothing,
        "a line that is no JSON is dropped",
        |program| survives(program, b"Traceback (most recent call last):\n"),
    ),
    case(
        "framing/broken-json",
        1,
        Nothing,
        "half a message is dropped",
        |program| survives(program, b"{\"jsonrpc\": \"2.0\", \"id\": 9\n"),
    ),
    case(
        "framing/no-jsonrpc",
        1,
        Nothing,
        "an object without `jsonrpc` is dropped",
        |program| survives(program, b"{\"id\": 9, \"method\": \"health/check\"}\n"),
    ),
    case(
        "framing/batch",
        1,
        Nothing,
        "there are no batches: an array is dropped",
        |program| {
            survives(
                program,
                b"[{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"health/check\"}]\n",
            )
        },
    ),
    case(
        "framing/plain-values",
        1,
        Nothing,
        "numbers, texts and null are dropped",
        |program| survives(program, b"42\n\"jsonrpc\"\nnull\ntrue\n"),
    ),
    case(
        "framing/deep-json",
        1,
        Nothing,
        "a line nested a thousand levels deep is survived",
        |program| survives(program, format!("{}\n", "[".repeat(1_000)).as_bytes()),
    ),
    case(
        "framing/broken-utf8",
        1,
        Nothing,
        "bytes that are no UTF-8 are survived",
        broken_utf8,
    ),
    case(
        "framing/garbage-in-a-row",
        1,
        Nothing,
        "99 lines of garbage are survived, and a message begins the count anew",
        garbage_in_a_row,
    ),
    case(
        "framing/not-a-message",
        1,
        Nothing,
        "an object with `jsonrpc` that is no message is answered with -32600",
        not_a_message,
    ),
    case(
        "framing/single-bytes",
        1,
        Nothing,
        "a line may arrive byte by byte",
        single_bytes,
    ),
    case(
        "framing/several-at-once",
        1,
        Nothing,
        "several lines may arrive at once",
        several_at_once,
    ),
    case(
        "framing/carriage-return",
        1,
        Nothing,
        "a carriage return before the newline is white space",
        carriage_return,
    ),
    case(
        "framing/long-line",
        1,
        Nothing,
        "a line of 1 MiB is read",
        long_line,
    ),
    case(
        "framing/over-the-limit",
        1,
        Nothing,
        "a line over 16 MiB is answered with -31011 and a null id, and skipped",
        over_the_limit,
    ),
    case(
        "framing/every-character",
        1,
        Modes,
        "text comes through whole: controls, quotes, line separators, emoji",
        every_character,
    ),
    case(
        "framing/stray-prints",
        1,
        Modes,
        "what the agent's code prints does not come between the messages",
        stray_prints,
    ),
];

fn survives(program: &Program, bytes: &[u8]) -> Check {
    let mut host = Host::start(program)?;
    host.write(bytes)?;
    host.barrier()
}

fn lines_only(program: &Program) -> Check {
    if program.transport == Transport::WebSocket {
        return Err(Fault::Skip(
            "a WebSocket has messages and no lines".to_owned(),
        ));
    }
    Ok(())
}

fn broken_utf8(program: &Program) -> Check {
    lines_only(program)?;
    survives(
        program,
        b"\xff\xfe\xc3\x28\n{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}\n",
    )
}

fn garbage_in_a_row(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    for _ in 0..3 {
        let junk = "junk\n".repeat(MAX_GARBAGE_LINES as usize - 1);
        host.write(junk.as_bytes())?;
        host.barrier()?;
    }
    Ok(())
}

fn not_a_message(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.write(b"{\"jsonrpc\":\"2.0\",\"id\":77}\n")?;
    let response = host.response()?;
    let refused = matches!(&response.outcome, Err(error) if error.is(ErrorCode::InvalidRequest));
    ensure!(refused, "answered with {:?}", response.outcome);
    host.barrier()
}

fn single_bytes(program: &Program) -> Check {
    lines_only(program)?;
    let mut host = Host::start(program)?;
    for byte in line(Request::call("bytes", &HealthCheck {})?) {
        host.write(&[byte])?;
    }
    host.answer_to(&"bytes".into()).map(drop)
}

fn several_at_once(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let ids: Vec<String> = (0..20).map(|n| format!("h{n}")).collect();
    let mut bytes = Vec::new();
    for id in &ids {
        bytes.extend(line(Request::call(id.as_str(), &HealthCheck {})?));
    }
    host.write(&bytes)?;
    let mut answered = Vec::new();
    for _ in &ids {
        answered.push(host.response()?.id);
    }
    let all = ids
        .iter()
        .all(|id| answered.contains(&Some(id.as_str().into())));
    ensure!(all, "answers came for {answered:?}");
    Ok(())
}

fn carriage_return(program: &Program) -> Check {
    lines_only(program)?;
    let mut host = Host::start(program)?;
    host.write(
        b"{\"jsonrpc\":\"2.0\",\"id\":\"cr\",\"method\":\"health/check\",\"params\":{}}\r\n",
    )?;
    host.answer_to(&"cr".into()).map(drop)
}

fn long_line(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    host.raw(
        &json!("long"),
        "health/check",
        &json!({"pad": "x".repeat(1 << 20)}),
    )?;
    host.answer_to(&"long".into()).map(drop)
}

fn over_the_limit(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let pad = "x".repeat(DEFAULT_MAX_LINE_BYTES + 100);
    host.raw(&json!("huge"), "health/check", &json!({ "pad": pad }))?;
    let response = host.response()?;
    let told = matches!(&response.outcome, Err(error) if error.is(ErrorCode::TooLarge));
    ensure!(response.id.is_none() && told, "answered with {response:?}");
    host.barrier()
}

fn every_character(program: &Program) -> Check {
    let text = "tab\t quote\" back\\slash / nul\u{0} line\nbreak\r ls\u{2028} ps\u{2029} é 漢 🦀 \u{10FFFF}";
    let mut start = mode("echo", 1);
    if let Some(message) = start.input.messages.first_mut() {
        message.content = adjutant_wire::Content::Text(text.to_owned());
    }
    let outcome = Host::start(program)?.drive(&start, &mut Journal::default())?;
    ends(&outcome, "end_turn", &json!(text))
}

fn stray_prints(program: &Program) -> Check {
    let mut host = Host::start(program)?;
    let outcome = host.drive(&mode("print", 1), &mut Journal::default())?;
    ends(&outcome, "end_turn", &Value::Null)?;
    host.barrier()
}
