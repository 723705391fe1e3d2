//! What happens when connections break and servers stop.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{Error, RetryAdvice, RunId, RunState};
use adjutant_queue::{RunLookup, RunQueue};
use adjutant_redis::{EngineStore, RedisConfig};
use adjutant_servers::{RedisSentinel, RedisServer};
use adjutant_store::Store;
use support::{claim, durable, end, new_run, open, submit, until};

/// Does whole runs until it is told to stop, trying again as it is advised to. Returns those that it was told are done.
async fn keep_working(store: EngineStore, stop: Arc<AtomicBool>) -> Vec<RunId> {
    let mut done = Vec::new();
    while !stop.load(SeqCst) {
        let run = new_run();
        let id = run.id;
        while let Err(error) = store.submit(vec![run.clone()]).await {
            assert_ne!(error.retry(), RetryAdvice::Never, "{error:?}");
        }
        let claimed = store.claim(claim(Duration::from_millis(20))).await;
        for claimed in claimed.unwrap_or_default() {
            match store.commit(end(claimed.lease)).await {
                Ok(_) => done.push(claimed.run.id),
                // Whether it was written is not known: the lease tells when it ends.
                Err(error) => assert_ne!(error.retry(), RetryAdvice::Never, "{error:?}"),
            }
        }
        assert!(store.get(id).await.is_ok_and(|run| run.is_some()) || !stop.load(SeqCst));
    }
    done
}

/// What was acknowledged is there, once, and nothing contradicts itself.
async fn assert_whole(store: &EngineStore, done: &[RunId]) {
    for run in done {
        let view = store.get(*run).await.unwrap().unwrap();
        assert_eq!(view.run.state, RunState::Succeeded);
        // Submitted, claimed, checkpoint, result: doubled commits would show here.
        assert_eq!((view.run.epoch, view.run.checkpoint), (1, 1), "{run}");
    }
    let check = store.check().await.unwrap();
    assert!(check.is_sound(), "{check:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_nothing_and_double_nothing() {
    let server = durable();
    let stores = [open(&server).await, open(&server).await];
    let stop = Arc::new(AtomicBool::new(false));
    let workers = stores
        .iter()
        .flat_map(|store| (0..4).map(|_| store.clone()));
    let workers: Vec<_> = workers
        .map(|store| tokio::spawn(keep_working(store, stop.clone())))
        .collect();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        server
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .unwrap();
        server
            .command(&["CLIENT", "KILL", "TYPE", "pubsub"])
            .unwrap();
    }
    stop.store(true, SeqCst);
    let mut done = Vec::new();
    for worker in workers {
        done.extend(worker.await.unwrap());
    }
    assert!(done.len() > 100, "only {}", done.len());
    assert_whole(&stores[0], &done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_has_all_it_has_acknowledged() {
    let mut server = durable();
    let store = open(&server).await;
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..4)
        .map(|_| tokio::spawn(keep_working(store.clone(), stop.clone())))
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.kill().unwrap();
        server.restart().unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, SeqCst);
    let mut done = Vec::new();
    for worker in workers {
        done.extend(worker.await.unwrap());
    }
    assert!(!done.is_empty());
    assert_whole(&store, &done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_ends_while_the_server_stands_still_is_lost_and_taken_over() {
    let server = durable();
    let store = open(&server).await;
    let run = submit(&store).await;
    let mut short = claim(Duration::ZERO);
    short.lease_ttl = Duration::from_secs(1);
    let old = store.claim(short).await.unwrap().remove(0).lease;
    server.pause().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    server.resume().unwrap();
    until(|| async { store.sweep(10, Duration::ZERO).await.is_ok() }).await;
    let new = store.claim(claim(Duration::from_secs(10))).await.unwrap();
    assert_eq!(new[0].run.id, run);
    let late = store.commit(end(old)).await;
    assert!(matches!(late, Err(Error::LeaseLost { .. })), "{late:?}");
    store.commit(end(new[0].lease)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_fails_commits_in_time_and_they_can_be_tried_again() {
    let server = durable();
    let mut config = support::config(&server);
    config.response_timeout = Duration::from_millis(300);
    let store = adjutant_redis::open(config).await.unwrap();
    submit(&store).await;
    server.pause().unwrap();
    let error = store.submit(vec![new_run()]).await.unwrap_err();
    assert_ne!(error.retry(), RetryAdvice::Never);
    let text = format!("{error:?}");
    assert!(
        text.contains("in time") || text.contains("timed out"),
        "{text}"
    );
    server.resume().unwrap();
    until(|| async { store.submit(vec![new_run()]).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_and_work_goes_on() {
    let mut sentinel = RedisSentinel::start().unwrap();
    let config = RedisConfig::parse(&sentinel.url()).unwrap();
    let store = adjutant_redis::open(config).await.unwrap();
    let run = submit(&store).await;
    // Acknowledged writes reach the replica a moment later.
    let replica_has_all = |servers: &[RedisServer]| {
        let offset = |server: &RedisServer, name: &str| {
            let info = server.command(&["INFO", "replication"]).unwrap();
            let line = info
                .lines()
                .find_map(|line| line.strip_prefix(name).map(str::to_owned));
            line.unwrap_or_default().trim().to_owned()
        };
        offset(&servers[0], "master_repl_offset:") == offset(&servers[1], "slave_repl_offset:")
    };
    until(|| {
        let all = replica_has_all(sentinel.servers_mut());
        async move { all }
    })
    .await;
    sentinel.servers_mut()[0].kill().unwrap();
    until(|| async { store.submit(vec![new_run()]).await.is_ok() }).await;
    let claimed = store.claim(claim(Duration::from_secs(5))).await.unwrap();
    assert_eq!(claimed[0].run.id, run);
    store.commit(end(claimed[0].lease)).await.unwrap();
}
