//! How fast a store is on a private server that syncs, beside what the server itself can do.
//!
//! `cargo run --release -p adjutant-postgres --example postgres_speed -- [seconds] [in flight …]`
//!
//! With `POSTGRES_URL` in the environment that server is used instead. A run is: submit → claim → commit with a
//! checkpoint → commit with the result; each awaited. `NODES` stores share the work, one by default. Then: how long
//! a submit on one node takes to start a run on another one, and claims from a long line.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a program for people at a terminal"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use adjutant_core::{Json, RunInput, RunResult, WorkerId};
use adjutant_postgres::{EngineStore, PostgresConfig};
use adjutant_queue::{AgentFilter, ClaimRequest, Disposition, Lease, NewRun, RunQueue};
use adjutant_servers::{PostgresServer, PostgresSettings};
use adjutant_store::{Commit, Op, Store};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

/// One-row commits per second by this many clients, each one after another.
async fn bare_commits(config: &PostgresConfig, clients: usize, time: Duration) -> f64 {
    let mut conn = config.connect.connect().await.unwrap();
    conn.execute("create table if not exists bare (id bigserial primary key, body text)")
        .await
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    let body = "x".repeat(100);
    for _ in 0..clients {
        let mut conn = config.connect.connect().await.unwrap();
        let (stop, body) = (Arc::clone(&stop), body.clone());
        tasks.push(tokio::spawn(async move {
            let mut commits = 0_u32;
            while !stop.load(Relaxed) {
                let insert = sqlx::query("insert into bare (body) values ($1)").bind(&body);
                conn.execute(insert).await.unwrap();
                commits += 1;
            }
            commits
        }));
    }
    let started = Instant::now();
    tokio::time::sleep(time).await;
    stop.store(true, Relaxed);
    let mut commits = 0;
    for task in tasks {
        commits += task.await.unwrap();
    }
    let rate = f64::from(commits) / started.elapsed().as_secs_f64();
    conn.execute("drop table bare").await.unwrap();
    conn.close().await.unwrap();
    rate
}

fn new_run() -> NewRun {
    NewRun::new("bench", &RunInput::text("hello")).unwrap()
}

fn claim(worker: WorkerId, wait: Duration) -> ClaimRequest {
    ClaimRequest {
        worker,
        capacity: 1,
        agents: AgentFilter::Only(vec!["bench".into()]),
        lease_ttl: Duration::from_secs(600),
        wait,
    }
}

async fn finish(store: &EngineStore, lease: Lease, state: &Json) {
    let checkpoint = Commit {
        lease,
        ops: vec![Op::Checkpoint(state.clone())],
        end: None,
    };
    store.commit(checkpoint).await.unwrap();
    let finish = Commit {
        lease,
        ops: Vec::new(),
        end: Some(Disposition::Succeeded(RunResult::output("done"))),
    };
    store.commit(finish).await.unwrap();
}

async fn one_run(store: &EngineStore, worker: WorkerId, state: &Json) -> bool {
    store.submit(vec![new_run()]).await.unwrap();
    let claimed = store.claim(claim(worker, Duration::from_secs(5))).await;
    let Some(claimed) = claimed.unwrap().pop() else {
        return false;
    };
    finish(store, claimed.lease, state).await;
    true
}

/// What came of some time at some width.
struct Measured {
    /// How long each run took, in order.
    times: Vec<Duration>,
    elapsed: f64,
    commits: u64,
    calls: u64,
    conflicts: u64,
    /// Seconds of processor time.
    cpu: f64,
    server_cpu: f64,
}

/// Each of `workers` does whole runs, one after another.
async fn runs(stores: &[EngineStore], workers: usize, time: Duration) -> Measured {
    let stop = Arc::new(AtomicBool::new(false));
    let total = |of: fn(&EngineStore) -> u64| stores.iter().map(of).sum::<u64>();
    let commits = |store: &EngineStore| store.writer_stats().commits;
    let calls = |store: &EngineStore| store.writer_stats().calls;
    let conflicts = |store: &EngineStore| store.writer_stats().conflicts;
    let before = (total(commits), total(calls), total(conflicts));
    let (cpu, server_cpu) = (cpu_seconds("self"), server_seconds());
    let started = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..workers {
        let (store, stop) = (stores[n % stores.len()].clone(), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            let worker = WorkerId::new();
            let mut times = Vec::new();
            let state = Json::from_value(&"s".repeat(100)).unwrap();
            while !stop.load(Relaxed) {
                let began = Instant::now();
                if one_run(&store, worker, &state).await {
                    times.push(began.elapsed());
                }
            }
            times
        }));
    }
    tokio::time::sleep(time).await;
    stop.store(true, Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let elapsed = started.elapsed().as_secs_f64();
    times.sort_unstable();
    Measured {
        times,
        elapsed,
        commits: total(commits) - before.0,
        calls: total(calls) - before.1,
        conflicts: total(conflicts) - before.2,
        cpu: cpu_seconds("self") - cpu,
        server_cpu: server_seconds() - server_cpu,
    }
}

/// Processor time of a process so far.
fn cpu_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |n: usize| {
        fields
            .get(n)
            .and_then(|f| f.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

/// Processor time of the private server's processes so far.
fn server_seconds() -> f64 {
    let mut seconds = 0.0;
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let title = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&title).starts_with("postgres: speed: ") {
            seconds += cpu_seconds(&name);
        }
    }
    seconds
}

/// From the submit on one node to the start on another one that waits.
async fn wake_ups(from: &EngineStore, to: &EngineStore, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    let state = Json::from_value(&"s").unwrap();
    for _ in 0..count {
        let waiting = tokio::spawn({
            let to = to.clone();
            async move {
                let claimed = to.claim(claim(WorkerId::new(), Duration::from_secs(30)));
                (claimed.await.unwrap(), Instant::now())
            }
        });
        // So that it does wait.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let submitted = Instant::now();
        from.submit(vec![new_run()]).await.unwrap();
        let (claimed, started) = waiting.await.unwrap();
        times.push(started.duration_since(submitted));
        finish(to, claimed[0].lease, &state).await;
    }
    times.sort_unstable();
    times
}

/// Claims of one run each, with the results awaited, from a line of this length.
async fn claims(store: &EngineStore, line: usize, count: usize) -> Vec<Duration> {
    for _ in 0..line / 1000 {
        let runs = (0..1000).map(|_| new_run()).collect();
        store.submit(runs).await.unwrap();
    }
    let mut times = Vec::new();
    for _ in 0..count {
        let asked = Instant::now();
        let claimed = store.claim(claim(WorkerId::new(), Duration::ZERO)).await;
        times.push(asked.elapsed());
        assert_eq!(claimed.unwrap().len(), 1);
    }
    times.sort_unstable();
    times
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn tell(workers: usize, measured: &Measured) {
    let count = measured.times.len().max(1);
    let at = |share: usize| {
        let times = &measured.times;
        times
            .get(times.len() * share / 100)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{workers:>3} in flight: {:>6.0} runs/s, p50 {:>8.2?}, p99 {:>8.2?}, {:.2} commits and {:.2} calls/run, \
         processor time per run {:.0} µs here and {:.0} µs at the server, {} conflicts",
        count as f64 / measured.elapsed,
        at(50),
        at(99),
        measured.commits as f64 / count as f64,
        measured.calls as f64 / count as f64,
        measured.cpu / count as f64 * 1e6,
        measured.server_cpu / count as f64 * 1e6,
        measured.conflicts,
    );
}

fn tell_times(what: &str, times: &[Duration]) {
    let at = |share: usize| times[times.len() * share / 100];
    println!("{what}: p50 {:.2?}, p99 {:.2?}", at(50), at(99));
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let time = Duration::from_secs_f64(args.next().map_or(3.0, |text| text.parse().unwrap()));
    let mut widths: Vec<usize> = args.map(|text| text.parse().unwrap()).collect();
    if widths.is_empty() {
        widths = vec![1, 16, 64, 256];
    }
    let given = std::env::var("POSTGRES_URL").ok();
    let server = given.is_none().then(|| {
        let settings = PostgresSettings {
            fsync: true,
            // Shows in the names of its processes.
            more: vec![("cluster_name".to_owned(), "speed".to_owned())],
            ..PostgresSettings::default()
        };
        PostgresServer::with(settings).unwrap()
    });
    let url = given.unwrap_or_else(|| server.as_ref().map(PostgresServer::url).unwrap_or_default());
    let mut config = PostgresConfig::parse(&url).unwrap();
    config.schema = format!("speed{}", std::process::id());
    for clients in [1, 16] {
        let rate = bare_commits(&config, clients, time).await;
        println!("bare one-row commits by {clients:>2} clients: {rate:>6.0}/s");
    }
    let nodes = std::env::var("NODES").map_or(1, |text| text.parse().unwrap());
    let mut stores = Vec::new();
    for _ in 0..nodes {
        stores.push(adjutant_postgres::open(config.clone()).await.unwrap());
    }
    runs(&stores, 16, Duration::from_secs(1)).await;
    for workers in widths {
        tell(workers, &runs(&stores, workers, time).await);
    }
    stores.push(adjutant_postgres::open(config.clone()).await.unwrap());
    let times = wake_ups(&stores[0], stores.last().unwrap(), 300).await;
    tell_times("submit on one node to start on another", &times);
    for line in [0, 1_000, 100_000] {
        let times = claims(&stores[0], line + 1000, 300).await;
        tell_times(&format!("claim from a line of {}", line + 1000), &times);
    }
    for store in stores {
        store.close().await;
    }
    let mut conn = config.connect.connect().await.unwrap();
    let drop = format!("drop schema {} cascade", config.schema);
    conn.execute(AssertSqlSafe(drop)).await.unwrap();
}
