//! Events: how many can be appended, and how soon a follower has them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_core::{EventType, Json, NewEvent, RunId, RunInput};
use adjutant_queue::NewRun;
use adjutant_store::Store;
use anyhow::{Context, Result};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use crate::{
    bench::{Bench, Engine, Meter, Opener},
    disk,
    report::{Row, Times},
};

const MEMORY: Engine = Engine::Memory(1000);
/// Deliveries that are measured in memory; a store with files takes longer for each.
const SAMPLES: usize = 20_000;
const SAMPLES_FILE: usize = 2_000;
/// Events that are there already.
const LONG: usize = 100_000;
const FILL: usize = 1000;
const WAIT: Duration = Duration::from_secs(10);

/// Where the follower is, seen from whoever appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follower {
    SameThread,
    OtherThread,
}

pub async fn measure(bench: &mut Bench) -> Result<()> {
    for engine in [MEMORY, Engine::Ram, Engine::Disk] {
        let name = format!("events {}, appended one by one", engine.name());
        if !bench.wants(&[&name]) {
            continue;
        }
        let store = bench.store(engine).await?;
        let rate = appended(&store, bench.time).await?;
        store.close().await;
        let row = Row::new(name, rate, "events/s");
        // Each is a commit of its own.
        bench.push(match engine {
            Engine::Disk => row.over(bench.row(disk::SERIAL)),
            _ => row,
        });
    }
    deliveries(bench, MEMORY, Follower::SameThread, &[0, LONG]).await?;
    deliveries(bench, MEMORY, Follower::OtherThread, &[0, LONG]).await?;
    deliveries(bench, Engine::Ram, Follower::SameThread, &[0, LONG]).await?;
    deliveries(bench, Engine::Disk, Follower::SameThread, &[0]).await
}

async fn deliveries(
    bench: &mut Bench,
    engine: Engine,
    follower: Follower,
    sizes: &[usize],
) -> Result<()> {
    let place = match follower {
        Follower::SameThread => "same thread",
        Follower::OtherThread => "other thread",
    };
    let name =
        |size: usize, part: &str| format!("events {}, {place}, log {size}: {part}", engine.name());
    let first = name(0, "p50");
    let wanted: Vec<_> = sizes.iter().map(|size| name(*size, "p50")).collect();
    if !bench.wants(&wanted.iter().map(String::as_str).collect::<Vec<_>>()) {
        return Ok(());
    }
    for size in sizes.iter().copied() {
        let store = bench.opener(engine)?;
        let samples = match engine {
            Engine::Memory(_) => SAMPLES,
            _ => SAMPLES_FILE,
        };
        let times =
            tokio::task::spawn_blocking(move || delivery(store, follower, size, samples)).await??;
        let mut row = Row::new(name(size, "p50"), times.percentile(50), "us");
        if size > 0 {
            row = row.over(bench.row(&first));
        }
        // How soon the system wakes another thread is not ours to judge, and neither is the disk.
        if follower == Follower::SameThread && engine != Engine::Disk {
            if engine == MEMORY {
                row = row.at_most(2.0);
            }
            if size > 0 {
                row = row.ratio_at_most(1.2);
            }
        }
        bench.push(row);
        bench.push(Row::new(name(size, "p99"), times.percentile(99), "us"));
    }
    Ok(())
}

fn event() -> NewEvent {
    NewEvent::new(
        EventType::ProgressUpdate,
        Json::from("e".repeat(98).as_str()),
    )
}

/// A run that has this many events, and the last one's number.
async fn log(store: &Arc<dyn Store>, size: usize) -> Result<(RunId, u64)> {
    let run = NewRun::new("noop", &RunInput::text("hello"))?;
    let run = store
        .submit(vec![run])
        .await?
        .first()
        .context("no run")?
        .run;
    let mut last = store.append(run, vec![event()]).await?;
    for _ in 0..size / FILL {
        last = store.append(run, vec![event(); FILL]).await?;
    }
    Ok((run, last))
}

async fn appended(store: &Arc<dyn Store>, time: Duration) -> Result<f64> {
    let (run, mut last) = log(store, 0).await?;
    let mut meter = Meter::start(time);
    while meter.is_running() {
        for _ in 0..FILL {
            last = store.append(run, vec![event()]).await?;
            meter.count(Instant::now());
            if !meter.is_running() {
                break;
            }
        }
        // So long a log would be no usual one.
        store.trim(run, last).await?;
    }
    Ok(meter.rate())
}

/// Appends one event after another, each when the follower has had the one before.
fn delivery(store: Opener, follower: Follower, size: usize, samples: usize) -> Result<Times> {
    let runtime = runtime()?;
    let store = runtime.block_on(store.open())?;
    let (run, last) = runtime.block_on(log(&store, size))?;
    let (send, receive) = mpsc::channel::<Instant>(1);
    let followed = follow(Arc::clone(&store), run, last, send);
    if follower == Follower::SameThread {
        runtime.spawn(followed);
        return runtime.block_on(publish(store, run, receive, samples));
    }
    let other = self::runtime()?;
    let follower = std::thread::spawn(move || other.block_on(followed));
    let times = runtime.block_on(publish(store, run, receive, samples))?;
    // That the store has closed ends the follower.
    let _closed = follower.join();
    Ok(times)
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

async fn publish(
    store: Arc<dyn Store>,
    run: RunId,
    mut receive: mpsc::Receiver<Instant>,
    samples: usize,
) -> Result<Times> {
    let mut times = Vec::with_capacity(samples);
    for _ in 0..samples {
        let begin = Instant::now();
        store.append(run, vec![event()]).await?;
        let seen = receive.recv().await.context("the follower has gone")?;
        times.push(seen.saturating_duration_since(begin));
        // The follower is to be waiting again, as followers do.
        tokio::task::yield_now().await;
    }
    store.close().await;
    Ok(Times::new(times))
}

async fn follow(
    store: Arc<dyn Store>,
    run: RunId,
    mut after: u64,
    seen: mpsc::Sender<Instant>,
) -> Result<()> {
    loop {
        store.changed(run, after, WAIT).await?;
        for event in store.read(run, after, 100).await? {
            let now = Instant::now();
            after = event.seq;
            seen.send(now).await?;
        }
    }
}
