//! Any command as an agent.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use adjutant_process::{ByteSize, Protocol};
use serde_json::json;
use support::{Case, eventually};

fn command(script: &str) -> Case {
    let mut case = Case::shell(script);
    case.manifest.protocol = Protocol::Exec;
    case
}

#[tokio::test]
async fn the_input_is_on_stdin_and_stdout_is_the_answer() {
    let case = command("cat");
    let echoed = case.output().await;
    assert_eq!(echoed["input"]["data"], json!({ "n": 3 }));
    assert_eq!(echoed["metadata"]["cwd"], "/somewhere");
    assert_eq!(
        command("echo plain text").output().await,
        json!("plain text")
    );
    assert_eq!(command("cat >/dev/null; true").output().await, json!(null));
}

#[tokio::test]
async fn a_command_need_not_read_its_input() {
    let mut case = command("echo '[1]'");
    case.input = adjutant_core::RunInput::data(json!("x".repeat(900_000)));
    assert_eq!(case.output().await, json!([1]));
}

#[tokio::test]
async fn a_status_other_than_zero_is_a_retriable_failure_with_the_end_of_stderr() {
    let failure = command("echo first >&2; echo last >&2; exit 4")
        .failure()
        .await;
    assert_eq!(failure.kind, "exit_status");
    assert!(failure.retriable && failure.message.ends_with("last"));
    let details: serde_json::Value = failure.details.to().unwrap();
    assert_eq!(
        details,
        json!({ "reason": { "exited": 4 }, "exit_code": 4, "signal": null, "stderr": ["first", "last"] })
    );
}

#[tokio::test]
async fn status_75_means_later_and_a_signal_is_told() {
    assert_eq!(command("exit 75").failure().await.kind, "try_later");
    assert_eq!(command("kill -9 $$").failure().await.kind, "signal");
}

#[tokio::test]
async fn too_much_output_ends_the_command() {
    let mut case = command("yes");
    case.manifest.max_output_bytes = ByteSize(10_000);
    let failure = case.failure().await;
    assert_eq!(
        (failure.kind.as_str(), failure.retriable),
        ("output_too_large", false)
    );
}

#[tokio::test]
async fn stderr_is_logged() {
    let case = command("echo a >&2; echo b >&2; echo done");
    assert_eq!(case.output().await, json!("done"));
    let lines: Vec<_> = case
        .events("log")
        .into_iter()
        .map(|log| log["message"].clone())
        .collect();
    assert_eq!(lines, ["a", "b"]);
    assert_eq!(case.events("process.exited").len(), 1);
}

#[tokio::test]
async fn a_cancelled_command_gets_term_first() {
    let case =
        command("trap 'touch tidied; exit 0' TERM; touch started; while :; do sleep 0.05; done");
    let cancel = async {
        eventually("started", || case.file("started").exists()).await;
        case.cancel.send_replace(true);
    };
    let (end, ()) = tokio::join!(case.attempt(1), cancel);
    assert_eq!(end.unwrap_err().kind, "cancelled");
    assert!(case.file("tidied").exists());
}
