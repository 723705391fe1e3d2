//! Attempts that end in order to wait, and what people say to a run at work.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::time::Duration;

use adjutant_core::{Decision, Json, Message};
use serde_json::json;
use support::{Case, eventually};

/// Begins an attempt that waits, and gives it up when `holds`, as the runtime does.
async fn waits(case: &Case, attempt: u32, what: &str, holds: impl Fn() -> bool) {
    let mut attempt = std::pin::pin!(case.attempt(attempt));
    tokio::select! {
        end = &mut attempt => panic!("it should wait, and ended with {end:?}"),
        () = eventually(what, holds) => {}
    }
}

const ASKS: &str = "open('log', 'a').write(f'{os.getpid()}\\n')\n\
     if run.resume is None: run.suspend({'ship': {'message': 'Ship it?', 'data': 1, 'timeoutSeconds': 90}}, state={'n': 1})\n\
     return [run.resume['ship']['action'], run.resume['ship']['by'], run.state]";

#[tokio::test]
async fn an_attempt_may_end_with_questions_and_the_next_one_gets_the_answers() {
    let case = Case::python(ASKS);
    let asked = || !case.memory.lock().unwrap().asked.is_empty();
    waits(&case, 1, "asked", asked).await;
    {
        let mut memory = case.memory.lock().unwrap();
        assert_eq!(memory.asked[0].key, "input:ship");
        assert_eq!(memory.asked[0].message, "Ship it?");
        assert_eq!(memory.asked[0].expires_in, Some(Duration::from_secs(90)));
        assert_eq!(memory.checkpoints, [Json::from(json!({ "n": 1 }))]);
        memory.asked.clear();
    }
    // While nobody answers, a later attempt waits as well, and starts no process for that.
    waits(&case, 2, "asked again", asked).await;
    assert_eq!(case.lines("log").len(), 1);
    case.memory.lock().unwrap().decision = Some(Decision {
        approved: true,
        by: Some("eve".to_owned()),
        comment: None,
        data: Json::null(),
        expired: false,
    });
    let result = case.attempt(3).await.unwrap();
    let expected = json!(["accept", "eve", { "n": 1 }]);
    assert_eq!(result.final_output, Json::from(expected));
    assert_eq!(case.lines("log").len(), 2);
}

#[tokio::test]
async fn the_process_is_gone_before_the_wait_begins() {
    let case = Case::python(ASKS);
    let asked = || !case.memory.lock().unwrap().asked.is_empty();
    waits(&case, 1, "asked", asked).await;
    assert_eq!(case.events("process.exited").len(), 1);
    assert!(!support::is_alive(&case.lines("log")[0]));
}

#[tokio::test]
async fn an_attempt_may_end_with_a_time_and_the_next_one_begins_then() {
    let case = Case::python(
        "if run.state is None: run.suspend(wake_at='1970-01-01T01:00:00Z', state='rested')\nreturn run.state",
    );
    let slept = || !case.memory.lock().unwrap().slept.is_empty();
    waits(&case, 1, "asleep", slept).await;
    let hour = ("wire.wake".to_owned(), Duration::from_secs(3600));
    assert_eq!(case.memory.lock().unwrap().slept, [hour]);
    case.memory.lock().unwrap().sleeps_return = true;
    let result = case.attempt(2).await.unwrap();
    assert_eq!(result.final_output, Json::from("rested"));
}

#[tokio::test]
async fn an_end_that_waits_for_nothing_is_a_breach() {
    for end in [
        "stopReason='yield'",
        "stopReason='input_required'",
        "stopReason='yield', wakeAt='soon'",
        "stopReason='input_required', inputRequests={'a': {'kind': 'approval'}}",
    ] {
        let case = Case::by_hand(&format!("send(id=2, result=dict({end}))"));
        let failure = case.failure().await;
        assert_eq!(failure.kind, "protocol_error", "{end}: {failure:?}");
        assert!(!failure.retriable);
    }
}

const LISTENS: &str = "open('started', 'w')\n\
     heard = []\n\
     while len(heard) < 2:\n  heard += [message['content'] for message in run.steering()]; time.sleep(0.01)\n\
     return heard";

#[tokio::test]
async fn what_people_say_reaches_an_agent_that_listens() {
    let case = Case::python(LISTENS);
    case.write(
        "agent.py",
        &std::fs::read_to_string(case.file("agent.py"))
            .unwrap()
            .replace("serve()", "serve(steerable=True)"),
    );
    let say = |text: &str| {
        let mut memory = case.memory.lock().unwrap();
        memory.said.push(Message::user(text));
    };
    say("before it began");
    let said = async {
        eventually("started", || case.file("started").exists()).await;
        say("while it works");
    };
    let (end, ()) = tokio::join!(case.attempt(1), said);
    let expected = json!(["before it began", "while it works"]);
    assert_eq!(end.unwrap().final_output, Json::from(expected));
}

#[tokio::test]
async fn an_agent_that_does_not_listen_is_told_nothing() {
    // Were it told, that would come before the answer.
    let case = Case::by_hand(
        "time.sleep(0.3)\nsend(id=5, method='checkpoint/load', params=scope)\nend('method' in receive())",
    );
    case.memory
        .lock()
        .unwrap()
        .said
        .push(Message::user("unheard"));
    assert_eq!(case.output().await, json!(false));
}
