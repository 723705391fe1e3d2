//! Many starts, deaths and ends: nothing is left, and nothing that may be repeated fails.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use adjutant_core::{Effect, Json, RunId};
use adjutant_mcp::{
    AuditRecord, AuditSink, McpServerPool, McpSource, PoolOptions, Scope, ServersConfig, State,
    ToolFilter,
};
use adjutant_process::NativeProcesses;
use adjutant_tools::{Caller, Invocation, Reply, ToolError, ToolSource};
use futures::{StreamExt, stream};
use serde_json::json;
use support::{
    call, caller, echo, eventually, fixture, flag, folder, lease, lines, lives, pool, pool_of,
    text, view,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_deaths_fail_no_idempotent_call_and_leave_nothing() {
    const DEATHS: usize = 200;
    let (dir, count) = folder();
    let mut config = fixture(&[&flag("count", &count)]);
    config.restart.max = 10_000;
    config.restart.delay = Duration::from_millis(1);
    config.restart.max_delay = Duration::from_millis(5);
    config.scope = Some(Scope::Shared);
    let pool = pool(config);
    let lease = &lease(&pool);
    let folder = dir.path();
    let answered = &AtomicUsize::new(0);
    stream::iter(0..DEATHS)
        .for_each_concurrent(8, |number| async move {
            let mark = folder.join(format!("mark-{number}"));
            assert_eq!(
                text(lease, "die_once", json!({ "mark": mark })).await,
                "alive"
            );
            echo(lease, &number.to_string()).await;
            answered.fetch_add(1, Ordering::Relaxed);
        })
        .await;
    assert_eq!(answered.load(Ordering::Relaxed), DEATHS);
    let seen = view(&pool);
    // Calls at one time may share a death.
    assert!(
        seen.metrics.deaths >= DEATHS as u64 / 8,
        "{:?}",
        seen.metrics
    );
    assert_eq!(seen.metrics.survivors, 0);
    assert_eq!(pool.close().await, 0);
    let mark = count.display().to_string();
    assert_eq!(support::marked(&mark), 0, "processes are left");
}

#[tokio::test]
async fn two_hundred_restarts_one_after_another_leave_nothing() {
    let (dir, count) = folder();
    let mut config = fixture(&[&flag("count", &count)]);
    config.restart.max = 10_000;
    config.restart.delay = Duration::from_millis(1);
    config.restart.max_delay = Duration::from_millis(2);
    let pool = pool(config);
    let lease = lease(&pool);
    for number in 0..200 {
        let mark = dir.path().join(format!("mark-{number}"));
        assert_eq!(
            text(&lease, "die_once", json!({ "mark": mark })).await,
            "alive"
        );
    }
    assert_eq!(view(&pool).metrics.deaths, 200);
    assert_eq!(pool.close().await, 0);
    assert_eq!(support::marked(&count.display().to_string()), 0);
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_ends_leave_no_process_and_no_open_file() {
    let (_dir, count) = folder();
    let processes = Arc::new(NativeProcesses::new().unwrap());
    let cycle = || async {
        let mark = format!("{}{}", std::process::id(), line!());
        let mut server = fixture(&[&flag("count", &count), &format!("--grandchild={mark}")]);
        server.idle_shutdown = Duration::ZERO;
        let config = ServersConfig {
            servers: [("s".to_owned(), server)].into(),
        };
        let options = PoolOptions::new(processes.clone()).base(
            [("PATH".to_owned(), "/bin:/usr/bin".to_owned())]
                .into_iter()
                .collect(),
        );
        let pool = McpServerPool::new(config, options);
        echo(&lease(&pool), "up").await;
        assert_eq!(pool.close().await, 0);
    };
    cycle().await;
    let before = open_files();
    stream::iter(0..500)
        .for_each_concurrent(4, |_| cycle())
        .await;
    eventually("files are closed", || open_files() <= before).await;
    assert_eq!(support::marked(&count.display().to_string()), 0);
}

#[tokio::test]
async fn a_dropped_pool_ends_its_servers() {
    let pool = pool(fixture(&[]));
    let lease = lease(&pool);
    echo(&lease, "up").await;
    let pid = view(&pool).info.unwrap().pid.unwrap();
    drop((lease, pool));
    eventually("it is gone", || !lives(pid)).await;
}

#[tokio::test]
async fn a_server_that_nobody_uses_is_ended_and_comes_back_when_needed() {
    let mut config = fixture(&[]);
    config.idle_shutdown = Duration::from_millis(20);
    config.scope = Some(Scope::Shared);
    let pool = pool(config);
    let first = lease(&pool);
    echo(&first, "up").await;
    let pid = view(&pool).info.unwrap().pid.unwrap();
    drop(first);
    eventually("it is gone", || !lives(pid)).await;
    eventually("it is forgotten", || view(&pool).key.is_none()).await;
    echo(&lease(&pool), "again").await;
    pool.close().await;
}

#[tokio::test]
async fn a_runs_own_server_ends_with_the_run() {
    let mut config = fixture(&[]);
    config.scope = Some(Scope::Run);
    let pool = pool(config);
    let source = McpSource::new(pool.clone());
    let (one, other) = (caller("a"), caller("a"));
    let pid = async |caller: &Caller| {
        let nothing = Json::from(json!({}));
        let call = Invocation::new("s__pid", &nothing, "key");
        let Reply::Answer(answer) = source.call(caller, call).await.unwrap() else {
            panic!("no answer");
        };
        answer.joined_text().parse::<u32>().unwrap()
    };
    let (first, second) = (pid(&one).await, pid(&other).await);
    assert_ne!(first, second);
    assert_eq!(pid(&one).await, first, "it is kept between calls");
    source.release(one.run);
    eventually("it is gone", || !lives(first)).await;
    assert!(lives(second));
    pool.close().await;
}

#[tokio::test]
async fn a_restart_lets_calls_finish_first_and_is_a_new_process() {
    let (_dir, count) = folder();
    let pool = pool(fixture(&[&flag("count", &count)]));
    let lease = lease(&pool);
    let pid = text(&lease, "pid", json!({})).await;
    let restart = async {
        eventually("it sleeps", || lines(&count).contains(&"sleep".into())).await;
        pool.restart("s").await.unwrap()
    };
    let (slept, restarted) = tokio::join!(text(&lease, "sleep", json!({"ms": 300})), restart);
    assert_eq!((slept.as_str(), restarted), ("slept", 1));
    assert_ne!(text(&lease, "pid", json!({})).await, pid);
    let slept = lines(&count).iter().filter(|line| *line == "sleep").count();
    assert_eq!(slept, 1);
    pool.close().await;
}

#[tokio::test]
async fn what_is_to_be_warm_is_up_before_it_is_needed() {
    let mut warm = fixture(&[]);
    warm.prewarm = true;
    let pool = pool_of(&[("s", warm), ("cold", fixture(&[]))]);
    pool.prewarm(&caller("a")).await;
    let views = pool.list();
    let state = |name: &str| views.iter().find(|view| view.name == name).unwrap().state;
    assert_eq!((state("s"), state("cold")), (State::Ready, State::Idle));
    assert!(pool.probe("s", &caller("b")).await.unwrap() < Duration::from_secs(3));
    pool.close().await;
}

#[tokio::test]
async fn a_thousand_agents_share_a_server_of_the_newest_revision() {
    let (_dir, starts) = folder();
    let pool = pool(fixture(&[&flag("starts", &starts)]));
    pool.probe("s", &caller("first")).await.unwrap();
    let mut leases = Vec::new();
    for number in 0..1000 {
        leases.push(
            pool.acquire("s", &caller(&format!("agent-{number}")))
                .unwrap(),
        );
    }
    for lease in leases.iter().step_by(100) {
        echo(lease, "hello").await;
    }
    assert_eq!(lines(&starts).len(), 1);
    assert_eq!(view(&pool).users, 1000);
    pool.close().await;
}

#[derive(Default)]
struct Records(Mutex<Vec<(String, String, &'static str, Effect)>>);

impl AuditSink for Records {
    fn record(&self, record: AuditRecord<'_>) {
        let agent = record.caller.agent.to_string();
        let line = (agent, record.tool.to_owned(), record.outcome, record.effect);
        self.0.lock().unwrap().push(line);
    }
}

#[tokio::test]
async fn every_call_is_written_down_whatever_becomes_of_it() {
    let records = Arc::new(Records::default());
    let mut server = fixture(&[]);
    server.tools.deny.insert("die*".into());
    let config = ServersConfig {
        servers: [("s".to_owned(), server)].into(),
    };
    let processes = Arc::new(NativeProcesses::new().unwrap());
    let pool = McpServerPool::new(config, PoolOptions::new(processes).audit(records.clone()));
    let lease = lease(&pool);
    echo(&lease, "hello").await;
    call(&lease, "fail", json!({})).await.unwrap();
    let denied = call(&lease, "die", json!({})).await.unwrap_err();
    assert!(matches!(denied, ToolError::Denied { .. }), "{denied}");
    call(&lease, "nothing", json!({})).await.unwrap_err();
    let hang = serde_json::Map::new();
    let mut dropped = Box::pin(lease.call(adjutant_mcp::Request::new("hang", &hang)));
    assert!(futures::poll!(&mut dropped).is_pending());
    drop(dropped);
    let seen = std::mem::take(&mut *records.0.lock().unwrap());
    let outcomes: Vec<_> = seen
        .iter()
        .map(|(_, tool, outcome, _)| (tool.as_str(), *outcome))
        .collect();
    let expected = [
        ("echo", "ok"),
        ("fail", "tool_error"),
        ("die", "tool_denied"),
        ("nothing", "tool_unavailable"),
        ("hang", "cancelled"),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(seen[0].3, Effect::ReadOnly);
    pool.close().await;
}

#[tokio::test]
async fn a_source_lists_and_calls_what_its_filters_admit() {
    let mut bad = fixture(&["--die-at-start"]);
    bad.optional = true;
    let pool = pool_of(&[("one", fixture(&[])), ("two", fixture(&[])), ("bad", bad)]);
    let filter = ToolFilter {
        allow: ["echo".to_owned()].into(),
        ..ToolFilter::default()
    };
    let wanted = [
        ("one", filter),
        ("bad", ToolFilter::default()),
        ("none", ToolFilter::default()),
    ];
    let source = McpSource::of(
        pool.clone(),
        wanted.map(|(name, filter)| (name.to_owned(), filter)),
    );
    let caller = Caller::new("a", RunId::new());
    let listed = source.list(&caller).await.unwrap();
    let names: Vec<&str> = listed.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["one__echo"]);
    let arguments = Json::from(json!({ "text": "hi" }));
    let call = |name| source.call(&caller, Invocation::new(name, &arguments, "key"));
    assert!(matches!(call("one__echo").await.unwrap(), Reply::Answer(_)));
    assert!(matches!(
        call("one__pid").await.unwrap_err(),
        ToolError::Denied { .. }
    ));
    assert!(matches!(
        call("two__echo").await.unwrap_err(),
        ToolError::NotFound { .. }
    ));
    pool.close().await;
}

#[tokio::test]
async fn a_run_does_not_begin_without_tools_that_are_not_optional() {
    let pool = pool_of(&[("one", fixture(&[])), ("bad", fixture(&["--die-at-start"]))]);
    let source = McpSource::new(pool.clone());
    let error = source.list(&caller("a")).await.unwrap_err();
    assert!(error.to_string().contains("I cannot go on"), "{error}");
    pool.close().await;
}
