//! Plans of steps.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{AgentError, AgentFn, AgentRegistry, EventType, Json, RunResult};
use adjutant_executor::{PlannedStep, StepPlan};
use serde_json::json;

use crate::support::World;

fn nap(name: &str) -> PlannedStep {
    PlannedStep::new(name, |_, _| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(Json::from("done"))
    })
}

fn planner(plan: impl Fn() -> StepPlan + Send + Sync + 'static) -> AgentRegistry {
    AgentRegistry::new().with(AgentFn::new("planner", move |ctx| {
        let plan = plan();
        async move { Ok(RunResult::output(json!(plan.run(&ctx).await?.results))) }
    }))
}

#[tokio::test(start_paused = true)]
async fn steps_see_what_came_before_and_progress_ends_at_100() {
    let world = World::new();
    let _worker = world.worker(&planner(|| {
        StepPlan::new("sum")
            .step(PlannedStep::new("one", |_, _| async {
                Ok(Json::from(json!(1)))
            }))
            .step(PlannedStep::new("two", |_, results| async move {
                Ok(Json::from(json!(results["one"].to::<u32>()? + 1)))
            }))
    }));
    let run = world.submit("planner").await;
    assert_eq!(world.output(run).await.as_str(), r#"{"one":1,"two":2}"#);
    let events = world.events(run).await;
    let last = events
        .iter()
        .rfind(|event| event.event_type == EventType::ProgressUpdate)
        .unwrap();
    assert!(last.payload.as_str().contains("100.0"), "{}", last.payload);
}

#[tokio::test(start_paused = true)]
async fn two_steps_of_one_name_are_refused_before_anything_runs() {
    let world = World::new();
    let _worker = world.worker(&planner(|| {
        StepPlan::new("twice").step(nap("a")).step(nap("a"))
    }));
    let run = world.submit("planner").await;
    assert_eq!(world.failure(run).await, "invalid_plan");
    assert_eq!(world.count(run, &EventType::StepStarted).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_changed_under_the_run_is_refused() {
    let world = World::new();
    let calls = Arc::new(AtomicU32::new(0));
    let _worker = world.worker(&planner(move || {
        let renamed = if calls.fetch_add(1, SeqCst) == 0 {
            "b"
        } else {
            "c"
        };
        let fails = |_, _| async { Err(AgentError::retriable("again", "so that it replays")) };
        StepPlan::new("p")
            .step(nap("a"))
            .step(PlannedStep::new(renamed, fails))
    }));
    let run = world.submit("planner").await;
    assert_eq!(world.failure(run).await, "plan_changed");
}

#[tokio::test(start_paused = true)]
async fn independent_steps_run_side_by_side() {
    let world = World::new();
    let _worker = world.worker(&planner(|| {
        StepPlan::new("wide")
            .step(nap("a").after([]))
            .step(nap("b").after([]))
            .step(nap("c").after(["a", "b"]))
    }));
    let run = world.submit("planner").await;
    let view = world.end(run).await;
    let took = view
        .run
        .finished_at
        .unwrap()
        .since(view.run.started_at.unwrap());
    assert!(
        took >= Duration::from_millis(200) && took < Duration::from_millis(250),
        "{took:?}"
    );
}
