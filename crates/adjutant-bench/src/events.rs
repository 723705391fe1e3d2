//! Events in memory: how many, and how soon a follower has them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_core::{EventType, Json, NewEvent, RunId, RunInput};
use adjutant_events::EventBus;
use adjutant_queue::{NewRun, RunQueue};
use adjutant_store::{MemoryStore, Store};
use anyhow::{Context, Result};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use crate::{
    bench::Bench,
    report::{Row, Times},
};

const APPENDED: &str = "events memory, appended one by one";
const SAMPLES: usize = 20_000;
/// Events that are there already.
const LONG: usize = 100_000;
const FILL: usize = 1000;
const WAIT: Duration = Duration::from_secs(10);

pub async fn measure(bench: &mut Bench) -> Result<()> {
    if bench.wants(&[APPENDED]) {
        let rate = appended(bench.time).await?;
        bench.push(Row::new(APPENDED, rate, "events/s"));
    }
    for (threads, where_) in [(1, "same thread"), (2, "other thread")] {
        let name = |size: usize, what: &str| format!("events memory, {where_}, log {size}: {what}");
        let (short, long) = (name(0, "p50"), name(LONG, "p50"));
        if !bench.wants(&[&short, &long]) {
            continue;
        }
        for size in [0, LONG] {
            let times = tokio::task::spawn_blocking(move || delivery(threads, size)).await??;
            let mut row = Row::new(name(size, "p50"), times.percentile(50), "us");
            if size > 0 {
                row = row.over(bench.row(&short));
            }
            // How soon the system wakes another thread is not ours to judge.
            if threads == 1 {
                row = row.at_most(5.0);
            }
            if threads == 1 && size > 0 {
                row = row.ratio_at_most(1.2);
            }
            bench.push(row);
            bench.push(Row::new(name(size, "p99"), times.percentile(99), "us"));
        }
    }
    Ok(())
}

fn event() -> NewEvent {
    NewEvent::new(
        EventType::ProgressUpdate,
        Json::from("e".repeat(98).as_str()),
    )
}

/// A store with a run that has this many events, and the last one's number.
async fn log(size: usize) -> Result<(Arc<MemoryStore>, RunId, u64)> {
    let store = Arc::new(MemoryStore::new());
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
    Ok((store, run, last))
}

async fn appended(time: Duration) -> Result<f64> {
    let (store, run, mut last) = log(0).await?;
    let started = Instant::now();
    let mut count = 0_u32;
    // So long a log would be no usual one.
    while started.elapsed() < time {
        for _ in 0..FILL {
            last = store.append(run, vec![event()]).await?;
            count += 1;
        }
        store.trim(run, last).await?;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Appends one event after another, each when the follower has had the one before.
fn delivery(threads: usize, size: usize) -> Result<Times> {
    let runtime = runtime()?;
    let (store, run, last) = runtime.block_on(log(size))?;
    let (send, receive) = mpsc::channel::<Instant>(1);
    let follower = follow(Arc::clone(&store), run, last, send);
    if threads == 1 {
        runtime.spawn(follower);
        return runtime.block_on(publish(store, run, receive));
    }
    let other = self::runtime()?;
    let follower = std::thread::spawn(move || other.block_on(follower));
    let times = runtime.block_on(publish(store, run, receive))?;
    // That the store has closed ends the follower.
    let _closed = follower.join();
    Ok(times)
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

async fn publish(
    store: Arc<MemoryStore>,
    run: RunId,
    mut receive: mpsc::Receiver<Instant>,
) -> Result<Times> {
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
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
    store: Arc<MemoryStore>,
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
