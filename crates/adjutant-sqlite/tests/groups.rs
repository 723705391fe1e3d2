//! Many requests share one sync, and one statement does for many rows.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

use std::time::Duration;

use adjutant_core::{Error, Json, RunInput, RunResult, RunState, WorkerId};
use adjutant_queue::{
    AgentFilter, ClaimRequest, Claimed, Disposition, NewRun, RunLookup, RunQueue,
};
use adjutant_sqlite::{EngineStore, SqliteConfig, WriterStats};
use adjutant_store::{Commit, Op, Store};
use tempfile::TempDir;

async fn fresh() -> (EngineStore, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = adjutant_sqlite::open(SqliteConfig::at(directory.path().join("store.db"))).await;
    (store.unwrap(), directory)
}

fn run() -> NewRun {
    NewRun::new("a", &RunInput::text("hello")).unwrap()
}

fn request(capacity: usize, wait: Duration) -> ClaimRequest {
    ClaimRequest {
        worker: WorkerId::new(),
        capacity,
        agents: AgentFilter::Only(vec!["a".into()]),
        lease_ttl: Duration::from_secs(60),
        wait,
    }
}

fn since(store: &EngineStore, before: WriterStats) -> WriterStats {
    let now = store.writer_stats();
    WriterStats {
        requests: now.requests - before.requests,
        commits: now.commits - before.commits,
        conflicts: now.conflicts - before.conflicts,
        calls: now.calls - before.calls,
    }
}

async fn all<T: Send + 'static>(
    calls: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = calls.map(tokio::spawn).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

/// Waits for work in the writer before anybody submits.
async fn parked_claim(store: &EngineStore) -> tokio::task::JoinHandle<Vec<Claimed>> {
    let before = store.writer_stats();
    let claiming = store.clone();
    let task = tokio::spawn(async move {
        claiming
            .claim(request(1, Duration::from_secs(20)))
            .await
            .unwrap()
    });
    while since(store, before).commits == 0 {
        tokio::task::yield_now().await;
    }
    task
}

#[tokio::test]
async fn concurrent_requests_share_commits() {
    let (store, _directory) = fresh().await;
    let before = store.writer_stats();
    all((0..200).map(|_| {
        let store = store.clone();
        async move { store.submit(vec![run()]).await.unwrap() }
    }))
    .await;
    let submits = since(&store, before);
    assert_eq!(submits.requests, 200);
    assert!(submits.commits <= 20, "{submits:?}");
    assert!(
        submits.calls <= 10 * submits.commits + submits.requests / 10,
        "{submits:?}"
    );

    let claimed = store.claim(request(200, Duration::ZERO)).await.unwrap();
    assert_eq!(claimed.len(), 200);
    let before = store.writer_stats();
    all(claimed.into_iter().map(|claimed| {
        let store = store.clone();
        let end = Some(Disposition::Succeeded(RunResult::output("done")));
        let ops = vec![Op::Checkpoint(Json::from("state"))];
        let lease = claimed.lease;
        async move { store.commit(Commit { lease, ops, end }).await.unwrap() }
    }))
    .await;
    let commits = since(&store, before);
    assert!(commits.commits <= 20, "{commits:?}");
    assert!(
        commits.calls <= 10 * commits.commits + commits.requests / 10,
        "{commits:?}"
    );
}

#[tokio::test]
async fn a_large_submit_takes_few_statements() {
    let (store, _directory) = fresh().await;
    let before = store.writer_stats();
    store
        .submit((0..5000).map(|_| run()).collect())
        .await
        .unwrap();
    let submit = since(&store, before);
    assert_eq!(submit.commits, 1);
    assert!(submit.calls < 5000 / 10, "{submit:?}");
    assert_eq!(store.stats().await.unwrap().ready, 5000);
}

#[tokio::test]
async fn a_submit_and_the_claim_that_waits_for_it_are_one_commit() {
    let (store, _directory) = fresh().await;
    let claiming = parked_claim(&store).await;
    let before = store.writer_stats();
    let id = store.submit(vec![run()]).await.unwrap()[0].run;
    let claimed = claiming.await.unwrap();
    assert_eq!(claimed[0].lease.run, id);
    assert_eq!(claimed[0].payload.input, run().input);
    let both = since(&store, before);
    assert_eq!(both.commits, 1);
    assert!(both.calls <= 4, "{both:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claimers_that_go_away_lose_no_run() {
    let (store, _directory) = fresh().await;
    for round in 0..100 {
        let claiming = parked_claim(&store).await;
        let id = store.submit(vec![run()]);
        // Now and then between the commit and its answer.
        let gone = async {
            tokio::time::sleep(Duration::from_micros(20 * round)).await;
            claiming.abort();
            claiming.await
        };
        let (id, gone) = tokio::join!(id, gone);
        let id = id.unwrap()[0].run;
        let lease = match gone {
            Ok(claimed) => claimed[0].lease,
            // Long before the lease expires.
            Err(_) => {
                let claimed = store
                    .claim(request(1, Duration::from_secs(20)))
                    .await
                    .unwrap();
                claimed[0].lease
            }
        };
        assert_eq!(lease.run, id);
        let end = Some(Disposition::Succeeded(RunResult::default()));
        let commit = Commit {
            lease,
            ops: Vec::new(),
            end,
        };
        store.commit(commit).await.unwrap();
    }
}

#[tokio::test]
async fn a_bad_request_does_not_spoil_its_group() {
    let (store, _directory) = fresh().await;
    let key = |text: &str| {
        let mut run = run();
        run.idempotency_key = Some("k".to_owned());
        run.input = Json::from(text);
        run
    };
    let answers = all(["one", "other", "one", "other"].into_iter().map(|text| {
        let store = store.clone();
        async move { store.submit(vec![run(), key(text)]).await }
    }))
    .await;
    let good = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(good, 2);
    let conflicts = answers
        .iter()
        .filter(|answer| matches!(answer, Err(Error::Conflict { .. })));
    assert_eq!(conflicts.count(), 2);
    // Two plain runs and the keyed one: the refused submits have left nothing.
    assert_eq!(store.stats().await.unwrap().ready, 3);
    assert!(store.check().await.unwrap().is_sound());
}

#[tokio::test]
async fn looking_for_work_in_vain_writes_nothing() {
    let (store, directory) = fresh().await;
    let log = directory.path().join("store.db-wal");
    let size = || std::fs::metadata(&log).unwrap().len();
    let before = size();
    assert!(
        store
            .claim(request(5, Duration::from_millis(60)))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        store
            .sweep(10, Duration::from_millis(60))
            .await
            .unwrap()
            .is_idle()
    );
    assert_eq!(size(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_while_writing_is_sound() {
    let (store, directory) = fresh().await;
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            for _ in 0..300 {
                store.submit(vec![run()]).await.unwrap();
                let claimed = store
                    .claim(request(1, Duration::ZERO))
                    .await
                    .unwrap()
                    .pop()
                    .unwrap();
                let end = Some(Disposition::Succeeded(RunResult::default()));
                let commit = Commit {
                    lease: claimed.lease,
                    ops: Vec::new(),
                    end,
                };
                store.commit(commit).await.unwrap();
            }
        }
    });
    while store
        .stats()
        .await
        .unwrap()
        .by_state
        .get(&RunState::Succeeded)
        .is_none_or(|n| *n < 20)
    {
        tokio::task::yield_now().await;
    }
    let to = directory.path().join("copy.db");
    store.backup(&to).await.unwrap();
    assert!(matches!(
        store.backup(&to).await,
        Err(Error::Invalid { .. })
    ));
    writing.await.unwrap();
    let copy = adjutant_sqlite::open(SqliteConfig::at(&to)).await.unwrap();
    let report = copy.check().await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!(copy.stats().await.unwrap().by_state[&RunState::Succeeded] >= 20);
    assert_eq!(
        store.stats().await.unwrap().by_state[&RunState::Succeeded],
        300
    );
}

#[tokio::test]
async fn a_claim_finds_the_best_of_many_agents() {
    let (store, _directory) = fresh().await;
    let runs = (0..300).map(|n| {
        let mut run = run();
        run.agent = format!("agent-{}", n % 30).into();
        run.priority = n % 7;
        run
    });
    store.submit(runs.collect()).await.unwrap();
    let mut any = request(10, Duration::ZERO);
    any.agents = AgentFilter::Any;
    let claimed = store.claim(any).await.unwrap();
    assert_eq!(claimed.len(), 10);
    assert!(claimed.iter().all(|claimed| claimed.run.priority == 6));
    let mut some = request(100, Duration::ZERO);
    some.agents = AgentFilter::Only(vec!["agent-3".into(), "agent-4".into()]);
    let claimed = store.claim(some).await.unwrap();
    assert!(
        claimed
            .iter()
            .all(|claimed| claimed.run.agent.as_str().starts_with("agent-"))
    );
    assert!((18..=20).contains(&claimed.len()), "{}", claimed.len());
}
