//! How long a claim takes while more and more runs wait for one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_core::{Json, RunInput, WorkerId};
use adjutant_queue::{AgentFilter, ClaimRequest, NewRun};
use adjutant_servers::AppendFsync;
use adjutant_store::Store;
use anyhow::{Result, ensure};
use futures::future::try_join_all;

use crate::{
    bench::{Bench, Engine},
    report::{Row, Times},
};

/// Runs per claim.
const BATCH: usize = 16;
const SAMPLES: usize = 300;
/// Runs per submit while the queue is filled, and how many submits are under way at a time.
const FILL: usize = 1000;
const FILLERS: usize = 4;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let sizes: &[usize] = if bench.quick {
        &[1_000, 100_000]
    } else {
        &[1_000, 100_000, 1_000_000]
    };
    let servers = [Engine::Postgres, Engine::Redis(AppendFsync::EverySecond)];
    for engine in [Engine::Ram, Engine::Memory(1000)]
        .into_iter()
        .chain(servers)
    {
        let names: Vec<_> = sizes.iter().map(|size| name(engine, *size)).collect();
        if !bench.wants(&names.iter().map(String::as_str).collect::<Vec<_>>()) {
            continue;
        }
        let store = bench.store(engine).await?;
        let mut pending = 0;
        for (size, name) in sizes.iter().zip(&names) {
            fill(&store, size - pending).await?;
            pending = *size;
            let times = claims(&store).await?;
            let row = Row::new(name, times.percentile(50), "us");
            let row = match names.first() {
                Some(first) if first != name => row.over(bench.row(first)).ratio_at_most(1.2),
                _ => row,
            };
            bench.push(row);
        }
        store.close().await;
    }
    Ok(())
}

fn name(engine: Engine, size: usize) -> String {
    format!("claim 16 {}, {size} pending: p50", engine.name())
}

/// Queues this many runs.
pub async fn fill(store: &Arc<dyn Store>, runs: usize) -> Result<()> {
    let input = Json::from_value(&RunInput::text("hello"))?;
    let batch = |runs| -> Vec<NewRun> {
        (0..runs)
            .map(|_| NewRun::with_json("noop", input.clone()))
            .collect()
    };
    let mut left = runs;
    while left > 0 {
        let mut submits = Vec::new();
        for _ in 0..FILLERS {
            let count = left.min(FILL);
            if count > 0 {
                submits.push(store.submit(batch(count)));
            }
            left -= count;
        }
        try_join_all(submits).await?;
    }
    Ok(())
}

/// A claim of up to `capacity` runs by this worker.
pub fn request(worker: WorkerId, capacity: usize) -> ClaimRequest {
    ClaimRequest {
        worker,
        capacity,
        agents: AgentFilter::Only(vec!["noop".into()]),
        lease_ttl: Duration::from_secs(3600),
        wait: Duration::ZERO,
    }
}

/// Claims, and puts as many runs back after each, so that the queue keeps its length.
async fn claims(store: &Arc<dyn Store>) -> Result<Times> {
    let worker = WorkerId::new();
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let begin = Instant::now();
        let claimed = store.claim(request(worker, BATCH)).await?;
        times.push(begin.elapsed());
        ensure!(claimed.len() == BATCH, "{} runs claimed", claimed.len());
        fill(store, BATCH).await?;
    }
    Ok(Times::new(times))
}
