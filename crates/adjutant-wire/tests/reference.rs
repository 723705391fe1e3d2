//! The reference page says what the code does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may stop at the first surprise"
)]

use adjutant_wire::{
    AgentNotice, AgentRequest, Decoder, ErrorCode, Frame, HostNotice, HostRequest, Message,
    exec::ExecInput,
};

fn page() -> String {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/reference/agent-wire.md"
    );
    std::fs::read_to_string(path).unwrap()
}

fn examples(page: &str) -> Vec<&str> {
    page.split("```json\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

fn is_known(message: &Message) -> bool {
    match message {
        Message::Request(request) => {
            HostRequest::read(request.clone()).is_ok()
                || AgentRequest::read(request.clone()).is_ok()
        }
        Message::Notification(notice) => AgentNotice::read(notice.clone()).is_ok(),
        Message::Response(_) => true,
    }
}

#[test]
fn every_method_has_a_row() {
    let page = page();
    let methods = [
        AgentRequest::METHODS,
        AgentNotice::METHODS,
        HostRequest::METHODS,
        HostNotice::METHODS,
    ];
    for method in methods.concat() {
        assert!(page.contains(&format!(" | `{method}` | ")), "{method}");
    }
}

#[test]
fn every_error_code_has_a_row_with_its_advice() {
    let page = page();
    for code in ErrorCode::ALL {
        let start = format!("| {} | `{}` | ", code.code(), code.name());
        let row = page
            .lines()
            .find(|line| line.starts_with(&start))
            .unwrap_or_else(|| panic!("{start}"));
        assert!(
            row.ends_with(if code.retryable() {
                "| yes |"
            } else {
                "| no |"
            }),
            "{row}"
        );
    }
}

#[test]
fn every_example_is_a_message_of_this_wire() {
    let page = page();
    let all = examples(&page);
    let (command, messages) = all.split_first().unwrap();
    serde_json::from_str::<ExecInput>(command).unwrap();
    let mut decoder = Decoder::default();
    decoder.push(messages.concat().as_bytes());
    let frames: Vec<_> = std::iter::from_fn(|| decoder.next_frame()).collect();
    assert_eq!(frames.len(), 17);
    for frame in frames {
        assert!(
            matches!(&frame, Frame::Message(message) if is_known(message)),
            "{frame:?}"
        );
    }
}
