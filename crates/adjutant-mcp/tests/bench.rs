//! What the pool adds to a call, beside the bare library. Not run by default:
//! `cargo nextest run -p adjutant-mcp --cargo-profile release --run-ignored only --no-capture -E 'binary(bench)'`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop at the first surprise, and these are read by people"
)]

mod support;

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use adjutant_mcp::{Lease, Request, Scope};
use adjutant_process::{
    Environment, Isolation, Limits, NativeProcesses, Process, ProcessManager, ProcessSpec,
};
use futures::{StreamExt, stream};
use rmcp::{
    RoleClient,
    model::{CallToolRequestParams, ProtocolVersion},
    service::{ClientLifecycleMode, ClientServiceExt, RunningService},
    transport::async_rw::AsyncRwTransport,
};
use serde_json::{Map, Value, json};
use support::{FIXTURE, caller, fixture, object, pool, pool_of};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    process::{Child, Command},
};

const ROUNDS: usize = 20;
const CALLS: usize = 1000;

type Bare = RunningService<RoleClient, ()>;

/// The bare library on a process that is owned as the pool's are, in a control group where there is one.
async fn bare_owned() -> (Box<dyn Process>, Bare) {
    let spec = ProcessSpec {
        program: FIXTURE.into(),
        args: Vec::new(),
        dir: "/".into(),
        env: Environment::default(),
        limits: Limits::default(),
        isolation: Isolation::default(),
    };
    let spawned = NativeProcesses::new().unwrap().spawn(spec).await.unwrap();
    let service = greet(spawned.stdout, spawned.stdin).await;
    (spawned.process, service)
}

async fn greet(
    stdout: impl AsyncRead + Send + Unpin + 'static,
    stdin: impl AsyncWrite + Send + Unpin + 'static,
) -> Bare {
    let modern = ClientLifecycleMode::Discover {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
    };
    let pipes = AsyncRwTransport::new(stdout, stdin);
    ().serve_with_lifecycle(pipes, modern).await.unwrap()
}

async fn bare() -> (Child, Bare) {
    let mut child = Command::new(FIXTURE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let service = greet(child.stdout.take().unwrap(), child.stdin.take().unwrap()).await;
    (child, service)
}

async fn call_bare(service: &Bare, arguments: &Map<String, Value>) {
    let params = CallToolRequestParams::new("echo").with_arguments(arguments.clone());
    service.call_tool_once(params).await.unwrap();
}

async fn call_pool(lease: &Lease, arguments: &Map<String, Value>) {
    lease.call(Request::new("echo", arguments)).await.unwrap();
}

async fn measured(times: &mut Vec<Duration>, mut call: impl AsyncFnMut()) {
    for _ in 0..CALLS {
        let since = Instant::now();
        call().await;
        times.push(since.elapsed());
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn the_pool_adds_little_to_a_call() {
    let (_child, service) = bare().await;
    let (_process, service_of_owned) = bare_owned().await;
    let pool = pool(fixture(&[]));
    let lease = support::lease(&pool);
    let arguments = object(json!({ "text": "hello" }));
    let (mut bare, mut owned, mut pooled) = (Vec::new(), Vec::new(), Vec::new());
    // In turns, so that the machine's moods meet both.
    for _ in 0..ROUNDS {
        measured(&mut bare, async || call_bare(&service, &arguments).await).await;
        measured(&mut owned, async || {
            call_bare(&service_of_owned, &arguments).await;
        })
        .await;
        measured(&mut pooled, async || call_pool(&lease, &arguments).await).await;
    }
    let (bare, pooled) = (median(&mut bare), median(&mut pooled));
    let added = (pooled / bare - 1.0) * 100.0;
    println!(
        "p50 of a call: bare {bare:.1} µs, through the pool {pooled:.1} µs, added {added:.1} %"
    );
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn sixty_four_calls_at_a_time_on_one_server() {
    const ALL: usize = 20_000;
    let (_child, service) = bare().await;
    let mut config = fixture(&[]);
    config.concurrency = 64.try_into().unwrap();
    let pool = pool(config);
    let lease = support::lease(&pool);
    let arguments = object(json!({ "text": "hello" }));
    let (service, lease, arguments) = (&service, &lease, &arguments);
    call_pool(lease, arguments).await;
    let since = Instant::now();
    let calls = stream::iter(0..ALL);
    calls
        .for_each_concurrent(64, |_| call_bare(service, arguments))
        .await;
    let bare = ALL as f64 / since.elapsed().as_secs_f64();
    let since = Instant::now();
    let calls = stream::iter(0..ALL);
    calls
        .for_each_concurrent(64, |_| call_pool(lease, arguments))
        .await;
    let pooled = ALL as f64 / since.elapsed().as_secs_f64();
    println!("64 in flight: bare {bare:.0}/s, through the pool {pooled:.0}/s");
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn fifty_servers_with_a_thousand_calls_each() {
    let mut config = fixture(&[]);
    config.scope = Some(Scope::Shared);
    let names: Vec<String> = (0..50).map(|number| format!("s{number}")).collect();
    let servers: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), config.clone()))
        .collect();
    let pool = pool_of(&servers);
    let leases: Vec<Lease> = names
        .iter()
        .map(|name| pool.acquire(name, &caller("a")).unwrap())
        .collect();
    let arguments = object(json!({ "text": "hello" }));
    let since = Instant::now();
    let starts = leases.iter().map(|lease| lease.info());
    futures::future::try_join_all(starts).await.unwrap();
    let started = since.elapsed();
    let since = Instant::now();
    let (leases, arguments) = (&leases, &arguments);
    stream::iter(0..50_000)
        .for_each_concurrent(100, |number| call_pool(&leases[number % 50], arguments))
        .await;
    let rate = 50_000.0 / since.elapsed().as_secs_f64();
    println!("50 servers: up in {started:?}, 50 000 calls at {rate:.0}/s");
    assert_eq!(pool.close().await, 0);
}
