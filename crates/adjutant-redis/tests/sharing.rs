//! Several handles on one store, as several machines have them.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

mod support;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use adjutant_core::{Error, RunId};
use adjutant_queue::{RunLookup, RunQueue};
use adjutant_redis::EngineStore;
use adjutant_servers::RedisServer;
use adjutant_store::Store;
use support::{claim, durable, end, open, submit};

/// Without news a waiting claim looks once in a second.
const HEARD: Duration = Duration::from_millis(500);

/// Does so many runs, and says which.
async fn work(
    store: EngineStore,
    count: usize,
    done: std::sync::Arc<std::sync::Mutex<Vec<RunId>>>,
) {
    while done.lock().unwrap().len() < count {
        for claimed in store.claim(claim(Duration::from_millis(50))).await.unwrap() {
            store.commit(end(claimed.lease)).await.unwrap();
            done.lock().unwrap().push(claimed.run.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_run_is_done_once_whoever_submits_and_whoever_works() {
    const RUNS: usize = 600;
    let server = durable();
    let stores = [
        open(&server).await,
        open(&server).await,
        open(&server).await,
    ];
    let done = std::sync::Arc::<std::sync::Mutex<Vec<RunId>>>::default();
    let workers = stores
        .iter()
        .flat_map(|store| (0..4).map(|_| store.clone()));
    let workers: Vec<_> = workers
        .map(|store| tokio::spawn(work(store, RUNS, done.clone())))
        .collect();
    let mut submitted = BTreeSet::new();
    for n in 0..RUNS {
        submitted.insert(submit(&stores[n % 3]).await);
        if n % 150 == 70 {
            server.command(&["SCRIPT", "FLUSH"]).unwrap();
        }
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let done = done.lock().unwrap().clone();
    assert_eq!(done.len(), RUNS);
    assert_eq!(done.iter().copied().collect::<BTreeSet<_>>(), submitted);
    let check = stores[0].check().await.unwrap();
    assert!(check.is_sound(), "{check:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_hear_of_each_other() {
    let server = RedisServer::start().unwrap();
    let (here, there) = (open(&server).await, open(&server).await);
    for _ in 0..5 {
        let waiting = tokio::spawn({
            let there = there.clone();
            async move { there.claim(claim(Duration::from_secs(20))).await.unwrap() }
        });
        let run = submit(&here).await;
        let submitted = Instant::now();
        let claimed = waiting.await.unwrap();
        assert!(submitted.elapsed() < HEARD, "{:?}", submitted.elapsed());
        let settled = tokio::spawn({
            let here = here.clone();
            async move { here.settled(run, Duration::from_secs(20)).await.unwrap() }
        });
        there.commit(end(claimed[0].lease)).await.unwrap();
        let ended = Instant::now();
        assert!(settled.await.unwrap().outcome.is_some());
        assert!(ended.elapsed() < HEARD, "{:?}", ended.elapsed());
    }
    assert_eq!(here.writer_stats().conflicts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_handle_has_changed_is_seen_at_once() {
    let server = RedisServer::start().unwrap();
    let (here, there) = (open(&server).await, open(&server).await);
    for _ in 0..200 {
        let run = submit(&here).await;
        let claimed = there.claim(claim(Duration::ZERO)).await.unwrap().remove(0);
        assert_eq!(claimed.run.id, run);
        // The first handle remembers the run in line.
        let committed = here.commit(end(claimed.lease)).await.unwrap();
        let seen = there.get(run).await.unwrap().unwrap();
        assert_eq!(seen.run.last_seq, committed.last_seq);
        let again = there.commit(end(claimed.lease)).await;
        assert!(matches!(again, Err(Error::LeaseLost { .. })), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrency_limit_holds_across_handles() {
    let server = RedisServer::start().unwrap();
    let stores = [open(&server).await, open(&server).await];
    let mut runs = Vec::new();
    for _ in 0..40 {
        let mut run = support::new_run();
        run.concurrency = Some(adjutant_queue::Concurrency {
            key: "k".into(),
            limit: std::num::NonZeroU32::new(2).unwrap(),
        });
        runs.push(run);
    }
    stores[0].submit(runs).await.unwrap();
    let running = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let done = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut workers = Vec::new();
    for n in 0..6 {
        let (store, running, done) = (stores[n % 2].clone(), running.clone(), done.clone());
        workers.push(tokio::spawn(async move {
            use std::sync::atomic::Ordering::SeqCst;
            while done.load(SeqCst) < 40 {
                for claimed in store
                    .claim(claim(Duration::from_millis(100)))
                    .await
                    .unwrap()
                {
                    assert!(running.fetch_add(1, SeqCst) < 2);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, SeqCst);
                    store.commit(end(claimed.lease)).await.unwrap();
                    done.fetch_add(1, SeqCst);
                }
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let stats = stores[1].stats().await.unwrap();
    assert_eq!((stats.ready, stats.blocked), (0, 0));
}
