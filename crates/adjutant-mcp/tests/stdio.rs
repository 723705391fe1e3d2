//! Servers that are processes: what they say arrives, in every revision.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::sync::Mutex;

use adjutant_core::Effect;
use adjutant_mcp::{Era, Request, State};
use adjutant_tools::{InputResume, Progress, Reply};
use serde_json::{Map, json};
use support::{call, caller, echo, fixture, lease, lives, object, pool, text, view};

#[tokio::test]
async fn a_server_is_started_listed_called_and_ended() {
    let pool = pool(fixture(&[]));
    let lease = lease(&pool);
    assert_eq!(
        view(&pool).state,
        State::Idle,
        "nothing starts before it is needed"
    );
    let tools = lease.tools().await.unwrap();
    assert_eq!(tools.tools.len(), 14, "all pages");
    assert_eq!(tools.tool("s__echo").unwrap().spec.effect, Effect::ReadOnly);
    echo(&lease, "hello").await;
    let seen = view(&pool);
    let pid = seen.info.unwrap().pid.unwrap();
    assert!(lives(pid));
    assert_eq!(seen.state, State::Ready);
    assert_eq!(pool.close().await, 0);
    assert!(!lives(pid));
}

#[tokio::test]
async fn every_revision_is_spoken() {
    for revision in [
        "2024-11-05",
        "2025-03-26",
        "2025-06-18",
        "2025-11-25",
        "2026-07-28",
    ] {
        let pool = pool(fixture(&[&format!("--revision={revision}")]));
        let lease = lease(&pool);
        let info = lease.info().await.unwrap();
        assert_eq!(info.revision, revision);
        let modern = revision == "2026-07-28";
        assert_eq!(info.era, if modern { Era::Modern } else { Era::Legacy });
        echo(&lease, revision).await;
        assert_eq!(pool.close().await, 0);
    }
}

#[tokio::test]
async fn every_kind_of_content_is_kept() {
    let pool = pool(fixture(&[]));
    let answer = call(&lease(&pool), "blocks", json!({})).await.unwrap();
    let kinds: Vec<&str> = answer
        .content
        .iter()
        .map(|b| b["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["text", "image", "audio", "resource_link", "resource"]
    );
    assert_eq!(answer.structured_content, Some(json!({ "n": 1 })));
    pool.close().await;
}

#[tokio::test]
async fn a_tools_own_failure_is_an_answer() {
    let pool = pool(fixture(&[]));
    let answer = call(&lease(&pool), "fail", json!({})).await.unwrap();
    assert!(answer.is_error);
    assert_eq!(answer.joined_text(), "it went wrong");
    pool.close().await;
}

#[tokio::test]
async fn progress_arrives_in_order_before_the_answer() {
    for revision in ["2025-11-25", "2026-07-28"] {
        let pool = pool(fixture(&[&format!("--revision={revision}")]));
        let seen = Mutex::new(Vec::new());
        let sink = |progress: Progress| seen.lock().unwrap().push(progress.progress);
        let arguments = object(json!({ "steps": 40 }));
        let request = Request {
            progress: Some(&sink),
            ..Request::new("progress", &arguments)
        };
        lease(&pool).call(request).await.unwrap();
        let expected: Vec<f64> = (1..=40).map(f64::from).collect();
        assert_eq!(*seen.lock().unwrap(), expected);
        pool.close().await;
    }
}

#[tokio::test]
async fn input_that_is_required_goes_to_the_caller_and_back() {
    let pool = pool(fixture(&[]));
    let lease = lease(&pool);
    let nothing = Map::new();
    let reply = lease.call(Request::new("input", &nothing)).await.unwrap();
    let Reply::InputRequired { requests, state } = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(requests["who"]["method"], "elicitation/create");
    let resume = InputResume {
        responses: object(json!({ "who": {"action": "accept", "content": {"name": "Ada"}} })),
        state,
    };
    let again = Request {
        resume: Some(&resume),
        ..Request::new("input", &nothing)
    };
    let Reply::Answer(answer) = lease.call(again).await.unwrap() else {
        panic!("no answer");
    };
    assert_eq!(answer.joined_text(), "hello Ada");
    pool.close().await;
}

#[tokio::test]
async fn resources_and_prompts_are_reached() {
    for revision in ["2025-11-25", "2026-07-28"] {
        let pool = pool(fixture(&[&format!("--revision={revision}")]));
        let lease = lease(&pool);
        assert_eq!(
            lease.resources(false).await.unwrap()[0]["uri"],
            "test://one"
        );
        assert_eq!(lease.resources(true).await.unwrap()[0]["name"], "any");
        let read = lease.read_resource("test://one").await.unwrap();
        assert_eq!(read["contents"][0]["text"], "hello");
        assert_eq!(lease.prompts().await.unwrap()[0]["name"], "greet");
        let who = object(json!({ "who": "Ada" }));
        let prompt = lease.prompt("greet", &who).await.unwrap();
        assert_eq!(prompt["messages"][0]["content"]["text"], "Hello, Ada");
        pool.close().await;
    }
}

#[tokio::test]
async fn changed_tools_are_listed_again() {
    for revision in ["2025-11-25", "2026-07-28"] {
        let pool = pool(fixture(&[&format!("--revision={revision}")]));
        let lease = lease(&pool);
        let before = lease.tools().await.unwrap();
        assert!(before.tool("new").is_none());
        // In the newest revision changes are told to those who listen, which begins a moment after the start.
        loop {
            text(&lease, "change", json!({})).await;
            let now = lease.tools().await.unwrap();
            if now.tool("new").is_some() {
                assert!(now.generation > before.generation);
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(
            before.tool("new").is_none(),
            "a list that somebody keeps never changes"
        );
        pool.close().await;
    }
}

#[tokio::test]
async fn agents_share_what_keeps_nothing_and_nothing_else() {
    for (revision, shared) in [("2025-11-25", false), ("2026-07-28", true)] {
        let pool = pool(fixture(&[&format!("--revision={revision}")]));
        let first = pool.acquire("s", &caller("a")).unwrap();
        let pid = text(&first, "pid", json!({})).await;
        let second = pool.acquire("s", &caller("b")).unwrap();
        let same_agent = pool.acquire("s", &caller("a")).unwrap();
        assert_eq!(
            text(&second, "pid", json!({})).await == pid,
            shared,
            "{revision}"
        );
        assert_eq!(text(&same_agent, "pid", json!({})).await, pid);
        pool.close().await;
    }
}
