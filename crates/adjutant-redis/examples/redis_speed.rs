//! How fast a store is on a private server, with each way to sync, beside what the server itself can do.
//!
//! `cargo run --release -p adjutant-redis --example redis_speed -- [seconds] [in flight …]`
//!
//! With `FSYNC=EverySecond` (or `Always`, `Off`) only that is measured. A run is: submit → claim → commit with a
//! checkpoint → commit with the result; each awaited. `NODES` stores share the work, one by default. Then: how long
//! a submit on one node takes to start a run on another one, and claims from a long line.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
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
use adjutant_queue::{AgentFilter, ClaimRequest, Disposition, Lease, NewRun, RunQueue};
use adjutant_redis::{EngineStore, RedisConfig};
use adjutant_servers::{AppendFsync, RedisServer, RedisSettings};
use adjutant_store::{Commit, Op, Store};

/// `SET`s of 100 bytes per second by this many clients, each one after another.
async fn bare_sets(url: &str, clients: usize, time: Duration) -> f64 {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for n in 0..clients {
        let client = redis::Client::open(url.replace("redis+unix", "unix")).unwrap();
        let mut conn = client.get_multiplexed_async_connection().await.unwrap();
        let stop = Arc::clone(&stop);
        tasks.push(tokio::spawn(async move {
            let mut command = redis::cmd("SET");
            command.arg(format!("bare{n}")).arg("x".repeat(100));
            let mut sets = 0_u32;
            while !stop.load(Relaxed) {
                command.exec_async(&mut conn).await.unwrap();
                sets += 1;
            }
            sets
        }));
    }
    let started = Instant::now();
    tokio::time::sleep(time).await;
    stop.store(true, Relaxed);
    let mut sets = 0;
    for task in tasks {
        sets += task.await.unwrap();
    }
    f64::from(sets) / started.elapsed().as_secs_f64()
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
async fn runs(
    server: &RedisServer,
    stores: &[EngineStore],
    workers: usize,
    time: Duration,
) -> Measured {
    let stop = Arc::new(AtomicBool::new(false));
    let total = |of: fn(&EngineStore) -> u64| stores.iter().map(of).sum::<u64>();
    let commits = |store: &EngineStore| store.writer_stats().commits;
    let calls = |store: &EngineStore| store.writer_stats().calls;
    let conflicts = |store: &EngineStore| store.writer_stats().conflicts;
    let before = (total(commits), total(calls), total(conflicts));
    let (cpu, server_cpu) = (cpu_seconds("self"), server_cpu(server));
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
        server_cpu: self::server_cpu(server) - server_cpu,
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

/// Bytes of memory that the server uses for each of so many runs that wait in line.
async fn memory(server: &RedisServer, runs: usize) -> u64 {
    let config = RedisConfig::parse(&format!("{}?prefix=memory", server.url())).unwrap();
    let store = adjutant_redis::open(config).await.unwrap();
    let used = || -> u64 {
        let info = server.command(&["INFO", "memory"]).unwrap();
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        line.unwrap().trim().parse().unwrap()
    };
    let before = used();
    let new = || NewRun::new("bench", &RunInput::text("hello")).unwrap();
    for _ in 0..runs / 1000 {
        store
            .submit((0..1000).map(|_| new()).collect())
            .await
            .unwrap();
    }
    let each = (used() - before) / runs as u64;
    store.close().await;
    server.command(&["FLUSHALL"]).unwrap();
    each
}

async fn measure(fsync: AppendFsync, time: Duration, widths: &[usize]) {
    let server = RedisServer::with(RedisSettings {
        fsync,
        ..RedisSettings::default()
    })
    .unwrap();
    println!("log of writes: {fsync:?}");
    for clients in [1, 16, 64] {
        let rate = bare_sets(&server.url(), clients, time.min(Duration::from_secs(2))).await;
        println!("bare sets by {clients:>2} clients: {rate:>6.0}/s");
    }
    println!(
        "memory per run in line: {} bytes",
        memory(&server, 100_000).await
    );
    let config = RedisConfig::parse(&server.url()).unwrap();
    let nodes = std::env::var("NODES").map_or(1, |text| text.parse().unwrap());
    let mut stores = Vec::new();
    for _ in 0..nodes {
        stores.push(adjutant_redis::open(config.clone()).await.unwrap());
    }
    runs(&server, &stores, 16, Duration::from_secs(1)).await;
    for workers in widths {
        tell(*workers, &runs(&server, &stores, *workers, time).await);
    }
    if let [here, there, ..] = &stores[..] {
        tell_times(
            "submit to start on another store",
            &wake_ups(here, there, 500).await,
        );
    }
    for store in stores {
        store.close().await;
    }
}

/// Processor time of the server so far, in seconds.
fn server_cpu(server: &RedisServer) -> f64 {
    let info = server.command(&["INFO", "cpu"]).unwrap();
    let of = |name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|text| text.trim().parse().ok())
            .unwrap_or(0.0)
    };
    of("used_cpu_sys:") + of("used_cpu_user:")
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let time = Duration::from_secs_f64(args.next().map_or(3.0, |text| text.parse().unwrap()));
    let mut widths: Vec<usize> = args.map(|text| text.parse().unwrap()).collect();
    if widths.is_empty() {
        widths = vec![1, 16, 64, 256];
    }
    let all = [
        AppendFsync::EverySecond,
        AppendFsync::Always,
        AppendFsync::Off,
    ];
    let only = std::env::var("FSYNC").ok();
    for fsync in all {
        if only
            .as_ref()
            .is_none_or(|only| format!("{fsync:?}") == *only)
        {
            measure(fsync, time, &widths).await;
        }
    }
}
