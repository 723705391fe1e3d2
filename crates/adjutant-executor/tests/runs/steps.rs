//! Steps: once, recorded, replayed.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{AgentError, AgentFn, AgentRegistry, EventType, RetryPolicy, RunResult};
use adjutant_events::EventBus;

use crate::support::{LONG, World};

fn counters() -> (Arc<AtomicU32>, Arc<AtomicU32>) {
    (Arc::default(), Arc::default())
}

#[tokio::test(start_paused = true)]
async fn a_recorded_step_is_not_executed_by_the_worker_that_takes_over() {
    let world = World::new();
    let (first, second) = counters();
    let (a, b) = (Arc::clone(&first), Arc::clone(&second));
    let agents = AgentRegistry::new().with(AgentFn::new("two", move |ctx| {
        let (a, b) = (Arc::clone(&a), Arc::clone(&b));
        async move {
            let one = ctx
                .step("one", || async { Ok(a.fetch_add(1, SeqCst) + 1) })
                .await?;
            let two = ctx
                .step("two", || async {
                    if b.fetch_add(1, SeqCst) == 0 {
                        std::future::pending::<()>().await;
                    }
                    Ok(2)
                })
                .await?;
            Ok(RunResult::output(serde_json::json!([one, two])))
        }
    }));
    let worker = world.worker(&agents);
    let run = world.submit("two").await;
    world.until(run, EventType::StepCompleted).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    worker.crash().await;
    let _next = world.worker(&agents);
    assert_eq!(world.output(run).await.as_str(), "[1,2]");
    assert_eq!((first.load(SeqCst), second.load(SeqCst)), (1, 2));
    assert_eq!(world.count(run, &EventType::StepSkipped).await, 1);
    let view = world.end(run).await;
    assert_eq!(
        (view.run.attempt, view.run.deaths, view.run.epoch),
        (1, 1, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_input_changed_fails_the_run() {
    let world = World::new();
    let calls = Arc::new(AtomicU32::new(0));
    let agents = AgentRegistry::new().with(AgentFn::new("edited", move |ctx| {
        let version = calls.fetch_add(1, SeqCst);
        async move {
            let step = ctx.step_builder("ask").input(&version)?;
            step.run(|| async { Ok(version) }).await?;
            Err::<RunResult, _>(AgentError::retriable("again", "so that it replays"))
        }
    }));
    let _worker = world.worker(&agents);
    let run = world.submit("edited").await;
    assert_eq!(world.failure(run).await, "step_changed");
}

#[tokio::test(start_paused = true)]
async fn a_step_is_tried_as_often_as_its_policy_says() {
    let world = World::new();
    let agents = AgentRegistry::new().with(AgentFn::new("stubborn", |ctx| async move {
        let tries = AtomicU32::new(0);
        let retry = RetryPolicy {
            max_attempts: NonZeroU32::new(3).unwrap(),
            ..RetryPolicy::default()
        };
        let step = ctx.step_builder("flaky").retry(retry);
        let got = step
            .run(|| async {
                match tries.fetch_add(1, SeqCst) {
                    2 => Ok("third".to_owned()),
                    _ => Err(AgentError::retriable("busy", "not yet")),
                }
            })
            .await;
        got.map(|text: String| RunResult::output(text.as_str()))
    }));
    let _worker = world.worker(&agents);
    let run = world.submit("stubborn").await;
    assert_eq!(world.output(run).await.as_str(), "\"third\"");
    assert_eq!(world.count(run, &EventType::StepRetrying).await, 2);
    assert_eq!(
        world.end(run).await.run.attempt,
        1,
        "the run itself was tried once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_try_that_takes_too_long_is_a_failed_try() {
    let world = World::new();
    let agents = AgentRegistry::new().with(AgentFn::new("hung", |ctx| async move {
        let step = ctx.step_builder("hang").timeout(Duration::from_secs(3));
        let result = step
            .run(std::future::pending::<Result<(), AgentError>>)
            .await;
        Ok(RunResult::output(result.unwrap_err().info().kind.as_str()))
    }));
    let _worker = world.worker(&agents);
    let run = world.submit("hung").await;
    assert_eq!(world.output(run).await.as_str(), "\"step_timeout\"");
}

#[tokio::test(start_paused = true)]
async fn a_long_step_is_announced_before_it_ends() {
    let world = World::new();
    let agents = AgentRegistry::new().with(AgentFn::new("long", |ctx| async move {
        let nap = || async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(())
        };
        ctx.step("nap", nap).await?;
        Ok(RunResult::default())
    }));
    let _worker = world.worker(&agents);
    let run = world.submit("long").await;
    world.until(run, EventType::StepStarted).await;
    assert_eq!(world.count(run, &EventType::StepCompleted).await, 0);
    world.end(run).await;
}

#[tokio::test(start_paused = true)]
async fn events_of_parallel_branches_are_numbered_without_gaps() {
    let world = World::new();
    let agents = AgentRegistry::new().with(AgentFn::new("chatty", |ctx| async move {
        let talk = |who: usize| {
            let ctx = ctx.clone();
            async move {
                for n in 0..50 {
                    ctx.emit("said", serde_json::json!({ "who": who, "n": n }))
                        .await?;
                }
                Ok::<_, AgentError>(())
            }
        };
        futures::future::try_join_all((0..8).map(talk)).await?;
        Ok(RunResult::default())
    }));
    let _worker = world.worker(&agents);
    let run = world.submit("chatty").await;
    world.end(run).await;
    assert_eq!(world.events(run).await.len(), 400 + 3);
    world.store.changed(run, 0, LONG).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_there_for_the_next_attempt() {
    let world = World::new();
    let agents = AgentRegistry::new().with(AgentFn::new("saver", |ctx| async move {
        match ctx.get_state::<u32>()? {
            Some(state) => Ok(RunResult::output(serde_json::json!(state))),
            None => {
                ctx.checkpoint(&7).await?;
                Err(AgentError::retriable("again", "to see the state"))
            }
        }
    }));
    let _worker = world.worker(&agents);
    let run = world.submit("saver").await;
    assert_eq!(world.output(run).await.as_str(), "7");
}
