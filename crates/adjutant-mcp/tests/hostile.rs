//! Servers that misbehave: each of their ways costs what it must and no more.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{
    fs,
    time::{Duration, Instant},
};

use adjutant_mcp::{Era, Lease, Request, ServerConfig, State};
use adjutant_tools::{ClientPort, Reply, Result, ToolError};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use support::{
    call, caller, echo, eventually, fixture, flag, folder, lease, lines, lives, marked, object,
    pool, text, view,
};

/// A server that no call may wait for long.
fn impatient(flags: &[&str]) -> ServerConfig {
    ServerConfig {
        call_timeout: Duration::from_millis(600),
        ..fixture(flags)
    }
}

#[tokio::test]
async fn a_server_that_never_answers_costs_its_timeout_and_is_told() {
    let (_dir, count) = folder();
    let pool = pool(impatient(&["--never", &flag("count", &count)]));
    let error = call(&lease(&pool), "echo", json!({})).await.unwrap_err();
    assert!(
        matches!(error, ToolError::Timeout { sent: true, .. }),
        "{error}"
    );
    eventually("it is told", || lines(&count).contains(&"cancelled".into())).await;
    pool.close().await;
}

#[tokio::test]
async fn progress_extends_a_call_but_not_beyond_its_whole_time() {
    let mut config = impatient(&[]);
    config.max_call_time = Duration::from_secs(3);
    let pool = pool(config);
    let lease = lease(&pool);
    // Longer than the time without progress, with progress all along.
    assert_eq!(
        text(&lease, "progress", json!({"steps": 50, "ms": 20})).await,
        "done"
    );
    let error = call(&lease, "progress", json!({"steps": 1000, "ms": 20}))
        .await
        .unwrap_err();
    let whole = Duration::from_secs(3);
    assert!(
        matches!(error, ToolError::Timeout { after, .. } if after == whole),
        "{error}"
    );
    pool.close().await;
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_and_its_late_answer_hurts_nobody() {
    let (_dir, count) = folder();
    let pool = pool(fixture(&[&flag("count", &count)]));
    let lease = lease(&pool);
    echo(&lease, "before").await;
    let nothing = Map::new();
    {
        let mut late = Box::pin(lease.call(Request::new("late", &nothing)));
        assert!(futures::poll!(&mut late).is_pending());
        let begun = async {
            eventually("it begins", || lines(&count).contains(&"late".into())).await;
        };
        tokio::select! {
            reply = &mut late => panic!("{reply:?}"),
            () = begun => {}
        }
    }
    eventually("it answers late", || {
        lines(&count).contains(&"answered late".into())
    })
    .await;
    echo(&lease, "after").await;
    assert_eq!(
        view(&pool).restarts,
        0,
        "a cancelled call is no reason to restart"
    );
    pool.close().await;
}

#[tokio::test]
async fn a_hung_tool_does_not_delay_another() {
    let pool = pool(fixture(&[]));
    let lease = lease(&pool);
    let nothing = Map::new();
    let mut hung = Box::pin(lease.call(Request::new("hang", &nothing)));
    for word in 0..100 {
        let word = word.to_string();
        tokio::select! {
            biased;
            reply = &mut hung => panic!("{reply:?}"),
            () = echo(&lease, &word) => {}
        }
    }
    assert_eq!(view(&pool).state, State::Busy);
    drop(hung);
    pool.close().await;
}

#[tokio::test]
async fn a_server_that_ignores_every_request_to_end_is_ended() {
    let command = format!("trap '' TERM; exec {} --ignore-end", support::FIXTURE);
    let mut config = ServerConfig::program("/bin/sh", ["-c", &command]);
    config.scope = Some(adjutant_mcp::Scope::Shared);
    let pool = pool(config);
    let lease = lease(&pool);
    echo(&lease, "up").await;
    let pid = view(&pool).info.unwrap().pid.unwrap();
    assert!(lives(pid));
    assert_eq!(pool.close().await, 0);
    assert!(!lives(pid));
}

#[tokio::test]
async fn a_grandchild_that_ran_away_ends_with_its_server() {
    let mark = format!("{}{}", std::process::id(), line!());
    let pool = pool(fixture(&[&format!("--grandchild={mark}")]));
    echo(&lease(&pool), "up").await;
    let grandchild = format!("sleep 600.{mark}");
    eventually("the grandchild is there", || marked(&grandchild) == 1).await;
    assert_eq!(pool.close().await, 0);
    eventually("the grandchild is gone", || marked(&grandchild) == 0).await;
}

#[tokio::test]
async fn a_flood_on_stderr_blocks_nobody_and_its_end_is_kept() {
    let pool = pool(fixture(&["--flood-stderr"]));
    echo(&lease(&pool), "through").await;
    eventually("the end is kept", || {
        view(&pool).stderr.ends_with("the last of it\n")
    })
    .await;
    let seen = view(&pool);
    assert!(seen.metrics.stderr_bytes > 1 << 20);
    assert!(seen.stderr.len() <= 64 * 1024);
    pool.close().await;
}

#[tokio::test]
async fn text_on_stdout_is_passed_over() {
    for revision in ["2025-11-25", "2026-07-28"] {
        let pool = pool(fixture(&["--garbage", &format!("--revision={revision}")]));
        echo(&lease(&pool), "through").await;
        pool.close().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_fails_its_call_alone_and_at_once() {
    let pool = pool(fixture(&[]));
    let lease = lease(&pool);
    let nothing = Map::new();
    let hung = lease.call(Request::new("hang", &nothing));
    let long = call(&lease, "long", json!({}));
    tokio::select! {
        reply = hung => panic!("{reply:?}"),
        long = long => {
            let error = long.unwrap_err();
            assert!(matches!(error, ToolError::Limit { sent: true, .. }), "{error}");
        }
    }
    echo(&lease, "after").await;
    pool.close().await;
}

#[tokio::test]
async fn death_fails_calls_under_way_at_once_and_the_unsafe_are_not_repeated() {
    let (_dir, count) = folder();
    let mut config = fixture(&[&flag("count", &count)]);
    config
        .effects
        .insert("hang".into(), adjutant_core::Effect::Unsafe);
    let pool = pool(config);
    let lease = lease(&pool);
    let since = Instant::now();
    let (nothing, hang, die) = (Map::new(), "hang", "die");
    let begun = async {
        eventually("the other begins", || lines(&count).contains(&hang.into())).await;
        lease.call(Request::new(die, &nothing)).await
    };
    let (hung, died) = tokio::join!(lease.call(Request::new(hang, &nothing)), begun);
    for error in [hung.unwrap_err(), died.unwrap_err()] {
        assert!(
            matches!(error, ToolError::Unavailable { sent: true, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("connection ended"), "{error}");
    }
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "the timeout is a minute"
    );
    echo(&lease, "alive again").await;
    let made = |tool: &str| lines(&count).iter().filter(|line| *line == tool).count();
    assert_eq!((made(hang), made(die)), (1, 1));
    let seen = view(&pool);
    assert_eq!((seen.restarts, seen.metrics.deaths), (1, 1));
    pool.close().await;
}

#[tokio::test]
async fn an_idempotent_call_survives_the_death_of_its_server() {
    let (dir, count) = folder();
    let pool = pool(fixture(&[&flag("count", &count)]));
    let lease = lease(&pool);
    let before = lease.tools().await.unwrap().generation;
    let mark = dir.path().join("mark");
    assert_eq!(
        text(&lease, "die_once", json!({ "mark": mark })).await,
        "alive"
    );
    assert_eq!(lines(&count), ["die_once", "die_once"]);
    let after = lease.tools().await.unwrap().generation;
    assert!(after > before, "a new process is a new generation");
    pool.close().await;
}

#[tokio::test]
async fn a_server_that_dies_at_each_start_is_given_up_for_a_while_with_its_last_words() {
    let (_dir, starts) = folder();
    let pool = pool(fixture(&["--die-at-start", &flag("starts", &starts)]));
    let lease = lease(&pool);
    let error = call(&lease, "echo", json!({})).await.unwrap_err();
    assert!(
        matches!(error, ToolError::Unavailable { sent: false, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("I cannot go on"), "{error}");
    assert_eq!(view(&pool).state, State::Open);
    let tried = lines(&starts).len();
    assert_eq!(tried, 4, "once, and three times more");
    call(&lease, "echo", json!({})).await.unwrap_err();
    assert_eq!(lines(&starts).len(), tried, "not tried again meanwhile");
    pool.close().await;
}

#[tokio::test]
async fn a_server_that_came_and_went_keeps_its_tools_listed_as_unavailable() {
    let (dir, _) = folder();
    let alive = dir.path().join("alive");
    fs::write(&alive, "").unwrap();
    let pool = pool(fixture(&[&flag("die-unless", &alive)]));
    let lease = lease(&pool);
    assert!(
        lease.tools().await.unwrap().tools[0]
            .spec
            .unavailable
            .is_none()
    );
    fs::remove_file(&alive).unwrap();
    call(&lease, "die", json!({})).await.unwrap_err();
    eventually("it is given up", || view(&pool).state == State::Open).await;
    let tools = lease.tools().await.unwrap();
    assert!(
        tools
            .tools
            .iter()
            .all(|tool| tool.spec.unavailable.is_some())
    );
    fs::write(&alive, "").unwrap();
    pool.restart("s").await.unwrap();
    assert!(
        lease.tools().await.unwrap().tools[0]
            .spec
            .unavailable
            .is_none()
    );
    echo(&lease, "back").await;
    pool.close().await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named_with_a_fix() {
    let pool = pool(ServerConfig::program(
        "no-such-server",
        Vec::<String>::new(),
    ));
    let error = call(&lease(&pool), "echo", json!({})).await.unwrap_err();
    assert!(error.to_string().contains("NO_SUCH_SERVER_PATH"), "{error}");
    assert_eq!(view(&pool).state, State::Failed);
    pool.close().await;
}

#[tokio::test]
async fn answers_in_another_order_and_twice_reach_their_calls() {
    for flag in ["--swap", "--twice"] {
        let pool = pool(fixture(&[flag]));
        let lease = lease(&pool);
        let words: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        let calls = words.iter().map(|word| echo(&lease, word));
        futures::future::join_all(calls).await;
        pool.close().await;
    }
}

struct Port;

#[async_trait]
impl ClientPort for Port {
    async fn sample(&self, request: Value) -> Result<Value> {
        assert_eq!(request["maxTokens"], 5);
        Ok(
            json!({ "role": "assistant", "content": {"type": "text", "text": "four"}, "model": "m" }),
        )
    }

    async fn elicit(&self, request: Value) -> Result<Value> {
        assert_eq!(request["message"], "who?");
        // Longer than a server may be silent: while it waits for us it is not idle.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        Ok(json!({ "action": "accept", "content": {"name": "Ada"} }))
    }
}

async fn ask(lease: &Lease, port: Option<&dyn ClientPort>, arguments: Value) -> Value {
    let arguments = object(arguments);
    let request = Request {
        port,
        ..Request::new("ask", &arguments)
    };
    let Reply::Answer(answer) = lease.call(request).await.unwrap() else {
        panic!("no answer");
    };
    serde_json::from_str(&answer.joined_text()).unwrap()
}

#[tokio::test]
async fn older_servers_may_ask_and_whoever_called_answers_or_nobody() {
    let pool = pool(impatient(&["--revision=2025-11-25"]));
    let lease = lease(&pool);
    let schema = json!({ "type": "object", "properties": {"name": {"type": "string"}} });
    let who = json!({ "params": {"message": "who?", "requestedSchema": schema} });
    let sum = json!({ "method": "sampling/createMessage", "params": {
        "maxTokens": 5, "messages": [{"role": "user", "content": {"type": "text", "text": "2+2"}}],
    }});
    let port: Option<&dyn ClientPort> = Some(&Port);
    let answer = ask(&lease, port, who.clone()).await;
    assert_eq!(answer["result"]["content"]["name"], "Ada", "{answer}");
    let answer = ask(&lease, port, sum.clone()).await;
    assert_eq!(answer["result"]["content"]["text"], "four", "{answer}");
    for question in [who, sum] {
        assert!(ask(&lease, None, question).await["error"].is_object());
    }
    pool.close().await;
}

#[tokio::test]
async fn servers_of_the_newest_revision_may_not_ask() {
    let pool = pool(fixture(&[]));
    let lease = lease(&pool);
    assert_eq!(lease.info().await.unwrap().era, Era::Modern);
    let who = json!({ "params": {"message": "who?", "requestedSchema": {"type": "object", "properties": {}}} });
    let answer = ask(&lease, Some(&Port), who).await;
    assert!(answer["error"].is_object(), "{answer}");
    pool.close().await;
}

#[tokio::test]
async fn silence_or_death_at_the_first_question_leads_to_the_handshake() {
    for flag in ["--silent-probe", "--die-on-probe"] {
        let pool = pool(fixture(&[flag, "--revision=2025-06-18"]));
        let lease = lease(&pool);
        echo(&lease, flag).await;
        assert_eq!(lease.info().await.unwrap().revision, "2025-06-18");
        pool.close().await;
    }
}

#[tokio::test]
async fn a_modern_server_that_is_slow_to_boot_is_given_time_and_not_taken_for_an_old_one() {
    // Longer than a server may be silent when asked for the modern revision.
    let pool = pool(fixture(&["--slow-boot=3500"]));
    let lease = lease(&pool);
    assert_eq!(lease.info().await.unwrap().era, Era::Modern);
    assert_eq!(view(&pool).restarts, 1);
    pool.close().await;
}

#[tokio::test]
async fn a_server_that_is_not_up_in_time_is_told_from_one_that_is_slow_to_answer() {
    let mut config = fixture(&["--slow-start", "--revision=2025-11-25"]);
    config.start_timeout = Duration::from_millis(200);
    let pool = pool(config);
    let error = call(&lease(&pool), "echo", json!({})).await.unwrap_err();
    assert!(
        error.to_string().contains("did not get ready within"),
        "{error}"
    );
    assert_eq!(pool.close().await, 0);
}

#[tokio::test]
async fn names_that_collide_are_told_to_operators() {
    let pool = pool(fixture(&["--duplicates"]));
    let lease = lease(&pool);
    echo(&lease, "the first").await;
    assert_eq!(view(&pool).problems.len(), 1);
    pool.close().await;
}

#[tokio::test]
async fn a_deaf_server_is_replaced_after_two_calls_without_an_answer() {
    let mut config = impatient(&["--never", "--deaf", "--revision=2025-11-25"]);
    config.restart.max = 1000;
    let pool = pool(config);
    let lease = lease(&pool);
    lease.tools().await.unwrap();
    let first = view(&pool).info.unwrap().pid.unwrap();
    for _ in 0..2 {
        call(&lease, "echo", json!({})).await.unwrap_err();
    }
    eventually("it is replaced", || view(&pool).restarts > 0).await;
    eventually("it is gone", || !lives(first)).await;
    pool.close().await;
}

#[tokio::test]
async fn too_many_calls_are_told_to_come_back() {
    let mut config = fixture(&[]);
    config.serial = true;
    config.queue = 1;
    let pool = pool(config);
    let lease = pool.acquire("s", &caller("a")).unwrap();
    lease.tools().await.unwrap();
    let nothing = Map::new();
    let mut held: Vec<_> = (0..2)
        .map(|_| Box::pin(lease.call(Request::new("hang", &nothing))))
        .collect();
    for one in &mut held {
        assert!(futures::poll!(one).is_pending());
    }
    let error = call(&lease, "echo", json!({})).await.unwrap_err();
    assert!(matches!(error, ToolError::Busy { .. }), "{error}");
    assert_eq!(view(&pool).metrics.busy, 1);
    pool.close().await;
}
