//! Cancellation, pause, drain, lost leases.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{AgentFn, AgentRegistry, EventType, RunResult, RunState};
use adjutant_executor::RunnerConfig;
use adjutant_queue::{Command, RunQueue};

use crate::support::World;

/// Works for ever in one step; `polite` ends when it is told to.
fn busy(polite: bool, told: &Arc<AtomicBool>) -> AgentRegistry {
    let told = Arc::clone(told);
    AgentRegistry::new().with(AgentFn::new("busy", move |ctx| {
        let told = Arc::clone(&told);
        async move {
            ctx.step("work", || async {
                ctx.cancellation().await;
                told.store(ctx.cancelled(), SeqCst);
                if !polite {
                    std::future::pending::<()>().await;
                }
                Ok(())
            })
            .await?;
            Ok(RunResult::default())
        }
    }))
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_reaches_the_agent_within_one_heartbeat_and_aborts_it_after_the_grace() {
    let world = World::new();
    let told = Arc::new(AtomicBool::new(false));
    let _worker = world.worker(&busy(false, &told));
    let run = world.submit("busy").await;
    world.until(run, EventType::StepStarted).await;
    world
        .store
        .control(
            run,
            Command::Cancel {
                reason: "enough".to_owned(),
            },
        )
        .await
        .unwrap();
    tokio::time::sleep(World::config().heartbeat_interval + Duration::from_millis(10)).await;
    assert!(told.load(SeqCst), "told within a heartbeat");
    let view = world.end(run).await;
    assert_eq!(view.run.state, RunState::Cancelled);
    let took = view.run.finished_at.unwrap().since(view.run.created_at);
    assert!(
        took < Duration::from_secs(13),
        "aborted after the grace of 10 s: {took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_through_the_runner_reaches_the_agent_at_once() {
    let world = World::new();
    let told = Arc::new(AtomicBool::new(false));
    let worker = world.worker(&busy(true, &told));
    let run = world.submit("busy").await;
    world.until(run, EventType::StepStarted).await;
    worker.runner.cancel(run, "enough").await.unwrap();
    let view = world.end(run).await;
    assert_eq!(view.run.state, RunState::Cancelled);
    assert!(view.run.finished_at.unwrap().since(view.run.created_at) < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn no_new_step_begins_once_the_run_is_being_cancelled() {
    let world = World::new();
    let effects = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&effects);
    let agents = AgentRegistry::new().with(AgentFn::new("deaf", move |ctx| {
        let effects = Arc::clone(&counter);
        async move {
            ctx.step("first", || async {
                ctx.cancellation().await;
                Ok(())
            })
            .await?;
            ctx.step("second", || async { Ok(effects.fetch_add(1, SeqCst)) })
                .await?;
            Ok(RunResult::default())
        }
    }));
    let worker = world.worker(&agents);
    let run = world.submit("deaf").await;
    world.until(run, EventType::StepStarted).await;
    worker.runner.cancel(run, "enough").await.unwrap();
    assert_eq!(world.end(run).await.run.state, RunState::Cancelled);
    assert_eq!(effects.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_paused_run_stops_after_its_step_and_goes_on_when_resumed() {
    let world = World::new();
    let agents = AgentRegistry::new().with(AgentFn::new("steady", |ctx| async move {
        for n in 0..10 {
            ctx.step(&format!("s{n}"), || async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(())
            })
            .await?;
        }
        Ok(RunResult::output("all ten"))
    }));
    let _worker = world.worker(&agents);
    let run = world.submit("steady").await;
    world.until(run, EventType::StepCompleted).await;
    world.store.control(run, Command::Pause).await.unwrap();
    world.until(run, EventType::RunPaused).await;
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert!(world.count(run, &EventType::StepCompleted).await < 10);
    world.store.control(run, Command::Resume).await.unwrap();
    assert_eq!(world.output(run).await.as_str(), "\"all ten\"");
    assert_eq!(
        world.count(run, &EventType::StepCompleted).await,
        10,
        "each step once"
    );
    assert_eq!(world.end(run).await.run.attempt, 1);
}

fn napper(seconds: u64) -> AgentRegistry {
    AgentRegistry::new().with(AgentFn::new("napper", move |ctx| async move {
        ctx.step("nap", || async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(())
        })
        .await?;
        Ok(RunResult::default())
    }))
}

#[tokio::test(start_paused = true)]
async fn a_draining_worker_lets_short_runs_finish() {
    let world = World::new();
    let worker = world.worker(&napper(10));
    let run = world.submit("napper").await;
    world.until(run, EventType::StepStarted).await;
    let drained = worker.drain().await;
    assert_eq!((drained.finished, drained.released), (1, 0));
    assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_drained_run_is_given_back_at_no_cost_to_its_attempts() {
    let world = World::new();
    let config = RunnerConfig {
        drain_grace: Duration::from_secs(2),
        ..World::config()
    };
    let worker = world.worker_with(&napper(60), config);
    let run = world.submit("napper").await;
    world.until(run, EventType::StepStarted).await;
    let drained = worker.drain().await;
    assert_eq!((drained.finished, drained.released), (0, 1));
    let _next = world.worker(&napper(60));
    let view = world.end(run).await;
    assert_eq!(
        (view.run.state, view.run.attempt, view.run.deaths),
        (RunState::Succeeded, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_lease_is_lost_aborts_the_agent_and_writes_nothing() {
    let world = World::new();
    let dropped = Arc::new(AtomicU32::new(0));
    struct Witness(Arc<AtomicU32>);
    impl Drop for Witness {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let witness = Arc::clone(&dropped);
    let agents = AgentRegistry::new().with(AgentFn::new("held", move |ctx| {
        let witness = Witness(Arc::clone(&witness));
        async move {
            let _witness = witness;
            ctx.step("hold", std::future::pending::<Result<(), _>>)
                .await?;
            Ok(RunResult::default())
        }
    }));
    let _worker = world.worker(&agents);
    let run = world.submit("held").await;
    world.until(run, EventType::StepStarted).await;
    // Ending the run under the worker's hands is what a takeover looks like to it.
    let view = adjutant_queue::RunLookup::get(&*world.store, run)
        .await
        .unwrap()
        .unwrap();
    let lease = adjutant_queue::Lease {
        run,
        worker: view.run.held.unwrap().worker,
        epoch: view.run.epoch,
    };
    let end = adjutant_queue::Disposition::Cancelled {
        reason: "taken over".to_owned(),
    };
    world.store.settle(lease, end).await.unwrap();
    let events = world.events(run).await.len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(dropped.load(SeqCst), 1, "aborted with the next heartbeat");
    assert_eq!(world.events(run).await.len(), events);
}
