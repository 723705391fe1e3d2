//! Waits: timers, signals, people. A waiting run holds no worker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{
    AgentFn, AgentRegistry, ApprovalRequest, EventType, Json, RunId, RunResult, RunState,
};
use adjutant_queue::{Command, RunQueue};
use adjutant_testkit::{FaultPlan, FaultStore, FaultyCall, Moment, Reaction};
use serde_json::json;

use crate::support::World;

async fn signal(world: &World, run: RunId, name: &str, payload: serde_json::Value) {
    let command = Command::Signal {
        name: name.to_owned(),
        payload: Json::from(payload),
    };
    world.store.control(run, command).await.unwrap();
}

fn sleeper() -> AgentRegistry {
    AgentRegistry::new().with(AgentFn::new("sleeper", |ctx| async move {
        ctx.sleep("nap", Duration::from_secs(3600)).await?;
        Ok(RunResult::output("rested"))
    }))
}

#[tokio::test(start_paused = true)]
async fn a_sleep_ends_when_it_is_due_across_a_crash() {
    let world = World::new();
    let worker = world.worker(&sleeper());
    let run = world.submit("sleeper").await;
    world.until(run, EventType::RunWaiting).await;
    worker.crash().await;
    tokio::time::sleep(Duration::from_secs(1800)).await;
    let _next = world.worker(&sleeper());
    let view = world.end(run).await;
    let took = view.run.finished_at.unwrap().since(view.run.created_at);
    assert!(
        took >= Duration::from_secs(3600) && took < Duration::from_secs(3601),
        "{took:?}"
    );
    assert_eq!((view.run.attempt, view.run.deaths), (1, 0));
}

fn listener() -> AgentRegistry {
    AgentRegistry::new().with(AgentFn::new("listener", |ctx| async move {
        let one = ctx.wait_for_signal("go", None).await?;
        let two = ctx
            .wait_for_signal("go", Some(Duration::from_secs(60)))
            .await?;
        Ok(RunResult::output(json!([one, two])))
    }))
}

#[tokio::test(start_paused = true)]
async fn a_signal_before_its_wait_is_kept_and_each_is_taken_once() {
    let world = World::new();
    let run = world.submit("listener").await;
    signal(&world, run, "go", json!(1)).await;
    signal(&world, run, "other", json!("ignored")).await;
    let _worker = world.worker(&listener());
    world.until(run, EventType::RunWaiting).await;
    signal(&world, run, "go", json!(2)).await;
    assert_eq!(world.output(run).await.as_str(), "[1,2]");
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_signal_ends_at_its_time_limit() {
    let world = World::new();
    let _worker = world.worker(&listener());
    let run = world.submit("listener").await;
    signal(&world, run, "go", json!(1)).await;
    assert_eq!(world.output(run).await.as_str(), "[1,null]");
}

fn asker() -> AgentRegistry {
    AgentRegistry::new().with(AgentFn::new("asker", |ctx| async move {
        let mut request = ApprovalRequest::new("publish", "Publish?");
        request.expires_in = Some(Duration::from_secs(600));
        let decision = ctx.request_approval(request).await?;
        Ok(RunResult::output(json!([
            decision.approved,
            decision.expired,
            decision.by
        ])))
    }))
}

#[tokio::test(start_paused = true)]
async fn a_person_decides() {
    for (payload, expected) in [
        (
            json!({ "approved": true, "by": "ana" }),
            "[true,false,\"ana\"]",
        ),
        (
            json!({ "approved": false, "by": "ben" }),
            "[false,false,\"ben\"]",
        ),
        (json!("certainly"), "[false,false,null]"),
    ] {
        let world = World::new();
        let _worker = world.worker(&asker());
        let run = world.submit("asker").await;
        world.until(run, EventType::RunWaiting).await;
        assert_eq!(world.count(run, &EventType::ApprovalRequested).await, 1);
        signal(&world, run, "approval:publish", payload).await;
        assert_eq!(world.output(run).await.as_str(), expected);
        assert_eq!(world.count(run, &EventType::ApprovalDecided).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn no_decision_in_time_is_a_no() {
    let world = World::new();
    let _worker = world.worker(&asker());
    let run = world.submit("asker").await;
    assert_eq!(world.output(run).await.as_str(), "[false,true,null]");
    assert_eq!(world.count(run, &EventType::ApprovalExpired).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_step_beside_a_wait_is_let_finish_before_the_run_is_suspended() {
    let world = World::new();
    let steps = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&steps);
    let agents = AgentRegistry::new().with(AgentFn::new("both", move |ctx| {
        let steps = Arc::clone(&counter);
        async move {
            let work = ctx.step("work", || async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                Ok(steps.fetch_add(1, SeqCst))
            });
            let (slept, worked) = futures::join!(ctx.sleep("nap", Duration::from_secs(60)), work);
            slept?;
            worked?;
            Ok(RunResult::default())
        }
    }));
    let _worker = world.worker(&agents);
    let run = world.submit("both").await;
    assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
    assert_eq!(steps.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_beside_a_wait_is_let_finish_before_the_run_is_suspended() {
    let world = World::new();
    let written = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&written);
    let agents = AgentRegistry::new().with(AgentFn::new("both", move |ctx| {
        let written = Arc::clone(&counter);
        async move {
            let write = async {
                ctx.emit("said", json!({})).await?;
                written.fetch_add(1, SeqCst);
                Ok(())
            };
            futures::future::try_join(ctx.sleep("nap", Duration::from_secs(60)), write).await?;
            Ok(RunResult::default())
        }
    }));
    let slow = FaultPlan::script(|fault| match (fault.call, fault.moment) {
        (FaultyCall::Commit, Moment::After) => Reaction::Delay(Duration::from_secs(1)),
        _ => Reaction::GoOn,
    });
    let _worker = world.worker_over(FaultStore::new(world.store.clone(), slow), &agents);
    let run = world.submit("both").await;
    world.until(run, EventType::RunWaiting).await;
    assert_eq!(written.load(SeqCst), 1, "the branch learnt of its write");
    assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_lost_a_race_suspends_nothing() {
    let world = World::new();
    let agents = AgentRegistry::new().with(AgentFn::new("race", |ctx| async move {
        let work = ctx.step("work", || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        });
        tokio::select! {
            slept = ctx.sleep("nap", Duration::from_secs(3600)) => slept?,
            worked = work => worked?,
        }
        ctx.step("after", || async { Ok(()) }).await?;
        Ok(RunResult::output("step won"))
    }));
    let _worker = world.worker(&agents);
    let run = world.submit("race").await;
    assert_eq!(world.output(run).await.as_str(), "\"step won\"");
    assert_eq!(world.count(run, &EventType::RunWaiting).await, 0);
}
