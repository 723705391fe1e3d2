//! How fast the memory engine is, without an executor around it.
//!
//! `cargo run --release -p adjutant-store --example memory_speed [runs] [finished runs to keep]`
//!
//! Keeping fewer finished runs is faster: what is kept has left the processor's cache when it is forgotten.
#![allow(clippy::print_stdout, reason = "an example that prints figures")]

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_core::{EventType, Json, NewEvent, RunInput, RunResult, WorkerId};
use adjutant_queue::{AgentFilter, ClaimRequest, Claimed, Disposition, NewRun, RunQueue};
use adjutant_store::{Commit, MemoryConfig, MemoryStore, Op, Store};

const BATCH: usize = 64;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let runs: usize = args.next().map_or(Ok(200_000), |text| text.parse())?;
    let keep: usize = args.next().map_or(Ok(10_000), |text| text.parse())?;
    for (name, submit) in [("one submit per run", 1), ("batches of submits", BATCH)] {
        let store = store(keep);
        let took = parts(&store, runs, submit).await?;
        let all: Duration = took.iter().map(|(_, took)| *took).sum();
        println!("one task, {name}: {:.0} runs/s", rate(runs, all));
        for (part, took) in took {
            println!(
                "  {part:<22} {:>6.0} ns per run",
                took.as_secs_f64() * 1e9 / runs as f64
            );
        }
    }
    for tasks in [2, 8] {
        let store = store(keep);
        let begin = Instant::now();
        let each = runs / tasks;
        let workers: Vec<_> = (0..tasks)
            .map(|_| tokio::spawn(worker(Arc::clone(&store), each)))
            .collect();
        for worker in workers {
            worker.await?.map_err(|error| error.to_string())?;
        }
        println!(
            "{tasks} tasks on two threads: {:.0} runs/s",
            rate(each * tasks, begin.elapsed())
        );
    }
    Ok(())
}

fn store(keep_finished: usize) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::with(MemoryConfig {
        keep_finished,
        ..MemoryConfig::default()
    }))
}

fn rate(runs: usize, took: Duration) -> f64 {
    runs as f64 / took.as_secs_f64()
}

type Parts = Vec<(&'static str, Duration)>;

/// One task does everything, part by part, in rounds of [`BATCH`] runs.
async fn parts(store: &MemoryStore, runs: usize, submit: usize) -> Result<Parts, Box<dyn Error>> {
    let input = Json::from_value(&RunInput::text("hello"))?;
    let mut took = [Duration::ZERO; 4];
    for _ in 0..runs / BATCH {
        let new: Vec<_> = (0..BATCH)
            .map(|_| NewRun::with_json("echo", input.clone()))
            .collect();
        let begin = Instant::now();
        for batch in new.chunks(submit) {
            store.submit(batch.to_vec()).await?;
        }
        took[0] += begin.elapsed();
        let begin = Instant::now();
        let claimed = store.claim(request()).await?;
        took[1] += begin.elapsed();
        let begin = Instant::now();
        for run in &claimed {
            store.commit(saving(run)).await?;
        }
        took[2] += begin.elapsed();
        let begin = Instant::now();
        for run in &claimed {
            store.commit(ending(run)).await?;
        }
        took[3] += begin.elapsed();
    }
    let names = ["submit", "claim", "commit checkpoint", "commit end"];
    Ok(names.into_iter().zip(took).collect())
}

async fn worker(store: Arc<MemoryStore>, runs: usize) -> adjutant_core::Result<()> {
    let input = Json::from_value(&RunInput::text("hello")).unwrap_or_default();
    for _ in 0..runs / BATCH {
        for _ in 0..BATCH {
            store
                .submit(vec![NewRun::with_json("echo", input.clone())])
                .await?;
        }
        for run in store.claim(request()).await? {
            store.commit(saving(&run)).await?;
            store.commit(ending(&run)).await?;
        }
    }
    Ok(())
}

fn request() -> ClaimRequest {
    ClaimRequest {
        worker: WorkerId::new(),
        capacity: BATCH,
        agents: AgentFilter::Only(vec!["echo".into()]),
        lease_ttl: Duration::from_secs(30),
        wait: Duration::ZERO,
    }
}

fn saving(run: &Claimed) -> Commit {
    let state = Json::from("half way");
    let event = NewEvent::new(EventType::StateCheckpoint, state.clone());
    Commit {
        lease: run.lease,
        ops: vec![Op::Checkpoint(state), Op::Event(event)],
        end: None,
    }
}

fn ending(run: &Claimed) -> Commit {
    Commit {
        lease: run.lease,
        ops: Vec::new(),
        end: Some(Disposition::Succeeded(RunResult::output(Json::from(
            "done",
        )))),
    }
}
