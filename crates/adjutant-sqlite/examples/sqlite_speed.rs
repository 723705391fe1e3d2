//! How fast a store is on this disk, beside what the disk allows.
//!
//! `cargo run --release -p adjutant-sqlite --example sqlite_speed -- [directory] [seconds] [in flight …]`
//!
//! A run is: submit → claim → commit with a checkpoint → commit with the result; each awaited.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for people at a terminal"
)]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use adjutant_core::{Json, RunInput, RunResult, WorkerId};
use adjutant_queue::{AgentFilter, ClaimRequest, Disposition, NewRun, RunQueue};
use adjutant_sqlite::SqliteConfig;
use adjutant_store::{Commit, Op, Store};
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

/// One-row commits per second, one after another, with a sync each.
async fn serial_commits(directory: &Path, time: Duration) -> f64 {
    let path = directory.join("serial.db");
    let mut conn = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .pragma("journal_mode", "WAL")
        .pragma("synchronous", "FULL")
        .pragma("journal_size_limit", "67108864")
        .connect()
        .await
        .unwrap();
    sqlx::query("create table t (id integer primary key, body text)")
        .execute(&mut conn)
        .await
        .unwrap();
    let body = "x".repeat(100);
    let started = Instant::now();
    let mut commits = 0_u32;
    while started.elapsed() < time {
        sqlx::query("insert into t (body) values (?)")
            .bind(&body)
            .execute(&mut conn)
            .await
            .unwrap();
        commits += 1;
    }
    let rate = f64::from(commits) / started.elapsed().as_secs_f64();
    conn.close().await.unwrap();
    rate
}

/// Each of `workers` does whole runs, one after another.
async fn runs(
    directory: &Path,
    workers: usize,
    time: Duration,
) -> (f64, Vec<Duration>, f64, f64, f64) {
    let path = directory.join(format!("runs-{workers}.db"));
    let store = adjutant_sqlite::open(SqliteConfig::at(path)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let before = store.writer_stats();
    let cpu = cpu_seconds();
    let started = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..workers {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            let worker = WorkerId::new();
            let mut times = Vec::new();
            let state = Json::from_value(&"s".repeat(100)).unwrap();
            while !stop.load(Relaxed) {
                let began = Instant::now();
                let run = NewRun::new("bench", &RunInput::text("hello")).unwrap();
                let claim = ClaimRequest {
                    worker,
                    capacity: 1,
                    agents: AgentFilter::Only(vec!["bench".into()]),
                    lease_ttl: Duration::from_secs(30),
                    wait: Duration::from_secs(5),
                };
                let (submitted, claimed) = if std::env::var_os("FOLD").is_some() {
                    let submit = store.submit(vec![run]);
                    let claim = store.claim(claim);
                    tokio::join!(submit, claim)
                } else {
                    (store.submit(vec![run]).await, store.claim(claim).await)
                };
                submitted.unwrap();
                let claimed = claimed.unwrap();
                let Some(claimed) = claimed.into_iter().next() else {
                    continue;
                };
                let checkpoint = Commit {
                    lease: claimed.lease,
                    ops: vec![Op::Checkpoint(state.clone())],
                    end: None,
                };
                store.commit(checkpoint).await.unwrap();
                let finish = Commit {
                    lease: claimed.lease,
                    ops: Vec::new(),
                    end: Some(Disposition::Succeeded(RunResult::output("done"))),
                };
                store.commit(finish).await.unwrap();
                times.push(began.elapsed());
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
    let cpu = cpu_seconds() - cpu;
    let after = store.writer_stats();
    store.close().await;
    times.sort_unstable();
    let count = u32::try_from(times.len()).unwrap();
    let commits = f64::from(u32::try_from(after.commits - before.commits).unwrap());
    let statements = f64::from(u32::try_from(after.calls - before.calls).unwrap());
    (
        f64::from(count) / elapsed,
        times,
        commits / f64::from(count),
        statements / commits,
        cpu / f64::from(count) * 1e6,
    )
}

/// Processor time of this process so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
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

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let base = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let time = Duration::from_secs_f64(args.next().map_or(3.0, |text| text.parse().unwrap()));
    let directory = tempfile::tempdir_in(base).unwrap();
    let serial = serial_commits(directory.path(), time).await;
    println!(
        "serial one-row commits: {serial:.0}/s, {:.0} µs each",
        1e6 / serial
    );
    let mut widths: Vec<usize> = args.map(|text| text.parse().unwrap()).collect();
    if widths.is_empty() {
        widths = vec![1, 16, 64];
    }
    for workers in widths {
        let (rate, times, commits, statements, cpu) = runs(directory.path(), workers, time).await;
        let at = |share: usize| {
            times
                .get(times.len() * share / 100)
                .copied()
                .unwrap_or_default()
        };
        println!(
            "{workers:>3} in flight: {rate:>7.0} runs/s ({:.2} × serial), p50 {:?}, p99 {:?}, {commits:.2} commits/run, {statements:.1} statements/commit, {cpu:.0} µs cpu/run",
            rate / serial,
            at(50),
            at(99)
        );
    }
}
