//! Agents that come to a socket instead of speaking on stdin and stdout.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may stop at the first surprise, as tests may"
)]

mod support;

use std::time::Duration;

use adjutant_process::Transport;
use serde_json::json;
use support::{Case, eventually};

const SOCKETS: [Transport; 2] = [Transport::Unix, Transport::WebSocket];

fn python(transport: Transport, code: &str) -> Case {
    let mut case = Case::python(code);
    case.manifest.transport = transport;
    case
}

#[tokio::test]
async fn a_run_over_a_socket_is_like_one_over_pipes() {
    for transport in SOCKETS {
        let case = python(
            transport,
            "run.emit('first', {'big': 'é' * 100000})\n\
             total = run.step('add', lambda: 1 + run.data['n'])\n\
             run.checkpoint({'total': total})\n\
             return total",
        );
        assert_eq!(case.output().await, json!(4), "{transport:?}");
        assert_eq!(case.events("first").len(), 1);
        let exited = &case.events("process.exited")[0]["reason"];
        assert_eq!(*exited, json!({ "exited": 0 }), "{transport:?}");
    }
}

#[tokio::test]
async fn what_an_agent_prints_is_its_log_then() {
    for transport in SOCKETS {
        let case = python(
            transport,
            "print('hello from stdout', flush=True)\nos.write(1, b'and raw\\n')\nreturn 1",
        );
        assert_eq!(case.output().await, json!(1));
        let logs = format!("{:?}", case.events("log"));
        for line in ["hello from stdout", "and raw"] {
            assert!(logs.contains(line), "{transport:?}: {logs}");
        }
    }
}

#[tokio::test]
async fn cancelling_reaches_an_agent_at_a_socket() {
    for transport in SOCKETS {
        let case = python(
            transport,
            "run.emit('ready')\nwhile not run.cancelled: time.sleep(0.001)\nrun.checkpoint('tidy')\nrun.check_cancelled()",
        );
        let attempt = case.attempt(1);
        let cancel = async {
            eventually("ready", || !case.events("ready").is_empty()).await;
            case.cancel.send_replace(true);
        };
        let (ended, ()) = tokio::join!(attempt, cancel);
        assert_eq!(ended.unwrap_err().kind, "cancelled", "{transport:?}");
        assert_eq!(case.memory.lock().unwrap().checkpoints.len(), 1);
    }
}

#[tokio::test]
async fn a_process_that_dies_before_it_comes_is_told_from_one_that_never_comes() {
    for transport in SOCKETS {
        let mut case = Case::shell("echo no library >&2; exit 3");
        case.manifest.transport = transport;
        let failure = case.failure().await;
        assert_eq!(failure.kind, "process_exited", "{failure:?}");
        assert!(failure.message.contains("no library"), "{failure:?}");

        let mut case = Case::shell("exec sleep 30");
        case.manifest.transport = transport;
        case.manifest.start_timeout = Duration::from_millis(200);
        assert_eq!(case.failure().await.kind, "start_timeout");
    }
}

#[tokio::test]
async fn nobody_is_let_in_without_the_token() {
    for transport in SOCKETS {
        let mut case = python(transport, "return 1");
        case.manifest.start_timeout = Duration::from_secs(2);
        let script = std::fs::read_to_string(case.file("agent.py")).unwrap();
        let forget = "import os\nos.environ['AGENT_WIRE_TOKEN'] = 'guessed'\n";
        case.write("agent.py", &format!("{forget}{script}"));
        let failure = case.failure().await;
        // The agent ends when it is turned away.
        let turned_away = ["process_exited", "start_timeout"].contains(&failure.kind.as_str());
        assert!(turned_away, "{transport:?}: {failure:?}");
    }
}
