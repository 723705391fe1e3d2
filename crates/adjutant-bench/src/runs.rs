//! Runs from submit to result, through a worker, in a closed loop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_core::{AgentFn, AgentRegistry, Error, Json, RunInput, RunResult, RunState};
use adjutant_executor::{AgentRunner, RunnerConfig};
use adjutant_queue::NewRun;
use adjutant_store::Store;
use anyhow::{Context, Result, ensure};
use tokio_util::sync::CancellationToken;

use crate::{
    bench::{Bench, Engine},
    disk,
    report::{Row, Times},
};

/// Runs that are under way at a time.
pub const IN_FLIGHT: [usize; 3] = [1, 16, 64];
/// How long a client waits for a result before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// One line of the plan.
struct Plan {
    engine: Engine,
    clients: usize,
    /// Runs that a client submits at once, and then waits for.
    batch: usize,
}

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let plan = |engine, clients, batch| Plan {
        engine,
        clients,
        batch,
    };
    let mut plans: Vec<_> = IN_FLIGHT.map(|width| plan(Engine::Disk, width, 1)).into();
    if bench.has_ram() {
        plans.extend(IN_FLIGHT.map(|width| plan(Engine::Ram, width, 1)));
    }
    plans.push(plan(Engine::Memory(1000), 64, 1));
    // What is kept must outlast the time until a client comes to ask for it.
    plans.push(plan(Engine::Memory(10_000), 64, 16));
    for plan in plans {
        let in_flight = plan.clients * plan.batch;
        let mut name = format!("runs {}, {in_flight} in flight", plan.engine.name());
        if plan.batch > 1 {
            name = format!("{name} (by {})", plan.batch);
        }
        let (p50, p99) = (format!("{name}: p50"), format!("{name}: p99"));
        let yardstick = disk::grouped(in_flight);
        let disk = plan.engine == Engine::Disk;
        if disk && bench.wants(&[&yardstick, &name, &p50, &p99]) {
            disk::measure_group(bench, in_flight).await?;
        }
        if !bench.wants(&[&name, &p50, &p99]) {
            continue;
        }
        let store = bench.store(plan.engine).await?;
        let (rate, times) = closed_loop(&store, &plan, bench.time).await?;
        store.close().await;

        let rate = Row::new(name, rate, "runs/s");
        let median = Row::new(p50, times.percentile(50) / 1000.0, "ms");
        let serial = bench.row(disk::SERIAL).map(|serial| 1000.0 / serial.figure);
        let (rate, median) = match (plan.engine, in_flight) {
            (Engine::Disk, width) => {
                let rate = rate.over(bench.row(&yardstick));
                match (width, serial) {
                    (64, _) => (rate.ratio_at_least(0.8), median),
                    (1, Some(serial)) => {
                        let one = Row::new("1/S", serial, "ms");
                        (rate, median.over(Some(&one)).at_most(4.0 * serial + 0.3))
                    }
                    _ => (rate, median),
                }
            }
            (Engine::Ram, 64) => (rate.at_least(20_000.0), median),
            (Engine::Ram, _) => (rate, median),
            (Engine::Memory(_), _) => (rate.at_least(250_000.0), median),
        };
        bench.push(rate);
        bench.push(median);
        bench.push(Row::new(p99, times.percentile(99) / 1000.0, "ms"));
    }
    Ok(())
}

/// An agent that saves 100 bytes and is done.
fn agents() -> AgentRegistry {
    AgentRegistry::new().with(AgentFn::new("noop", |ctx| async move {
        ctx.checkpoint(&"s".repeat(98)).await?;
        Ok(RunResult::output("done"))
    }))
}

async fn closed_loop(store: &Arc<dyn Store>, plan: &Plan, time: Duration) -> Result<(f64, Times)> {
    let config = RunnerConfig {
        concurrency: plan.clients * plan.batch,
        ..RunnerConfig::default()
    };
    let runner = AgentRunner::new(Arc::clone(store), agents(), config)?;
    let stop = CancellationToken::new();
    let worker = tokio::spawn({
        let stop = stop.clone();
        async move { runner.run_loop(stop).await }
    });
    let input = Json::from_value(&RunInput::text("hello"))?;
    let started = Instant::now();
    let clients: Vec<_> = (0..plan.clients)
        .map(|_| {
            tokio::spawn(client(
                Arc::clone(store),
                input.clone(),
                plan.batch,
                started + time,
            ))
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await??);
    }
    let took = started.elapsed().as_secs_f64();
    stop.cancel();
    worker.await??;
    let times = Times::new(times);
    Ok((times.len() as f64 / took, times))
}

async fn client(
    store: Arc<dyn Store>,
    input: Json,
    batch: usize,
    until: Instant,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    let mut forgotten = 0;
    while Instant::now() < until {
        let runs = (0..batch).map(|_| NewRun::with_json("noop", input.clone()));
        let begin = Instant::now();
        for submitted in store.submit(runs.collect()).await? {
            match store.settled(submitted.run, PATIENCE).await {
                Ok(view) => ensure!(
                    view.run.state == RunState::Succeeded,
                    "a run that does nothing is {}",
                    view.run.state
                ),
                // It has ended and was forgotten before this thread got its turn.
                Err(Error::RunNotFound { .. }) => forgotten += 1,
                Err(error) => return Err(error).context("failed to learn of a run's end"),
            }
            times.push(begin.elapsed());
        }
    }
    ensure!(
        forgotten * 20 <= times.len(),
        "{forgotten} of {} runs were forgotten before anyone asked",
        times.len()
    );
    Ok(times)
}
