//! Several nodes on one database.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

mod support;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use adjutant_core::{Error, RunState};
use adjutant_events::EventBus;
use adjutant_postgres::EngineStore;
use adjutant_queue::{RunLookup, RunQueue};
use adjutant_store::Store;
use sqlx::Connection;
use support::{Place, beside, claim, end, new_run, run, submit};

/// How long a call waits at most. Nodes that hear nothing look by themselves, every second; those that listen
/// trust what they hear for 5 seconds.
const LONG: Duration = Duration::from_secs(30);

/// One node waits for work, the other one brings it and waits for the end; both are woken.
async fn hand_over(from: &EngineStore, to: &EngineStore) {
    let worker = tokio::spawn({
        let to = to.clone();
        async move {
            let claimed = to.claim(claim(LONG)).await.unwrap().pop().unwrap();
            to.commit(end(claimed.lease)).await.unwrap();
            claimed.lease.run
        }
    });
    let id = submit(from).await;
    let grown = from.changed(id, 2, LONG);
    let (settled, grown) = tokio::join!(from.settled(id, LONG), grown);
    assert_eq!(settled.unwrap().run.state, RunState::Succeeded);
    grown.unwrap();
    assert_eq!(worker.await.unwrap(), id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_wake_each_other_and_do_not_wait_for_a_look() {
    let place = Place::new();
    let (one, other) = tokio::join!(place.open(), place.open());
    // The first ones find both listening.
    for _ in 0..3 {
        hand_over(&one, &other).await;
        hand_over(&other, &one).await;
    }
    let started = Instant::now();
    for _ in 0..25 {
        hand_over(&one, &other).await;
        hand_over(&other, &one).await;
    }
    // 100 waits. Had only some of them waited for a look, they would have taken longer than all of them may.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    one.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_of_which_no_message_tells_is_found_all_the_same() {
    let place = Place::new();
    let (one, other) = tokio::join!(place.open(), place.open());
    let model = submit(&one).await;
    let mut conn = beside(&place.config).await;
    run(
        &mut conn,
        "create temp table r as select * from runs; create temp table p as select * from payloads",
    )
    .await;
    let lease = one.claim(claim(LONG)).await.unwrap()[0].lease;
    assert_eq!(lease.run, model);
    one.commit(end(lease)).await.unwrap();
    hand_over(&one, &other).await;
    let worker = tokio::spawn({
        let other = other.clone();
        async move { other.claim(claim(LONG)).await.unwrap() }
    });
    // The same run again under another name, with nobody to announce it.
    run(
        &mut conn,
        "update r set id = '01a00000-0000-7000-8000-000000000001'; update p set run = (select id from r); \
         begin; insert into runs select * from r; insert into payloads select * from p; commit",
    )
    .await;
    let found = worker.await.unwrap()[0].lease.run;
    assert_ne!(found, model);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_listens_again_after_its_connections_were_cut() {
    let mut place = Place::new();
    place.config.connect = place.config.connect.clone().application_name("cut");
    let (one, other) = tokio::join!(place.open(), place.open());
    let mut conn = beside(&place.config).await;
    for _ in 0..3 {
        hand_over(&one, &other).await;
        run(
            &mut conn,
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cut'",
        )
        .await;
        hand_over(&other, &one).await;
    }
    let started = Instant::now();
    for _ in 0..10 {
        hand_over(&one, &other).await;
        hand_over(&other, &one).await;
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_lease_no_run_twice_and_leave_none() {
    const RUNS: usize = 400;
    let place = Place::new();
    let (one, other) = tokio::join!(place.open(), place.open());
    let runs = (0..RUNS).map(|_| new_run()).collect();
    one.submit(runs).await.unwrap();
    let work = |store: EngineStore| async move {
        let mut taken = Vec::new();
        while let Some(claimed) = store.claim(claim(Duration::ZERO)).await.unwrap().pop() {
            taken.push(claimed.lease.run);
            store.commit(end(claimed.lease)).await.unwrap();
        }
        taken
    };
    let stores = [&one, &other, &one, &other, &one, &other];
    let tasks: Vec<_> = stores.map(|store| tokio::spawn(work(store.clone()))).into();
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await.unwrap());
    }
    // A claim that does not wait may pass over what another node has locked at that moment.
    taken.extend(work(one.clone()).await);
    assert_eq!(taken.len(), RUNS);
    assert_eq!(taken.iter().collect::<HashSet<_>>().len(), RUNS);
    let stats = other.stats().await.unwrap();
    assert_eq!(
        stats.by_state.get(&RunState::Succeeded),
        Some(&(RUNS as u64))
    );
    assert!(one.check().await.unwrap().is_sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_nodes_that_start_at_once_make_the_tables_once() {
    for _ in 0..3 {
        let place = Place::new();
        let opened = (0..8).map(|_| {
            let config = place.config.clone();
            tokio::spawn(adjutant_postgres::open(config))
        });
        let opened: Vec<_> = opened.collect();
        let mut stores = Vec::new();
        for store in opened {
            stores.push(store.await.unwrap().unwrap());
        }
        let id = submit(&stores[0]).await;
        for store in &stores {
            assert!(store.get(id).await.unwrap().is_some());
        }
    }
}

#[tokio::test]
async fn tables_of_a_newer_version_are_left_alone() {
    let place = Place::new();
    place.open().await.close().await;
    let mut conn = beside(&place.config).await;
    run(
        &mut conn,
        "insert into schema_versions (version) values (99)",
    )
    .await;
    conn.close().await.unwrap();
    let refused = adjutant_postgres::open(place.config.clone()).await;
    let Err(Error::SchemaTooNew { found, known }) = refused else {
        panic!("{refused:?}");
    };
    assert!(found == 99 && known < found);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_of_one_database_share_nothing() {
    let (here, there) = (Place::new(), Place::new());
    let (one, other) = tokio::join!(here.open(), there.open());
    let id = submit(&one).await;
    assert!(other.get(id).await.unwrap().is_none());
    let found = other.claim(claim(Duration::ZERO)).await.unwrap();
    assert!(found.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_at_once_has_told_the_others() {
    let place = Place::new();
    let stays = place.open().await;
    hand_over(&stays, &stays).await;
    let began = Instant::now();
    for _ in 0..10 {
        let leaves = place.open().await;
        let waiting = tokio::spawn({
            let stays = stays.clone();
            async move { stays.claim(claim(LONG)).await.unwrap().pop().unwrap() }
        });
        let submitted = submit(&leaves).await;
        leaves.close().await;
        let claimed = waiting.await.unwrap();
        assert_eq!(claimed.lease.run, submitted);
        stays.commit(end(claimed.lease)).await.unwrap();
    }
    // Each look by itself comes after seconds.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    stays.close().await;
}
