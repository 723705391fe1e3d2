//! Whether calls take the same time however many runs are pending.
//!
//! `cargo run --release -p adjutant-sqlite --example scale -- [directory] [pending runs …]`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for people at a terminal"
)]

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use adjutant_core::{RunInput, RunResult, RunState, WorkerId};
use adjutant_queue::{
    AgentFilter, ClaimRequest, Disposition, NewRun, RunFilter, RunLookup, RunQueue,
};
use adjutant_sqlite::{EngineStore, SqliteConfig};
use adjutant_store::{Commit, Store};

/// Runs submitted in one call while filling up.
const CHUNK: usize = 2000;

async fn claim(store: &EngineStore, agents: AgentFilter) -> Duration {
    let began = Instant::now();
    let request = ClaimRequest {
        worker: WorkerId::new(),
        capacity: 1,
        agents,
        lease_ttl: Duration::from_secs(30),
        wait: Duration::ZERO,
    };
    let claimed = store.claim(request).await.unwrap().pop().unwrap();
    let took = began.elapsed();
    let end = Some(Disposition::Succeeded(RunResult::default()));
    let commit = Commit {
        lease: claimed.lease,
        ops: Vec::new(),
        end,
    };
    store.commit(commit).await.unwrap();
    took
}

async fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Memory of this process, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let base = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let mut sizes: Vec<usize> = args.map(|text| text.parse().unwrap()).collect();
    if sizes.is_empty() {
        sizes = vec![1_000, 100_000, 1_000_000];
    }
    let directory = tempfile::tempdir_in(base).unwrap();
    let config = SqliteConfig::at(directory.path().join("store.db"));
    let store = adjutant_sqlite::open(config).await.unwrap();
    let mut pending = 0;
    for size in sizes {
        let began = Instant::now();
        let before = pending;
        while pending < size {
            let count = CHUNK.min(size - pending);
            let runs = (0..count).map(|n| {
                NewRun::new(format!("agent-{}", n % 20), &RunInput::text("hello")).unwrap()
            });
            store.submit(runs.collect()).await.unwrap();
            pending += count;
        }
        let filled = began.elapsed();
        let (mut one, mut any) = (Vec::new(), Vec::new());
        for n in 0..100 {
            one.push(
                claim(
                    &store,
                    AgentFilter::Only(vec![format!("agent-{}", n % 20).into()]),
                )
                .await,
            );
            any.push(claim(&store, AgentFilter::Any).await);
        }
        let began = Instant::now();
        store.stats().await.unwrap();
        let stats = began.elapsed();
        let began = Instant::now();
        store.list(RunFilter::default()).await.unwrap();
        let list = began.elapsed();
        let began = Instant::now();
        let failed = RunFilter {
            states: vec![RunState::Failed],
            ..RunFilter::default()
        };
        store.list(failed).await.unwrap();
        println!(
            "{size:>8} pending (+{} in {filled:.1?}): claim of one agent {:?}, of any {:?}; stats {stats:?}; \
             list {list:?}, of failed {:?}; {} MiB",
            pending - before,
            median(one).await,
            median(any).await,
            began.elapsed(),
            resident(),
        );
    }
    store.close().await;
}
