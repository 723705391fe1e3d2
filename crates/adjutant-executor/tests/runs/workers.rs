//! Many runs, many workers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{AgentFn, AgentRegistry, RunId, RunInput, RunResult};
use adjutant_executor::RunnerConfig;
use adjutant_queue::{NewRun, RunQueue};

use crate::support::World;

#[tokio::test(start_paused = true)]
async fn run_once_drives_one_run_and_says_when_there_is_none() {
    let world = World::new();
    let agents =
        AgentRegistry::new().with(AgentFn::new("a", |_| async { Ok(RunResult::default()) }));
    let runner = world.runner(&agents, World::config());
    assert!(!runner.run_once().await.unwrap());
    let run = world.submit("a").await;
    assert!(runner.run_once().await.unwrap());
    world.end(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_never_drives_more_runs_than_it_may() {
    let world = World::new();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, peak) = (Arc::clone(&now), Arc::clone(&most));
    let agents = AgentRegistry::new().with(AgentFn::new("a", move |_| {
        let (now, most) = (Arc::clone(&counter), Arc::clone(&peak));
        async move {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            now.fetch_sub(1, SeqCst);
            Ok(RunResult::default())
        }
    }));
    let _worker = world.worker_with(
        &agents,
        RunnerConfig {
            concurrency: 3,
            ..World::config()
        },
    );
    let runs = many(&world, 20).await;
    for run in runs {
        world.end(run).await;
    }
    assert_eq!(most.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn four_workers_execute_each_of_many_runs_exactly_once() {
    let world = World::new();
    let seen: Arc<Mutex<HashMap<RunId, u32>>> = Arc::default();
    let ledger = Arc::clone(&seen);
    let agents = AgentRegistry::new().with(AgentFn::new("a", move |ctx| {
        *ledger.lock().unwrap().entry(ctx.run_id()).or_default() += 1;
        async { Ok(RunResult::default()) }
    }));
    let _workers: Vec<_> = (0..4).map(|_| world.worker(&agents)).collect();
    let runs = many(&world, 8000).await;
    for run in &runs {
        world.end(*run).await;
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), runs.len());
    assert!(seen.values().all(|times| *times == 1));
}

async fn many(world: &World, count: usize) -> Vec<RunId> {
    let new = |_| NewRun::new("a", &RunInput::default()).unwrap();
    let submitted = world
        .store
        .submit((0..count).map(new).collect())
        .await
        .unwrap();
    submitted.into_iter().map(|one| one.run).collect()
}
