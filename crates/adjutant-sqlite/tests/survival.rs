//! What a store still knows after its process was killed, and what several handles see of one file.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "these are tests"
)]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use adjutant_core::{Json, RunId, RunInput, RunResult, RunState, WorkerId};
use adjutant_events::EventBus;
use adjutant_queue::{AgentFilter, ClaimRequest, Disposition, NewRun, RunLookup, RunQueue};
use adjutant_sqlite::{EngineStore, SqliteConfig};
use adjutant_store::{Commit, Op, Store};

/// Names the file to a child process of these tests.
const FILE: &str = "ADJUTANT_TEST_FILE";

fn run() -> NewRun {
    NewRun::new("a", &RunInput::text("hello")).unwrap()
}

fn claim(wait: Duration) -> ClaimRequest {
    ClaimRequest {
        worker: WorkerId::new(),
        capacity: 1,
        agents: AgentFilter::Any,
        lease_ttl: Duration::from_secs(60),
        wait,
    }
}

async fn open(path: &Path) -> EngineStore {
    adjutant_sqlite::open(SqliteConfig::at(path)).await.unwrap()
}

/// Does whole runs and tells of each thing that was acknowledged.
async fn work(store: &EngineStore) {
    loop {
        let id = store.submit(vec![run()]).await.unwrap()[0].run;
        println!("submitted {id}");
        let claimed = store
            .claim(claim(Duration::ZERO))
            .await
            .unwrap()
            .pop()
            .unwrap();
        let lease = claimed.lease;
        let ops = vec![Op::Checkpoint(Json::from("half"))];
        store
            .commit(Commit {
                lease,
                ops,
                end: None,
            })
            .await
            .unwrap();
        println!("saved {}", lease.run);
        let end = Some(Disposition::Succeeded(RunResult::output("done")));
        store
            .commit(Commit {
                lease,
                ops: Vec::new(),
                end,
            })
            .await
            .unwrap();
        println!("done {}", lease.run);
    }
}

/// Not a test by itself: the process that the next one kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let store = open(Path::new(&file)).await;
    tokio::join!(work(&store), work(&store), work(&store), work(&store));
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    for round in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_writes_until_it_is_killed",
                "--nocapture",
            ])
            .env(FILE, &file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut told = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            told.push(line.unwrap());
            if told.len() == 300 * (round + 1) {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let store = open(&file).await;
        let mut seen = 0;
        for (what, id) in told.iter().filter_map(|line| line.split_once(' ')) {
            let Ok(id) = id.parse::<RunId>() else {
                continue;
            };
            let view = store.get(id).await.unwrap().unwrap();
            match what {
                "saved" => assert_eq!(view.run.checkpoint, 1),
                "done" => assert_eq!(view.run.state, RunState::Succeeded),
                _ => {}
            }
            seen += 1;
        }
        // But for what the test harness itself says.
        assert!(seen >= 290, "{seen}");
        let report = store.check().await.unwrap();
        assert!(report.is_sound(), "{report:?}");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handles_share_one_queue_and_wake_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    // Both make the file at once.
    let (one, other) = tokio::join!(open(&file), open(&file));
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { other.claim(claim(Duration::from_secs(20))).await.unwrap() }
    });
    let started = Instant::now();
    let id = one.submit(vec![run()]).await.unwrap()[0].run;
    let lease = waiting.await.unwrap().pop().unwrap().lease;
    assert_eq!(lease.run, id);
    let settled = tokio::spawn({
        let one = one.clone();
        async move { one.settled(id, Duration::from_secs(20)).await.unwrap() }
    });
    let last = one.get(id).await.unwrap().unwrap().run.last_seq;
    let grown = tokio::spawn({
        let one = one.clone();
        async move { one.changed(id, last, Duration::from_secs(20)).await }
    });
    let end = Some(Disposition::Succeeded(RunResult::default()));
    other
        .commit(Commit {
            lease,
            ops: Vec::new(),
            end,
        })
        .await
        .unwrap();
    assert_eq!(settled.await.unwrap().run.state, RunState::Succeeded);
    grown.await.unwrap().unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "woken late: {:?}",
        started.elapsed()
    );
    // What one has in memory is not good any more once the other has written.
    assert!(
        one.commit(Commit {
            lease,
            ops: Vec::new(),
            end: None
        })
        .await
        .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handles_lease_no_run_twice() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    let (one, other) = tokio::join!(open(&file), open(&file));
    one.submit((0..200).map(|_| run()).collect()).await.unwrap();
    let take_all = |store: EngineStore| async move {
        let mut taken = Vec::new();
        while let Some(claimed) = store.claim(claim(Duration::ZERO)).await.unwrap().pop() {
            taken.push(claimed.lease.run);
            let end = Some(Disposition::Succeeded(RunResult::default()));
            let commit = Commit {
                lease: claimed.lease,
                ops: Vec::new(),
                end,
            };
            store.commit(commit).await.unwrap();
        }
        taken
    };
    let (a, b) = tokio::join!(take_all(one.clone()), take_all(other.clone()));
    let mut all: Vec<RunId> = a.into_iter().chain(b).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 200);
    assert!(one.check().await.unwrap().is_sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_openers_of_a_new_file_all_succeed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    let openers: Vec<_> = (0..8)
        .map(|_| {
            let file = file.clone();
            tokio::spawn(async move { adjutant_sqlite::open(SqliteConfig::at(file)).await })
        })
        .collect();
    for opener in openers {
        opener.await.unwrap().unwrap();
    }
}
