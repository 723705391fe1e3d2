//! Fan-out: spawned once, joined by policy, cancelled with the parent.

use std::time::Duration;

use adjutant_core::{
    AgentError, AgentFn, AgentRegistry, Delegate, EventType, FailurePolicy, RunInput, RunResult,
    RunState,
};
use adjutant_queue::{Command, RunFilter, RunLookup, RunQueue};
use serde_json::json;

use crate::support::World;

fn family(policy: FailurePolicy) -> AgentRegistry {
    AgentRegistry::new()
        .with(AgentFn::new("parent", move |ctx| async move {
            let mut fan = Delegate::new("fan").policy(policy);
            for n in 0..3 {
                fan = fan.child("child", RunInput::data(json!(n)));
            }
            let outcomes = ctx.delegate(fan).await?;
            let states: Vec<_> = outcomes
                .iter()
                .map(|child| json!([child.status, child.output]))
                .collect();
            Ok(RunResult::output(json!(states)))
        }))
        .with(AgentFn::new("child", |ctx| async move {
            match ctx.input_data::<u32>()? {
                1 => Err(AgentError::permanent("odd", "on purpose")),
                2 => {
                    ctx.sleep("nap", Duration::from_secs(100)).await?;
                    Ok(RunResult::output(json!(20)))
                }
                n => Ok(RunResult::output(json!(n))),
            }
        }))
}

#[tokio::test(start_paused = true)]
async fn settle_returns_every_outcome_in_order() {
    let world = World::new();
    let _worker = world.worker(&family(FailurePolicy::Settle));
    let run = world.submit("parent").await;
    let output = world.output(run).await;
    assert_eq!(
        output.as_str(),
        r#"[["succeeded",0],["failed",null],["succeeded",20]]"#
    );
    assert_eq!(world.count(run, &EventType::SubAgentStart).await, 3);
    assert_eq!(world.count(run, &EventType::SubAgentEnd).await, 3);
}

#[tokio::test(start_paused = true)]
async fn all_waits_for_every_child_and_then_fails() {
    let world = World::new();
    let _worker = world.worker(&family(FailurePolicy::All));
    let run = world.submit("parent").await;
    assert_eq!(world.failure(run).await, "child_failed");
    let took = world
        .end(run)
        .await
        .run
        .finished_at
        .unwrap()
        .since(world.end(run).await.run.created_at);
    assert!(took >= Duration::from_secs(100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn fail_fast_cancels_the_siblings_of_a_failed_child() {
    let world = World::new();
    let _worker = world.worker(&family(FailurePolicy::FailFast));
    let run = world.submit("parent").await;
    assert_eq!(world.failure(run).await, "child_failed");
    let children = world
        .store
        .list(RunFilter {
            parent: Some(run),
            ..RunFilter::default()
        })
        .await
        .unwrap();
    let mut states = Vec::new();
    for child in children {
        states.push(world.end(child.id).await.run.state);
    }
    states.sort_unstable();
    assert_eq!(
        states,
        [RunState::Succeeded, RunState::Failed, RunState::Cancelled]
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_after_the_fan_out_leaves_no_second_set_of_children() {
    let world = World::new();
    let worker = world.worker(&family(FailurePolicy::Settle));
    let run = world.submit("parent").await;
    world.until(run, EventType::RunWaiting).await;
    worker.crash().await;
    let _next = world.worker(&family(FailurePolicy::Settle));
    world.output(run).await;
    let children = world
        .store
        .list(RunFilter {
            parent: Some(run),
            ..RunFilter::default()
        })
        .await
        .unwrap();
    assert_eq!(children.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_parent_cancels_its_children() {
    let world = World::new();
    let _worker = world.worker(&family(FailurePolicy::Settle));
    let run = world.submit("parent").await;
    world.until(run, EventType::RunWaiting).await;
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
    assert_eq!(world.end(run).await.run.state, RunState::Cancelled);
    for child in world
        .store
        .list(RunFilter {
            parent: Some(run),
            ..RunFilter::default()
        })
        .await
        .unwrap()
    {
        assert!(world.end(child.id).await.run.state.is_terminal());
    }
}
