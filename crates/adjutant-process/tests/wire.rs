//! Agents in processes, over the wire.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::time::Duration;

use adjutant_core::{Decision, Json, Visibility};
use serde_json::json;
use support::{Case, eventually};

#[tokio::test]
async fn an_agent_gets_its_input_and_its_answer_comes_back() {
    let case = Case::python("return {'n': run.data['n'] + 1, 'cwd': run.metadata['cwd']}");
    assert_eq!(case.output().await, json!({ "n": 4, "cwd": "/somewhere" }));
    assert_eq!(case.events("process.started").len(), 1);
    assert_eq!(
        case.events("process.exited")[0]["reason"],
        json!({ "exited": 0 })
    );
}

#[tokio::test]
async fn a_step_that_is_recorded_is_not_done_again() {
    let case = Case::python(
        "def note(name):\n  open('log', 'a').write(name + '\\n'); return name\n\
         a = run.step('a', note, 'a')\n\
         b = run.step('b', note, 'b')\n\
         if not os.path.exists('died'):\n  open('died', 'w'); os.kill(os.getpid(), 9)\n\
         return [a, b, run.step('c', note, 'c')]",
    );
    let failure = case.failure().await;
    assert_eq!(failure.kind, "process_exited");
    assert!(failure.retriable);
    assert_eq!(
        failure.details.to::<serde_json::Value>().unwrap()["signal"],
        9
    );
    let result = case.attempt(2).await.unwrap();
    assert_eq!(result.final_output, Json::from(json!(["a", "b", "c"])));
    assert_eq!(case.lines("log"), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_step_that_failed_for_good_fails_again_without_being_done() {
    let case = Case::python(
        "def work():\n  open('log', 'a').write('x\\n'); raise AgentError('bad', 'no', retriable=False)\n\
         run.step('a', work)",
    );
    for attempt in 1..3 {
        let failure = case.attempt(attempt).await.unwrap_err();
        assert_eq!((failure.kind.as_str(), failure.retriable), ("bad", false));
    }
    assert_eq!(case.lines("log").len(), 1);
}

#[tokio::test]
async fn a_failure_keeps_kind_advice_and_details() {
    let case = Case::python("raise AgentError('busy', 'later', retriable=True, details={'x': 1})");
    let failure = case.failure().await;
    assert_eq!(
        (failure.kind.as_str(), failure.message.as_str()),
        ("busy", "later")
    );
    assert!(failure.retriable);
    assert_eq!(failure.details, Json::from(json!({ "x": 1 })));
}

#[tokio::test]
async fn events_are_written_in_order_and_before_what_comes_after_them() {
    let case = Case::python(
        "for n in range(300): run.emit('count', {'n': n})\n\
         run.checkpoint({'at': 300})\n\
         return 'done'",
    );
    assert_eq!(case.output().await, json!("done"));
    let counts: Vec<_> = case
        .events("count")
        .into_iter()
        .map(|event| event["n"].clone())
        .collect();
    assert_eq!(counts, (0..300).map(|n| json!(n)).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_said_before_a_wait_is_durable_when_the_wait_begins() {
    let case = Case::python("run.emit('before', {})\nrun.checkpoint(7)\nrun.sleep('nap', 60)");
    {
        let mut attempt = std::pin::pin!(case.attempt(1));
        let asleep = eventually("asleep", || !case.memory.lock().unwrap().slept.is_empty());
        tokio::select! {
            _ = &mut attempt => panic!("it should sleep"),
            () = asleep => {}
        }
    }
    assert_eq!(case.events("before").len(), 1);
    assert_eq!(
        case.memory.lock().unwrap().checkpoints,
        [Json::from(json!(7))]
    );
    let slept = case.memory.lock().unwrap().slept.clone();
    assert_eq!(slept, [("nap".to_owned(), Duration::from_secs(60))]);
}

#[tokio::test]
async fn a_checkpoint_comes_back_in_the_next_attempt() {
    let case =
        Case::python("n = run.state or 0\nrun.checkpoint(n + 1)\nrun.checkpoint(n + 2)\nreturn n");
    assert_eq!(case.output().await, json!(0));
    assert_eq!(
        case.attempt(2).await.unwrap().final_output,
        Json::from(json!(2))
    );
}

#[tokio::test]
async fn waits_that_are_over_are_answered() {
    let case = Case::python(
        "run.sleep('nap', 1.5)\n\
         signal = run.wait_for_signal('go')\n\
         decision = run.request_approval('ship', 'Ship it?', data={'v': 1}, timeout=90)\n\
         children = run.delegate('fan', [Child('other', data={'x': 1})])\n\
         return [signal, decision.approved, decision.by, children[0].output]",
    );
    {
        let mut memory = case.memory.lock().unwrap();
        memory.sleeps_return = true;
        memory.signal = Some(Json::from("now"));
        memory.decision = Some(Decision {
            approved: true,
            by: Some("eve".to_owned()),
            comment: None,
            data: Json::null(),
            expired: false,
        });
    }
    assert_eq!(
        case.output().await,
        json!(["now", true, "eve", { "data": { "x": 1 } }])
    );
    let memory = case.memory.lock().unwrap();
    assert_eq!(memory.asked[0].key, "ship");
    assert_eq!(memory.asked[0].data, Json::from(json!({ "v": 1 })));
    assert_eq!(memory.asked[0].expires_in, Some(Duration::from_secs(90)));
}

#[tokio::test]
async fn steps_of_several_threads_go_side_by_side() {
    let case = Case::by_hand(
        r#"
for n in range(3): send(id=n, method="step/begin", params=dict(scope, key=f"s{n}"))
begun = [receive()["result"]["state"] for _ in range(3)]
for n in (2, 0, 1): send(id=10+n, method="step/end", params=dict(scope, key=f"s{n}", result=n))
ended = sorted(receive()["id"] for _ in range(3))
end([begun, ended])
"#,
    );
    let execute = "execute";
    let expected = json!([[execute, execute, execute], [10, 11, 12]]);
    assert_eq!(case.output().await, expected);
    assert_eq!(case.memory.lock().unwrap().journal.len(), 3);
}

#[tokio::test]
async fn calls_of_another_attempt_or_run_are_fenced() {
    let case = Case::by_hand(
        r#"
send(id=1, method="sleep", params=dict(scope, epoch=1, key="a", seconds=1))
stale = receive()["error"]["code"]
send(id=2, method="checkpoint/save", params=dict(scope, runId="run_other", seq=1, state=1))
other = receive()["error"]["code"]
send(method="run/event", params=dict(scope, epoch=1, seq=1, type="stale"))
end([stale, other])
"#,
    );
    assert_eq!(case.output().await, json!([-31002, -31001]));
    assert!(case.events("stale").is_empty());
    assert!(case.memory.lock().unwrap().checkpoints.is_empty());
}

#[tokio::test]
async fn what_cannot_be_carried_out_is_refused_by_number() {
    let case = Case::by_hand(
        r#"
def ask(method, **params):
    send(id=method, method=method, params=params)
    return receive()["error"]["code"]
codes = [
    ask("tools/call", **scope, callId="1", name="t"),
    ask("tools/list", runId=scope["runId"]),
    ask("checkpoint/load", **dict(scope, epoch=scope["epoch"] - 1)),
    ask("llm/generate", **scope, callId="2", request=dict(messages=[])),
    ask("llm/generate", **scope, callId="3", request={}),
    ask("nosuch"),
    ask("sleep", **scope),
    ask("step/end", **scope, key="never begun"),
    ask("checkpoint/save", **scope, seq=1, state="x" * (9 << 20)),
]
send(id=7, method="step/begin", params=dict(scope, key="a")); receive()
send(id=8, method="step/begin", params=dict(scope, key="a"))
codes.append(receive()["error"]["code"])
end(codes)
"#,
    );
    let expected = [
        -31006, -32602, -31002, -31006, -32602, -32601, -32602, -32602, -31011, -31012,
    ];
    assert_eq!(case.output().await, json!(expected));
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_as_overload_and_given_up_ones_make_room() {
    let case = Case::by_hand(
        r#"
for n in range(65): send(id=n, method="sleep", params=dict(scope, key=f"s{n}", seconds=60))
overload = receive()
send(method="$/cancel_request", params=dict(requestId=5))
given_up = receive()
end([overload["id"], overload["error"]["code"], given_up["id"], given_up["error"]["code"]])
"#,
    );
    assert_eq!(case.output().await, json!([64, -31005, 5, -32800]));
}

#[tokio::test]
async fn repeated_and_forged_events_are_dropped() {
    let case = Case::by_hand(
        r#"
for seq, kind in ((1, "mine"), (1, "mine"), (2, "run.succeeded"), (3, "mine")):
    send(method="run/event", params=dict(scope, seq=seq, type=kind, data={"seq": seq}))
end(None)
"#,
    );
    case.attempt(1).await.unwrap();
    assert_eq!(
        case.events("mine"),
        [json!({ "seq": 1 }), json!({ "seq": 3 })]
    );
    assert!(case.events("run.succeeded").is_empty());
}

#[tokio::test]
async fn a_lost_lease_ends_the_attempt() {
    let case = Case::python("run.checkpoint(1)\nreturn 'unreachable'");
    let attempt = case.attempt(1);
    case.memory.lock().unwrap().lease_lost = true;
    let failure = attempt.await.unwrap_err();
    assert_eq!(failure.kind, "lease_lost");
}

#[tokio::test]
async fn stderr_becomes_log_events_for_developers_and_is_the_tail_of_a_crash() {
    let case =
        Case::python("for n in range(30): print('line', n)\nsys.stderr.flush(); os._exit(3)");
    let failure = case.failure().await;
    assert_eq!(failure.kind, "process_exited");
    assert!(
        failure.message.contains("status 3") && failure.message.ends_with("line 29"),
        "{failure:?}"
    );
    let details: serde_json::Value = failure.details.to().unwrap();
    assert_eq!(details["exit_code"], 3);
    assert_eq!(details["stderr"].as_array().unwrap().len(), 20);
    assert_eq!(case.events("log").len(), 30);
    let memory = case.memory.lock().unwrap();
    let log = memory
        .events
        .iter()
        .find(|event| event.event_type.as_str() == "log")
        .unwrap();
    assert_eq!(log.visibility, Visibility::Debug);
}

#[tokio::test]
async fn a_flood_on_stderr_neither_blocks_the_agent_nor_fills_the_store() {
    let case = Case::python("for n in range(100000): print('flood', n)\nreturn 'dry'");
    assert_eq!(case.output().await, json!("dry"));
    let logged = case.events("log").len();
    assert!((50..5000).contains(&logged), "{logged}");
}

#[tokio::test]
async fn a_hanging_agent_is_ended_after_three_heartbeats() {
    let mut case = Case::by_hand("time.sleep(600)");
    case.manifest.heartbeat = Duration::from_millis(100);
    let failure = case.failure().await;
    assert_eq!(failure.kind, "heartbeat_missed");
    assert!(failure.retriable);
}

#[tokio::test]
async fn a_busy_agent_whose_library_beats_is_left_alone() {
    let mut case = Case::python("time.sleep(1.2)\nreturn 'there'");
    case.manifest.heartbeat = Duration::from_millis(200);
    assert_eq!(case.output().await, json!("there"));
}

#[tokio::test]
async fn an_agent_that_waits_for_the_host_need_not_beat() {
    let mut case = Case::by_hand(
        r#"send(id=1, method="signal/wait", params=dict(scope, key="k", name="go")); time.sleep(600)"#,
    );
    case.manifest.heartbeat = Duration::from_millis(100);
    let waited = tokio::time::timeout(Duration::from_millis(900), case.attempt(1)).await;
    assert!(waited.is_err(), "{waited:?}");
}

#[tokio::test]
async fn a_program_that_does_not_speak_the_wire_is_told_so() {
    let mut silent = Case::shell("sleep 600");
    silent.manifest.start_timeout = Duration::from_millis(200);
    assert_eq!(silent.failure().await.kind, "start_timeout");

    let chatty = Case::shell("while :; do echo hello; done");
    let failure = chatty.failure().await;
    assert_eq!(
        (failure.kind.as_str(), failure.retriable),
        ("protocol_error", false)
    );
    assert!(failure.message.contains("protocol: exec"));
}

#[tokio::test]
async fn a_stray_print_is_logged_and_does_no_harm() {
    let case = Case::by_hand("print('oops', flush=True)\nend(1)");
    assert_eq!(case.output().await, json!(1));
    assert!(
        case.events("log")
            .iter()
            .any(|log| log["message"] == "oops" && log["stream"] == "stdout")
    );
}

#[tokio::test]
async fn a_line_over_the_limit_ends_the_attempt() {
    let case =
        Case::by_hand("sys.stdout.write('x' * (17 << 20)); sys.stdout.flush(); time.sleep(600)");
    let failure = case.failure().await;
    assert_eq!(
        (failure.kind.as_str(), failure.retriable),
        ("protocol_error", false)
    );
    assert!(failure.message.contains("file"), "{}", failure.message);
}

#[tokio::test]
async fn an_agent_that_skips_a_line_of_the_host_does_not_wait_for_it_for_ever() {
    let case = Case::by_hand(
        r#"
send(id=None, error=dict(code=-31011, message="a line over 99 bytes"))
while True:
    send(method="heartbeat", params={})
    time.sleep(0.05)
"#,
    );
    let failure = tokio::time::timeout(Duration::from_secs(30), case.failure());
    let failure = failure.await.unwrap();
    assert_eq!(failure.kind, "protocol_error");
    assert!(failure.message.contains("99 bytes"), "{}", failure.message);
}

#[tokio::test]
async fn an_output_over_the_limit_is_refused_with_advice() {
    let mut case = Case::python("return 'x' * 2000");
    case.manifest.max_output_bytes = adjutant_process::ByteSize(1024);
    let failure = case.failure().await;
    assert_eq!(failure.kind, "output_too_large");
    assert!(failure.message.contains("1KiB") && failure.message.contains("file"));
}

#[tokio::test]
async fn an_input_over_the_limit_starts_no_process() {
    let mut case = Case::shell("touch started");
    case.manifest.max_input_bytes = adjutant_process::ByteSize(4);
    assert_eq!(case.failure().await.kind, "input_too_large");
    assert!(!case.file("started").exists());
}

#[tokio::test]
async fn an_exit_with_75_asks_to_try_later() {
    let case = Case::shell("echo busy >&2; exit 75");
    let failure = case.failure().await;
    assert_eq!(failure.kind, "process_exited");
    assert!(failure.retriable && failure.message.contains("try again later"));
}

#[tokio::test]
async fn a_missing_program_is_a_permanent_failure_that_names_it() {
    let failure = Case::new(["no-such-program-here"]).failure().await;
    assert_eq!(
        (failure.kind.as_str(), failure.retriable),
        ("program_not_found", false)
    );
    assert!(failure.message.contains("no-such-program-here"));
}

#[tokio::test]
async fn a_cancelled_agent_may_tidy_up_first() {
    let case = Case::python(
        "open('started', 'w')\n\
         while not run.cancelled: time.sleep(0.01)\n\
         open('tidied', 'w')\n\
         return 'stopped'",
    );
    let cancel = async {
        eventually("started", || case.file("started").exists()).await;
        case.cancel.send_replace(true);
    };
    let (end, ()) = tokio::join!(case.attempt(1), cancel);
    assert_eq!(end.unwrap_err().kind, "cancelled");
    assert!(case.file("tidied").exists());
}

#[tokio::test]
async fn an_agent_that_ignores_a_cancellation_is_ended_after_the_grace() {
    let case = Case::by_hand("open('started', 'w'); time.sleep(600)");
    let cancel = async {
        eventually("started", || case.file("started").exists()).await;
        case.cancel.send_replace(true);
    };
    let (end, ()) = tokio::join!(case.attempt(1), cancel);
    assert_eq!(end.unwrap_err().kind, "cancelled");
}

#[tokio::test]
async fn secrets_of_the_runtime_do_not_reach_the_agent() {
    let case = Case::python("return sorted(os.environ)");
    let names: Vec<String> = serde_json::from_value(case.output().await).unwrap();
    for needed in [
        "ADJUTANT_ATTEMPT",
        "ADJUTANT_RUN_ID",
        "AGENT_WIRE",
        "PATH",
        "PYTHONPATH",
    ] {
        assert!(names.iter().any(|name| name == needed), "{needed}");
    }
    assert!(
        !names.iter().any(|name| name.starts_with("CARGO")),
        "{names:?}"
    );
}
