//! How long a run with a long journal takes to get back to where it was.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_core::{AgentFn, AgentRegistry, Json, RunInput, RunResult};
use adjutant_executor::{AgentRunner, RunnerConfig};
use adjutant_queue::{Command, NewRun};
use adjutant_store::Store;
use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    bench::{Bench, Engine},
    report::{Row, Times},
};

const STEPS: u32 = 10_000;
/// Times that the run is woken, each of which replays all steps.
const WAKES: usize = 9;
/// Between two wakes, so that the run is waiting again.
const PAUSE: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn measure(bench: &mut Bench) -> Result<()> {
    for engine in [Engine::Ram, Engine::Memory(1000)] {
        let name = format!("replay of {STEPS} steps, {}: p50", engine.name());
        let build = format!("a step of a long run, {}", engine.name());
        if !bench.wants(&[&name, &build]) {
            continue;
        }
        let store = bench.store(engine).await?;
        let (step, times) = replay(&store).await?;
        store.close().await;
        bench.push(Row::new(build, step * 1e6, "us"));
        bench.push(Row::new(name, times.percentile(50) / 1000.0, "ms"));
    }
    Ok(())
}

/// Seconds per step when the run is new, and the times from signal to the end of the replay.
async fn replay(store: &Arc<dyn Store>) -> Result<(f64, Times)> {
    let (send, mut arrived) = mpsc::unbounded_channel();
    let agent = AgentFn::new("long", move |ctx| {
        let send = send.clone();
        async move {
            for step in 0..STEPS {
                ctx.step("tiny", || async { Ok(step) }).await?;
            }
            // Whoever measures may have gone.
            let _ = send.send(Instant::now());
            for _ in 0..WAKES {
                ctx.wait_for_signal("go", None).await?;
            }
            Ok(RunResult::output("done"))
        }
    });
    let runner = AgentRunner::new(
        Arc::clone(store),
        AgentRegistry::new().with(agent),
        RunnerConfig::default(),
    )?;
    let stop = CancellationToken::new();
    let worker = tokio::spawn({
        let stop = stop.clone();
        async move { runner.run_loop(stop).await }
    });
    let begin = Instant::now();
    let run = NewRun::new("long", &RunInput::text("hello"))?;
    let run = store
        .submit(vec![run])
        .await?
        .first()
        .context("no run")?
        .run;
    let mut next = async || -> Result<Instant> {
        let arrived = tokio::time::timeout(PATIENCE, arrived.recv()).await;
        arrived
            .context("the long run took too long")?
            .context("the long run ended early")
    };
    let built = next().await?.duration_since(begin);
    let mut times = Vec::new();
    for _ in 0..WAKES {
        tokio::time::sleep(PAUSE).await;
        let begin = Instant::now();
        let signal = Command::Signal {
            name: "go".to_owned(),
            payload: Json::null(),
        };
        store.control(run, signal).await?;
        times.push(next().await?.duration_since(begin));
    }
    stop.cancel();
    worker.await??;
    Ok((built.as_secs_f64() / f64::from(STEPS), Times::new(times)))
}
