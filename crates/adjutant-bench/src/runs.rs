//! Runs from submit to result, through a worker, in a closed loop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_core::{AgentFn, AgentRegistry, Error, Json, RunInput, RunResult, RunState};
use adjutant_executor::{AgentRunner, RunnerConfig};
use adjutant_queue::NewRun;
use adjutant_servers::AppendFsync;
use adjutant_store::Store;
use anyhow::{Context, Result, ensure};
use tokio_util::sync::CancellationToken;

use crate::{
    bench::{Bench, Engine, Meter, processor_time},
    disk, group,
    report::{Row, Times},
    servers,
};

/// Runs that are under way at a time.
const IN_FLIGHT: [usize; 3] = [1, 16, 64];
/// More of them, where nothing has to be synced.
const IN_FLIGHT_MEMORY: [usize; 5] = [1, 16, 64, 256, 1024];
/// The same on servers, which many processes share.
const IN_FLIGHT_SERVER: [usize; 4] = [1, 16, 64, 256];
/// Runs in flight from which on a rate is held to its aim.
const BUSY: usize = 64;
/// Finished runs that memory keeps: what is kept must outlast the time until a client comes to ask for it.
const KEPT: usize = 10_000;
/// How long a client waits for a result before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// One line of the plan.
struct Plan {
    engine: Engine,
    clients: usize,
    /// Runs that a client submits at once, and then waits for.
    batch: usize,
}

/// What came of it.
struct Measured {
    rate: f64,
    times: Times,
    /// Processor time a run, clients included.
    processor: Duration,
}

impl Plan {
    const fn new(engine: Engine, clients: usize, batch: usize) -> Self {
        Self {
            engine,
            clients,
            batch,
        }
    }

    const fn in_flight(&self) -> usize {
        self.clients * self.batch
    }

    fn name(&self) -> String {
        let name = format!(
            "runs {}, {} in flight",
            self.engine.name(),
            self.in_flight()
        );
        match self.batch {
            1 => name,
            batch => format!("{name} (by {batch})"),
        }
    }
}

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let mut plans: Vec<_> = IN_FLIGHT
        .map(|width| Plan::new(Engine::Disk, width, 1))
        .into();
    if bench.has_ram() {
        plans.extend(IN_FLIGHT.map(|width| Plan::new(Engine::Ram, width, 1)));
    }
    for engine in servers::ENGINES {
        plans.extend(IN_FLIGHT_SERVER.map(|width| Plan::new(engine, width, 1)));
    }
    plans.extend(IN_FLIGHT_MEMORY.map(|width| Plan::new(Engine::Memory(KEPT), width, 1)));
    plans.push(Plan::new(Engine::Memory(KEPT), 64, 16));
    for plan in plans {
        let name = plan.name();
        let parts = ["p50", "p99", "processor"].map(|part| format!("{name}: {part}"));
        let [p50, p99, processor] = &parts;
        let yardstick = group::name(plan.in_flight());
        let disk = plan.engine == Engine::Disk;
        if disk && bench.wants(&[&yardstick, &name, p50, p99, processor]) {
            group::measure(bench, plan.in_flight()).await?;
        }
        if !bench.wants(&[&name, p50, p99, processor]) {
            continue;
        }
        let store = bench.store(plan.engine).await?;
        let measured = closed_loop(&store, &plan, bench.time).await?;
        store.close().await;
        push(bench, &plan, &parts, &measured);
    }
    Ok(())
}

fn push(bench: &mut Bench, plan: &Plan, [p50, p99, processor]: &[String; 3], measured: &Measured) {
    let times = &measured.times;
    let mut rate = Row::new(plan.name(), measured.rate, "runs/s");
    let mut median = Row::new(p50, times.percentile(50) / 1000.0, "ms");
    let used = measured.processor.as_secs_f64() * 1e6;
    let mut used = Row::new(processor, used, "us/run");
    let busy = plan.in_flight() >= BUSY;
    match plan.engine {
        Engine::Disk => {
            rate = rate.over(bench.row(&group::name(plan.in_flight())));
            if busy {
                rate = rate.ratio_at_least(0.8);
                used = used.at_most(200.0);
            }
            if plan.in_flight() == 1
                && let Some(serial) = bench.row(disk::SERIAL)
            {
                let serial = 1000.0 / serial.figure;
                median = median
                    .over(Some(&Row::new("1/S", serial, "ms")))
                    .at_most(4.0 * serial + 0.3);
            }
        }
        Engine::Ram if busy => {
            rate = rate.at_least(20_000.0);
            used = used.at_most(100.0);
        }
        // Two processors' time, shared by all the runs that the aim asks for.
        Engine::Memory(_) if busy => {
            rate = rate.at_least(250_000.0);
            used = used.at_most(8.0);
        }
        Engine::Postgres => {
            rate = rate.over(bench.row(&servers::yardstick(plan.engine)));
            if plan.in_flight() == BUSY {
                rate = rate.at_least(5000.0);
            }
        }
        Engine::Redis(fsync) => {
            rate = rate.over(bench.row(&servers::yardstick(plan.engine)));
            let is_aim = fsync == AppendFsync::EverySecond;
            if is_aim && plan.in_flight() == BUSY {
                rate = rate.at_least(15_000.0);
            }
            if is_aim && plan.in_flight() == 1 {
                median = median.at_most(1.0);
            }
        }
        Engine::Ram | Engine::Memory(_) => {}
    }
    bench.push(rate);
    bench.push(median);
    bench.push(Row::new(p99, times.percentile(99) / 1000.0, "ms"));
    bench.push(used);
}

/// An agent that saves 100 bytes and is done.
fn agents() -> AgentRegistry {
    AgentRegistry::new().with(AgentFn::new("noop", |ctx| async move {
        ctx.checkpoint(&"s".repeat(98)).await?;
        Ok(RunResult::output("done"))
    }))
}

async fn closed_loop(store: &Arc<dyn Store>, plan: &Plan, time: Duration) -> Result<Measured> {
    let config = RunnerConfig {
        concurrency: plan.in_flight(),
        ..RunnerConfig::default()
    };
    let runner = AgentRunner::new(Arc::clone(store), agents(), config)?;
    let stop = CancellationToken::new();
    let worker = tokio::spawn({
        let stop = stop.clone();
        async move { runner.run_loop(stop).await }
    });
    let input = Json::from_value(&RunInput::text("hello"))?;
    let mut meter = Meter::start(time);
    let clients: Vec<_> = (0..plan.clients)
        .map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(client(store, input.clone(), plan.batch, meter.clone()))
        })
        .collect();
    tokio::time::sleep_until(meter.from().into()).await;
    let before = processor_time();
    let mut times = Vec::new();
    for client in clients {
        let (counted, mine) = client.await??;
        meter.add(&counted);
        times.extend(mine);
    }
    let used = processor_time().saturating_sub(before);
    stop.cancel();
    worker.await??;
    let runs = u32::try_from(meter.total())?.max(1);
    Ok(Measured {
        rate: meter.rate(),
        times: Times::new(times),
        processor: used / runs,
    })
}

async fn client(
    store: Arc<dyn Store>,
    input: Json,
    batch: usize,
    mut meter: Meter,
) -> Result<(Meter, Vec<Duration>)> {
    let mut times = Vec::new();
    let mut forgotten = 0;
    while meter.is_running() {
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
            let now = Instant::now();
            if meter.count(now) {
                times.push(now - begin);
            }
        }
    }
    ensure!(
        forgotten * 20 <= times.len(),
        "{forgotten} of {} runs were forgotten before anyone asked",
        times.len()
    );
    Ok((meter, times))
}
