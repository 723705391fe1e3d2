//! Both libraries, Rust's and Python's, driven over pipes by a scripted host. Every property holds for both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may stop at the first surprise, as tests may"
)]

mod host;

use adjutant_wire::{
    AgentFailure, AgentRequest, CancelRequest, ErrorCode, HealthCheck, Limits, Outcome, Request,
    Response, RpcError, RunCancel, Shutdown, StepBegin,
};
use host::{Host, Journal, Language, start};
use serde_json::{Value, json};

macro_rules! for_both {
    ($($property:ident,)*) => {
        mod rust {
            $(#[test] fn $property() { super::$property(super::Language::Rust); })*
        }
        mod python {
            $(#[test] fn $property() { super::$property(super::Language::Python); })*
        }
    };
}

for_both! {
    finished_steps_are_not_done_again,
    a_step_is_retried_and_its_final_failure_is_replayed,
    a_wait_ends_the_attempt_and_a_later_one_goes_on,
    an_agent_that_swallows_a_park_still_yields,
    a_busy_agent_answers_health_checks_and_is_cancelled,
    cancelling_ends_a_wait,
    giving_up_run_start_ends_the_run,
    what_is_no_message_is_survived,
    failures_say_whether_to_retry_and_spare_the_process,
    a_fenced_attempt_ends_and_the_process_goes_on,
    a_conflict_of_inputs_is_the_runs_failure,
    one_run_at_a_time,
    an_answer_over_the_limit_becomes_an_error,
    input_settings_and_state_arrive,
    children_come_back_in_order,
    shutdown_waits_for_the_run_and_exits_with_zero,
    shutdown_ends_an_idle_process,
    the_end_of_stdin_ends_the_process,
}

fn output(outcome: &Outcome) -> (&str, Value) {
    let result = outcome.as_ref().expect("the attempt failed");
    let output = &result["output"];
    let value = output
        .get("data")
        .or_else(|| output.get("text"))
        .cloned()
        .unwrap_or_default();
    (result["stopReason"].as_str().unwrap(), value)
}

fn never(request: &AgentRequest) -> Outcome {
    panic!("not expected: {request:?}")
}

fn finished_steps_are_not_done_again(language: Language) {
    let mut host = Host::start(language);
    let mut journal = Journal::default();
    for attempt in [1, 2] {
        host.events.clear();
        let outcome = host.drive(&start("steps", attempt), |request| journal.answer(request));
        assert_eq!(
            output(&outcome),
            ("end_turn", json!({"sum": 7, "state": {"n": 7}}))
        );
        assert_eq!(
            journal.done,
            ["count", "count#2", "sum"],
            "attempt {attempt}"
        );
        let seqs: Vec<_> = host.events.iter().map(|event| event.seq).collect();
        let kinds: Vec<_> = host
            .events
            .iter()
            .map(|event| event.kind.as_str())
            .collect();
        assert_eq!(seqs, [1, 2, 3]);
        assert_eq!(
            kinds,
            ["progress.update", "assistant.message", "custom.type"]
        );
        assert_eq!(
            host.events[0].data,
            json!({"progress_percent": 50.0, "note": "half"})
        );
        assert!(
            host.events
                .iter()
                .all(|event| event.scope == start("steps", attempt).scope)
        );
    }
    assert_eq!(journal.state, Some(json!({"n": 7})));
    assert!(journal.hashes["count"].is_none() && journal.hashes["sum"].is_some());
}

fn a_step_is_retried_and_its_final_failure_is_replayed(language: Language) {
    let mut host = Host::start(language);
    let mut journal = Journal::default();
    for attempt in [1, 2] {
        let outcome = host.drive(&start("retry", attempt), |request| journal.answer(request));
        assert_eq!(
            output(&outcome),
            ("end_turn", json!({"got": 3, "error": "broken"}))
        );
    }
    assert_eq!(journal.done, ["flaky", "broken"]);
    assert_eq!(journal.tries, [3]);
}

fn a_wait_ends_the_attempt_and_a_later_one_goes_on(language: Language) {
    let mut host = Host::start(language);
    let mut journal = Journal::default();
    let answers = [
        ("cool", json!({})),
        ("go", json!({"payload": {"now": true}})),
        (
            "publish",
            json!({"action": "accept", "by": "ann", "content": [1]}),
        ),
    ];
    for (attempt, (key, answer)) in (1..).zip(answers) {
        let outcome = host.drive(&start("waits", attempt), |request| journal.answer(request));
        assert_eq!(output(&outcome), ("yield", Value::Null));
        journal.waits.insert(key.into(), answer);
    }
    let outcome = host.drive(&start("waits", 4), |request| journal.answer(request));
    let expected = json!({"signal": {"now": true}, "approved": true, "by": "ann", "data": [1]});
    assert_eq!(output(&outcome), ("end_turn", expected));
    assert_eq!(journal.done, ["before"]);
}

fn an_agent_that_swallows_a_park_still_yields(language: Language) {
    let mut host = Host::start(language);
    let mut asked = 0;
    let outcome = host.drive(&start("swallow", 1), |_| {
        asked += 1;
        Err(RpcError::park("not yet"))
    });
    assert_eq!(output(&outcome), ("yield", Value::Null));
    assert_eq!(asked, 1, "a parked attempt asks for nothing more");
}

fn a_busy_agent_answers_health_checks_and_is_cancelled(language: Language) {
    let mut host = Host::start(language);
    let started = host.request(&start("busy", 1));
    host.wait_until(|host| !host.events.is_empty() && host.heartbeats.len() >= 2);
    let health = host.call(&HealthCheck {}).unwrap();
    assert_eq!(health.runs[0].run_id, "r-1");
    host.notify(&RunCancel {
        run_id: "another".into(),
        ..RunCancel::default()
    });
    host.notify(&RunCancel {
        run_id: "r-1".into(),
        ..RunCancel::default()
    });
    let (id, request) = host.next_request();
    assert!(matches!(&request, AgentRequest::CheckpointSave(save) if save.state == "tidied up"));
    host.send(Response::ok(id, json!({"seq": 1})));
    let response = host.next_response();
    assert_eq!(response.id, Some(started));
    assert_eq!(output(&response.outcome), ("cancelled", Value::Null));
}

fn cancelling_ends_a_wait(language: Language) {
    let mut host = Host::start(language);
    let mut journal = Journal::default();
    host.request(&start("waits", 1));
    let sleep = loop {
        match host.next_request() {
            (id, AgentRequest::Sleep(_)) => break id,
            (id, other) => {
                let outcome = journal.answer(&other);
                host.send(Response {
                    id: Some(id),
                    outcome,
                });
            }
        }
    };
    host.notify(&RunCancel {
        run_id: "r-1".into(),
        ..RunCancel::default()
    });
    let response = host.next_response();
    assert_eq!(output(&response.outcome), ("cancelled", Value::Null));
    assert_eq!(
        host.given_up,
        [CancelRequest {
            request_id: sleep.clone()
        }]
    );
    // The answer crossed with the cancel: nobody waits for it, and nothing breaks.
    host.send(Response::ok(sleep, json!({})));
    assert!(host.call(&HealthCheck {}).unwrap().runs.is_empty());
}

fn giving_up_run_start_ends_the_run(language: Language) {
    let mut host = Host::start(language);
    let started = host.request(&start("busy", 1));
    host.wait_until(|host| !host.events.is_empty());
    host.notify(&CancelRequest {
        request_id: started.clone(),
    });
    let (id, _checkpoint) = host.next_request();
    host.send(Response::ok(id, json!({"seq": 1})));
    let response = host.next_response();
    assert_eq!(response.id, Some(started));
    assert!(
        response
            .outcome
            .is_err_and(|error| error.is(ErrorCode::Cancelled))
    );
}

fn what_is_no_message_is_survived(language: Language) {
    let mut host = Host::start(language);
    host.write(b"\n\nhello\n{\"a\": 1}\n[]\n\xff\xfe\n{\"jsonrpc\": \"2.0\"\n");
    host.write(b"{\"jsonrpc\":\"2.0\",\"method\":\"later/thing\",\"params\":{}}\n");
    host.send(Response::ok(999.into(), Value::Null));
    host.send(Request {
        id: "s".into(),
        method: "later/call".into(),
        params: Value::Null,
    });
    let response = host.next_response();
    assert_eq!(response.id, Some("s".into()));
    assert!(
        response
            .outcome
            .is_err_and(|error| error.is(ErrorCode::MethodNotFound))
    );
    host.send(Request {
        id: 77.into(),
        method: "run/start".into(),
        params: json!([]),
    });
    assert!(
        host.next_response()
            .outcome
            .is_err_and(|error| error.is(ErrorCode::InvalidParams))
    );
    assert_eq!(
        output(&host.drive(&start("echo", 1), never)),
        ("end_turn", json!("fixture: hello"))
    );
}

fn failures_say_whether_to_retry_and_spare_the_process(language: Language) {
    let mut host = Host::start(language);
    let failure = |outcome: Outcome| AgentFailure::from(outcome.unwrap_err());
    let bad = failure(host.drive(&start("no such mode", 1), never));
    assert_eq!((bad.kind.as_str(), bad.retriable), ("bad_mode", false));
    assert_eq!(bad.details.as_deref(), Some(&json!({"a": 1})));
    let crash = failure(host.drive(&start("crash", 1), never));
    let kind = if language == Language::Rust {
        "panic"
    } else {
        "IndexError"
    };
    assert_eq!((crash.kind.as_str(), crash.retriable), (kind, true));
    assert_eq!(output(&host.drive(&start("echo", 2), never)).0, "end_turn");
}

fn a_fenced_attempt_ends_and_the_process_goes_on(language: Language) {
    let mut host = Host::start(language);
    let fenced = |_: &AgentRequest| Err(RpcError::new(ErrorCode::Fenced, "another worker has it"));
    let error = host.drive(&start("steps", 1), fenced).unwrap_err();
    assert!(error.is(ErrorCode::Fenced));
    assert_eq!(output(&host.drive(&start("echo", 2), never)).0, "end_turn");
}

fn a_conflict_of_inputs_is_the_runs_failure(language: Language) {
    let mut host = Host::start(language);
    let error = host.drive(&start("steps", 1), |request| match request {
        AgentRequest::StepBegin(StepBegin { key, .. }) if key == "count" => {
            Err(RpcError::new(ErrorCode::CallConflict, "another input"))
        }
        other => never(other),
    });
    let failure = AgentFailure::from(error.unwrap_err());
    assert_eq!(
        (failure.kind.as_str(), failure.retriable),
        ("call_conflict", false)
    );
}

fn one_run_at_a_time(language: Language) {
    let mut host = Host::start(language);
    host.request(&start("busy", 1));
    host.wait_until(|host| !host.events.is_empty());
    let mut second = start("echo", 1);
    assert!(host.call(&second).unwrap_err().is(ErrorCode::Overloaded));
    second.scope.run_id = "r-2".into();
    let error = host.call(&second).unwrap_err();
    assert!(error.is(ErrorCode::Overloaded) && error.retryable());
}

fn an_answer_over_the_limit_becomes_an_error(language: Language) {
    let mut host = Host::start_with(
        language,
        Limits {
            max_line_bytes: 1000,
            ..Limits::default()
        },
    );
    let mut long = start("echo", 1);
    long.input.messages[0].content = adjutant_wire::Content::Text("x".repeat(2000));
    assert!(
        host.drive(&long, never)
            .unwrap_err()
            .is(ErrorCode::TooLarge)
    );
    assert_eq!(output(&host.drive(&start("echo", 2), never)).0, "end_turn");
}

fn input_settings_and_state_arrive(language: Language) {
    let mut host = Host::start(language);
    let mut run = start("state", 2);
    assert_eq!(
        output(&host.drive(&run, never)).1,
        json!({"state": null, "params": {"p": 1}})
    );
    run.checkpoint = Some(adjutant_wire::Checkpoint {
        seq: 4,
        state: json!([1, 2]),
    });
    assert_eq!(
        output(&host.drive(&run, never)).1,
        json!({"state": [1, 2], "params": {"p": 1}})
    );
}

fn children_come_back_in_order(language: Language) {
    let mut host = Host::start(language);
    let outcome = host.drive(&start("delegate", 1), |request| {
        let AgentRequest::Delegate(delegate) = request else {
            return never(request);
        };
        assert_eq!(
            (delegate.key.as_str(), delegate.children.len()),
            ("team", 2)
        );
        assert_eq!(delegate.children[1].input.messages[0].text(), "work");
        let error = json!({"type": "E", "message": "m", "retriable": false});
        Ok(json!({"results": [
            {"runId": "c-1", "status": "succeeded", "output": {"text": "done"}},
            {"runId": "c-2", "status": "failed", "error": error},
        ]}))
    });
    assert_eq!(output(&outcome), ("end_turn", json!(["c-1", "c-2"])));
}

fn shutdown_waits_for_the_run_and_exits_with_zero(language: Language) {
    let mut host = Host::start(language);
    host.request(&start("busy", 1));
    host.wait_until(|host| !host.events.is_empty());
    host.call(&Shutdown {
        grace_ms: 60_000,
        reason: "test".into(),
    })
    .unwrap();
    let mut other = start("echo", 1);
    other.scope.run_id = "r-2".into();
    assert!(
        host.call(&other).unwrap_err().is(ErrorCode::Overloaded),
        "no new runs"
    );
    host.notify(&RunCancel {
        run_id: "r-1".into(),
        ..RunCancel::default()
    });
    let (id, _checkpoint) = host.next_request();
    host.send(Response::ok(id, json!({"seq": 1})));
    assert_eq!(output(&host.next_response().outcome).0, "cancelled");
    assert_eq!(host.wait_for_exit().code(), Some(0));
}

fn shutdown_ends_an_idle_process(language: Language) {
    let mut host = Host::start(language);
    host.call(&Shutdown::default()).unwrap();
    assert_eq!(host.wait_for_exit().code(), Some(0));
}

fn the_end_of_stdin_ends_the_process(language: Language) {
    let mut host = Host::start(language);
    host.request(&start("busy", 1));
    host.wait_until(|host| !host.events.is_empty());
    host.close_stdin();
    assert_eq!(host.wait_for_exit().code(), Some(0));
}
