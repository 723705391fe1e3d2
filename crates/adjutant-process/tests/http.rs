//! Agents that serve HTTP.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::time::Duration;

use adjutant_process::{ByteSize, Protocol};
use serde_json::{Value, json};
use support::{Case, eventually, is_alive};

/// A server in Python. `code` is the body of `answer(request, input)`, which has `json` and `stream` to answer with;
/// `ping` that of `ping(request)`.
fn server(ping: &str, code: &str) -> Case {
    let indent = |code: &str| {
        let lines = code.lines().map(|line| format!("    {line}\n"));
        lines.collect::<String>()
    };
    let text = format!(
        r#"
import http.server, json as j, os, sys, time
def json(request, value, status=200, **headers): send(request, j.dumps(value), "application/json; charset=utf-8", status, **headers)
def send(request, text, kind, status=200, **headers):
    request.send_response(status)
    request.send_header("Content-Type", kind)
    for name, value in headers.items(): request.send_header(name.replace("_", "-"), value)
    request.send_header("Content-Length", str(len(text)))
    request.end_headers()
    request.wfile.write(text.encode())
def stream(request, *events):
    request.send_response(200)
    request.send_header("Content-Type", "text/event-stream")
    request.end_headers()
    for event in events:
        request.wfile.write(event.encode())
        request.wfile.flush()
def ping(request):
{}
def answer(request, input):
{}
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        if self.path == "/ping": ping(self)
        else: self.send_error(404)
    def do_POST(self):
        if self.path != "/invocations": return self.send_error(404)
        answer(self, j.loads(self.rfile.read(int(self.headers["Content-Length"]))))
open("pid", "w").write(str(os.getpid()))
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#,
        indent(ping),
        indent(code)
    );
    let mut case = Case::new(["python3", "agent.py"]);
    case.manifest.protocol = Protocol::Http;
    case.write("agent.py", &text);
    case
}

const WELL: &str = r#"json(request, {"status": "Healthy"})"#;

#[tokio::test]
async fn a_run_is_a_post_with_its_input_and_the_json_answer_is_its_output() {
    let case = server(
        WELL,
        r#"json(request, {"input": input, "run": request.headers["X-Adjutant-Run-Id"], "key": request.headers["Idempotency-Key"], "attempt": request.headers["X-Adjutant-Attempt"]})"#,
    );
    let output = case.output().await;
    assert_eq!(output["input"], json!({ "n": 3 }));
    assert_eq!(output["attempt"], "1");
    assert!(output["run"].as_str().unwrap().starts_with("run_"));
    assert_eq!(output["run"], output["key"]);
    let pid = case.lines("pid").remove(0);
    assert!(!is_alive(&pid), "the server outlived its run");
}

#[tokio::test]
async fn a_message_is_the_prompt_and_params_go_along() {
    let mut case = server(WELL, "json(request, input)");
    case.input = adjutant_core::RunInput::text("count the words");
    case.input.params = json!({ "deep": true }).into();
    let output = case.output().await;
    assert_eq!(output["prompt"], "count the words");
    assert_eq!(output["messages"][0]["role"], "user");
    assert_eq!(output["params"], json!({ "deep": true }));
}

#[tokio::test]
async fn text_is_a_result_too_and_no_text_is_none() {
    let case = server(WELL, r#"send(request, "plain words", "text/plain")"#);
    assert_eq!(case.output().await, json!("plain words"));
    let case = server(WELL, r#"send(request, "", "application/json", 204)"#);
    assert_eq!(case.output().await, Value::Null);
}

#[tokio::test]
async fn a_stream_becomes_events_and_its_text_the_output() {
    let case = server(
        WELL,
        r#"stream(request, 'data: "one "\n\n', 'data: {"text": "two "}\n\n', ': comment\n\n', 'event: message\ndata: {"delta": "three"}\n\n')"#,
    );
    assert_eq!(case.output().await, json!("one two three"));
    let told: String = case
        .events("assistant.delta")
        .iter()
        .map(|delta| delta["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, "one two three");
}

#[tokio::test]
async fn what_a_stream_calls_its_result_is_the_output_and_its_error_a_failure() {
    let case = server(
        WELL,
        r#"stream(request, 'data: "thinking"\n\n', 'event: result\ndata: {"answer": 42}\n\n')"#,
    );
    assert_eq!(case.output().await, json!({ "answer": 42 }));

    let case = server(
        WELL,
        r#"stream(request, 'event: error\ndata: {"message": "no model", "retriable": false}\n\n')"#,
    );
    let failure = case.failure().await;
    assert_eq!(
        (failure.kind.as_str(), failure.retriable),
        ("agent_failed", false)
    );
    assert!(failure.message.contains("no model"), "{failure:?}");
}

#[tokio::test]
async fn a_status_says_whether_to_try_again() {
    for (status, retriable) in [
        (400, false),
        (422, false),
        (501, false),
        (429, true),
        (503, true),
    ] {
        let case = server(
            WELL,
            &format!(r#"json(request, {{"detail": "not now"}}, {status}, Retry_After="7")"#),
        );
        let failure = case.failure().await;
        assert_eq!(
            (failure.kind.as_str(), failure.retriable),
            ("http_status", retriable),
            "{status}"
        );
        assert!(failure.message.contains("not now"), "{failure:?}");
        let details: Value = failure.details.to().unwrap();
        assert_eq!(
            (&details["status"], &details["retry_after"]),
            (&json!(status), &json!("7"))
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_refused_whole_or_streamed() {
    for code in [
        r#"json(request, "x" * 5000)"#,
        r#"stream(request, *['data: "' + "x" * 100 + '"\n\n'] * 50)"#,
    ] {
        let mut case = server(WELL, code);
        case.manifest.max_output_bytes = ByteSize(1000);
        assert_eq!(case.failure().await.kind, "output_too_large", "{code}");
    }
}

#[tokio::test]
async fn a_server_that_is_never_well_is_told_and_ended() {
    for ping in [
        "request.send_error(500)",
        r#"json(request, {"status": "Unhealthy"})"#,
        "time.sleep(60)",
    ] {
        let mut case = server(ping, "json(request, 1)");
        case.manifest.start_timeout = Duration::from_millis(700);
        let failure = case.failure().await;
        assert_eq!(
            (failure.kind.as_str(), failure.retriable),
            ("start_timeout", true),
            "{ping}"
        );
        assert!(failure.message.contains("PORT"), "{failure:?}");
        for pid in case.lines("pid") {
            assert!(!is_alive(&pid));
        }
    }
}

#[tokio::test]
async fn a_server_that_dies_at_work_is_told_with_its_last_words() {
    let case = server(
        WELL,
        r#"print("out of ideas", file=sys.stderr, flush=True); os._exit(3)"#,
    );
    let failure = case.failure().await;
    let details: Value = failure.details.to().unwrap_or_default();
    // Its broken connection may be seen before its end.
    match failure.kind.as_str() {
        "process_exited" => {
            assert_eq!(details["exit_code"], 3);
            assert!(
                details["stderr"].to_string().contains("out of ideas"),
                "{details}"
            );
        }
        kind => assert_eq!(kind, "agent_unreachable"),
    }
    assert!(failure.retriable);
}

#[tokio::test]
async fn a_server_that_stops_answering_is_ended() {
    let mut case = server(
        r#"time.sleep(60) if os.path.exists("busy") else json(request, {"status": "Healthy"})"#,
        r#"open("busy", "w").close(); time.sleep(60)"#,
    );
    case.manifest.heartbeat = Duration::from_millis(100);
    let failure = case.failure().await;
    assert_eq!(
        (failure.kind.as_str(), failure.retriable),
        ("heartbeat_missed", true)
    );
    assert!(!is_alive(&case.lines("pid")[0]));
}

#[tokio::test]
async fn a_cancelled_run_ends_its_server() {
    let case = server(WELL, r#"open("busy", "w").close(); time.sleep(60)"#);
    let (failure, ()) = tokio::join!(case.failure(), async {
        eventually("the server is at work", || case.file("busy").exists()).await;
        case.cancel.send_replace(true);
    });
    assert_eq!(failure.kind, "cancelled");
    assert!(!is_alive(&case.lines("pid")[0]));
}

#[tokio::test]
async fn what_it_prints_is_logged() {
    let case = server(
        WELL,
        r#"print("to stdout", flush=True); print("to stderr", file=sys.stderr, flush=True); json(request, 1)"#,
    );
    case.output().await;
    let logged: Vec<(Value, Value)> = case
        .events("log")
        .iter()
        .map(|log| (log["stream"].clone(), log["message"].clone()))
        .collect();
    for (stream, message) in [("stdout", "to stdout"), ("stderr", "to stderr")] {
        assert!(
            logged.contains(&(json!(stream), json!(message))),
            "{logged:?}"
        );
    }
}
