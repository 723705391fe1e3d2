//! What becomes of writes when connections break or the server goes away.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use adjutant_core::{Json, NewEvent, RetryAdvice, RunId, RunResult, RunState};
use adjutant_events::EventBus;
use adjutant_postgres::{EngineStore, PostgresConfig};
use adjutant_queue::{Disposition, Lease, RunLookup, RunQueue};
use adjutant_servers::PostgresServer;
use adjutant_store::{Commit, Op, Store};
use support::{
    Place, beside, claim, new_run,
    proxy::{Lose, Proxy},
    run, socket, submit, words,
};

/// A commit that tells how often it has happened.
fn note(lease: Lease) -> Commit {
    Commit {
        lease,
        ops: vec![Op::Event(NewEvent::new("note", Json::from("once")))],
        end: None,
    }
}

fn finish(lease: Lease) -> Commit {
    Commit {
        end: Some(Disposition::Succeeded(RunResult::output("done"))),
        ..note(lease)
    }
}

async fn notes(store: &EngineStore, run: RunId) -> usize {
    let events = store.read(run, 0, 1000).await.unwrap();
    let notes = events.iter().filter(|e| e.event_type.as_str() == "note");
    notes.count()
}

/// The place behind a proxy.
async fn behind_proxy(config: &PostgresConfig) -> (Proxy, PostgresConfig) {
    let proxy = Proxy::to(socket(config)).await;
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres", proxy.port);
    let mut through = PostgresConfig::parse(&url).unwrap();
    through.schema = config.schema.clone();
    (proxy, through)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_happens_once_and_is_acknowledged() {
    let place = Place::new();
    let (proxy, config) = behind_proxy(&place.config).await;
    let store = adjutant_postgres::open(config).await.unwrap();
    for (n, lose) in [Lose::Answer, Lose::Call, Lose::Answer, Lose::Call]
        .into_iter()
        .enumerate()
    {
        let cut = || proxy.lose(lose, "; commit");
        cut();
        let id = submit(&store).await;
        cut();
        let claimed = store.claim(claim(Duration::ZERO)).await.unwrap();
        let lease = claimed[0].lease;
        assert_eq!((lease.run, lease.epoch), (id, 1), "{lose:?}");
        cut();
        let beats = store.heartbeat(&[lease], Duration::from_secs(60)).await;
        assert_eq!(beats.unwrap().len(), 1);
        for made in 1..=3 {
            cut();
            store.commit(note(lease)).await.unwrap();
            assert_eq!(notes(&store, id).await, made, "{lose:?}");
        }
        cut();
        store.commit(finish(lease)).await.unwrap();
        assert_eq!(notes(&store, id).await, 4, "{lose:?}");
        assert_eq!(proxy.losses(), (n + 1) * 7);
    }
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.by_state.get(&RunState::Succeeded), Some(&4));
    assert!(store.check().await.unwrap().is_sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_lost_within_a_transaction_is_made_again() {
    let place = Place::new();
    let (proxy, config) = behind_proxy(&place.config).await;
    let store = adjutant_postgres::open(config).await.unwrap();
    for text in ["adj_lock", "adj_ready", "prepare adj_write"] {
        for lose in [Lose::Call, Lose::Answer] {
            proxy.lose(lose, text);
            let id = submit(&store).await;
            let lease = store.claim(claim(Duration::ZERO)).await.unwrap()[0].lease;
            store.commit(finish(lease)).await.unwrap();
            assert_eq!((lease.run, notes(&store, id).await), (id, 1));
        }
    }
    assert!(proxy.losses() >= 5);
    assert!(store.check().await.unwrap().is_sound());
}

/// Does whole runs until it is told to stop, and returns those that were acknowledged as done.
async fn work(store: EngineStore, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Vec<RunId> {
    let mut finished = Vec::new();
    while !stop.load(SeqCst) {
        submit(&store).await;
        let Some(claimed) = store.claim(claim(Duration::ZERO)).await.unwrap().pop() else {
            continue;
        };
        store.commit(note(claimed.lease)).await.unwrap();
        store.commit(finish(claimed.lease)).await.unwrap();
        finished.push(claimed.lease.run);
        done.fetch_add(1, SeqCst);
    }
    finished
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_lose_nothing_and_double_nothing() {
    let mut place = Place::new();
    place.config.connect = place.config.connect.clone().application_name("victim");
    let store = place.open().await;
    let stop = Arc::<AtomicBool>::default();
    let done = Arc::<AtomicUsize>::default();
    let tasks: Vec<_> = (0..6)
        .map(|_| tokio::spawn(work(store.clone(), Arc::clone(&stop), Arc::clone(&done))))
        .collect();
    let mut conn = beside(&place.config).await;
    for kill in 1..=40 {
        // Some of them in the middle of a write.
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
                   where application_name = 'victim' and query not like '%listen%'";
        run(&mut conn, sql).await;
        support::until(|| async { done.load(SeqCst) >= kill * 5 || stop_on_panic(&tasks) }).await;
    }
    stop.store(true, SeqCst);
    let mut finished = Vec::new();
    for task in tasks {
        finished.extend(task.await.unwrap());
    }
    for id in &finished {
        let view = store.get(*id).await.unwrap().unwrap();
        assert_eq!((view.run.state, view.run.epoch), (RunState::Succeeded, 1));
        assert_eq!(notes(&store, *id).await, 2);
    }
    let stats = store.stats().await.unwrap();
    let succeeded = stats.by_state.get(&RunState::Succeeded).copied();
    assert_eq!(succeeded, Some(finished.len() as u64));
    assert!(store.check().await.unwrap().is_sound());
}

fn stop_on_panic<T>(tasks: &[tokio::task::JoinHandle<T>]) -> bool {
    tasks.iter().any(tokio::task::JoinHandle::is_finished)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_for_longer_than_a_lease_is_used_again_when_it_goes_on() {
    const LEASE: Duration = Duration::from_millis(300);
    let server = PostgresServer::start().unwrap();
    let config = PostgresConfig::parse(&server.url()).unwrap();
    let store = adjutant_postgres::open(config).await.unwrap();
    let id = submit(&store).await;
    let mut short = claim(Duration::ZERO);
    short.lease_ttl = LEASE;
    let lease = store.claim(short).await.unwrap()[0].lease;
    server.pause().unwrap();
    let hung = Instant::now();
    let mut beat = tokio::spawn({
        let store = store.clone();
        async move { store.heartbeat(&[lease], LEASE).await }
    });
    while hung.elapsed() < 2 * LEASE {
        let waited = tokio::time::timeout(LEASE, &mut beat).await;
        assert!(waited.is_err(), "nobody can have answered");
    }
    server.resume().unwrap();
    // Whether it came too late depends on whether somebody else has taken the run meanwhile; nobody has.
    let _beats = beat.await.unwrap().unwrap();
    // The holder is silent from now on, so the run goes to the next one.
    let swept = store.sweep(10, Duration::from_secs(60)).await.unwrap();
    assert_eq!(swept.recovered, 1);
    let again = store.claim(claim(Duration::ZERO)).await.unwrap()[0].lease;
    assert_eq!((again.run, again.epoch), (id, 2));
    assert!(store.commit(note(lease)).await.is_err());
    store.commit(finish(again)).await.unwrap();
    assert_eq!(notes(&store, id).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_not_besieged_and_is_used_again_when_it_is_back() {
    let mut server = PostgresServer::start().unwrap();
    let direct = PostgresConfig::parse(&server.url()).unwrap();
    let (proxy, config) = behind_proxy(&direct).await;
    let store = adjutant_postgres::open(config).await.unwrap();
    submit(&store).await;
    let lease = store.claim(claim(Duration::ZERO)).await.unwrap()[0].lease;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.claim(claim(Duration::from_secs(60))).await }
    });
    server.stop().unwrap();
    let (before, away) = (proxy.connections(), Instant::now());
    // Callers who do not wait between attempts.
    for _ in 0..20 {
        let error = store.commit(note(lease)).await.unwrap_err();
        assert!(matches!(error.retry(), RetryAdvice::After(_)), "{error:?}");
        assert!(words(&error).contains("host and port"), "{error:?}");
    }
    let attempts = proxy.connections() - before;
    let allowed = 40 + usize::try_from(away.elapsed().as_millis() / 200).unwrap();
    assert!(attempts <= allowed, "{attempts} in {:?}", away.elapsed());
    server.restart().unwrap();
    support::until(|| async { store.commit(note(lease)).await.is_ok() }).await;
    assert_eq!(notes(&store, lease.run).await, 1);
    // It waits again, or was told to ask again.
    let id = submit(&store).await;
    let claimed = match waiting.await.unwrap() {
        Ok(claimed) => claimed,
        Err(error) => {
            assert!(matches!(error.retry(), RetryAdvice::After(_)), "{error:?}");
            store.claim(claim(Duration::ZERO)).await.unwrap()
        }
    };
    assert_eq!(claimed[0].lease.run, id);
    store.commit(finish(lease)).await.unwrap();
    assert_eq!(notes(&store, lease.run).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_crash_of_the_server() {
    let mut server = PostgresServer::with(adjutant_servers::PostgresSettings {
        fsync: true,
        ..adjutant_servers::PostgresSettings::default()
    })
    .unwrap();
    let config = PostgresConfig::parse(&server.url()).unwrap();
    let store = adjutant_postgres::open(config).await.unwrap();
    let mut submitted = Vec::new();
    for _ in 0..3 {
        for _ in 0..20 {
            submitted.push(submit(&store).await);
        }
        server.kill().unwrap();
        server.restart().unwrap();
        // The same run again is the same run, so trying again is safe.
        let run = new_run();
        support::until(|| async { store.submit(vec![run.clone()]).await.is_ok() }).await;
        submitted.push(run.id);
    }
    for id in &submitted {
        assert!(store.get(*id).await.unwrap().is_some());
    }
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.ready, submitted.len() as u64);
    assert!(store.check().await.unwrap().is_sound());
}
