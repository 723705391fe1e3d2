//! Steps that may not be repeated: their intent is recorded first, and a crash in between is told to a person.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{
    AgentError, AgentFn, AgentRegistry, EFFECT_INDETERMINATE, EventType, Intent, Json, OnInterrupt,
    Resolution, RunId, RunResult, RunState, StepKind,
};
use adjutant_queue::{Command, RunLookup, RunQueue};
use adjutant_state::StateStore;

use crate::support::World;

/// An agent with one payment, which hangs the first time and counts how often it is made.
fn payer(made: &Arc<AtomicU32>, on_interrupt: OnInterrupt, hang: bool) -> AgentRegistry {
    let made = Arc::clone(made);
    AgentRegistry::new().with(AgentFn::new("payer", move |ctx| {
        let made = Arc::clone(&made);
        async move {
            let step = ctx.step_builder("pay").kind(StepKind::Tool);
            let paid: String = step
                .on_interrupt(on_interrupt)
                .run(|| async {
                    if made.fetch_add(1, SeqCst) == 0 && hang {
                        std::future::pending::<()>().await;
                    }
                    Ok("receipt".to_owned())
                })
                .await?;
            Ok(RunResult::output(paid.as_str()))
        }
    }))
}

async fn resolve(world: &World, run: RunId, resolution: &Resolution) {
    let command = Command::Signal {
        name: Intent::signal("pay"),
        payload: Json::from_value(resolution).unwrap(),
    };
    world.store.control(run, command).await.unwrap();
}

/// A run whose worker died in the middle of the payment, with another worker at it.
async fn interrupted(
    made: &Arc<AtomicU32>,
    on_interrupt: OnInterrupt,
) -> (World, crate::support::Worker, RunId) {
    let world = World::new();
    let worker = world.worker(&payer(made, on_interrupt, true));
    let run = world.submit("payer").await;
    world.until(run, EventType::StepStarted).await;
    let began = async {
        while made.load(SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    began.await;
    worker.crash().await;
    let next = world.worker(&payer(made, on_interrupt, true));
    (world, next, run)
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_a_crash_left_open_is_not_made_again_by_itself() {
    let made = Arc::default();
    let (world, _next, run) = interrupted(&made, OnInterrupt::Ask).await;
    world.until(run, EventType::EffectIndeterminate).await;
    world.until(run, EventType::RunWaiting).await;
    let view = world.store.get(run).await.unwrap().unwrap();
    assert_eq!(view.run.state, RunState::InputRequired);
    assert_eq!(made.load(SeqCst), 1);

    let result = serde_json::json!("receipt 7");
    resolve(&world, run, &Resolution::Done { result }).await;
    let view = world.end(run).await;
    assert_eq!(view.run.state, RunState::Succeeded);
    assert_eq!(made.load(SeqCst), 1, "the person said that it had happened");
}

#[tokio::test(start_paused = true)]
async fn a_person_may_have_an_open_payment_made() {
    let made = Arc::default();
    let (world, _next, run) = interrupted(&made, OnInterrupt::Ask).await;
    world.until(run, EventType::EffectIndeterminate).await;
    resolve(&world, run, &Resolution::Retry).await;
    assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
    assert_eq!(made.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_person_may_call_an_open_payment_failed() {
    let made = Arc::default();
    let (world, _next, run) = interrupted(&made, OnInterrupt::Ask).await;
    world.until(run, EventType::EffectIndeterminate).await;
    let message = "refunded".to_owned();
    resolve(&world, run, &Resolution::Fail { message }).await;
    assert_eq!(world.end(run).await.run.state, RunState::Failed);
    let journal = world.store.history(run).await.unwrap().journal;
    assert_eq!(journal.len(), 1);
    assert_eq!(made.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_can_read_leaves_the_question_open() {
    let made = Arc::default();
    let (world, _next, run) = interrupted(&made, OnInterrupt::Ask).await;
    world.until(run, EventType::EffectIndeterminate).await;
    let command = Command::Signal {
        name: Intent::signal("pay"),
        payload: Json::from("perhaps"),
    };
    world.store.control(run, command).await.unwrap();
    world.until(run, EventType::Error).await;
    resolve(&world, run, &Resolution::Retry).await;
    assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn by_policy_an_open_payment_has_failed() {
    let made = Arc::default();
    let (world, _next, run) = interrupted(&made, OnInterrupt::Fail).await;
    assert_eq!(world.end(run).await.run.state, RunState::Failed);
    assert_eq!(made.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_may_be_repeated_is() {
    let made = Arc::default();
    let (world, _next, run) = interrupted(&made, OnInterrupt::Repeat).await;
    assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
    assert_eq!(made.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_certainly_did_not_happen_is_made_in_the_next_attempt() {
    let made = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&made);
    let agents = AgentRegistry::new().with(AgentFn::new("payer", move |ctx| {
        let made = Arc::clone(&counter);
        async move {
            let step = ctx.step_builder("pay").on_interrupt(OnInterrupt::Ask);
            let paid: u32 = step
                .run(|| async {
                    match made.fetch_add(1, SeqCst) {
                        0 => Err(AgentError::retriable("unreachable", "nobody was there")),
                        tries => Ok(tries),
                    }
                })
                .await?;
            Ok(RunResult::output(serde_json::json!(paid)))
        }
    }));
    let world = World::new();
    let _worker = world.worker(&agents);
    let run = world.submit("payer").await;
    assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
    assert_eq!(made.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn silence_after_a_payment_was_sent_is_told_without_a_crash() {
    let made = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&made);
    let agents = AgentRegistry::new().with(AgentFn::new("payer", move |ctx| {
        let made = Arc::clone(&counter);
        async move {
            let step = ctx.step_builder("pay").on_interrupt(OnInterrupt::Ask);
            let paid: u32 = step
                .run(|| async {
                    match made.fetch_add(1, SeqCst) {
                        0 => Err(AgentError::permanent(EFFECT_INDETERMINATE, "no answer")),
                        tries => Ok(tries),
                    }
                })
                .await?;
            Ok(RunResult::output(serde_json::json!(paid)))
        }
    }));
    let world = World::new();
    let _worker = world.worker(&agents);
    let run = world.submit("payer").await;
    world.until(run, EventType::EffectIndeterminate).await;
    assert_eq!(made.load(SeqCst), 1);
    resolve(&world, run, &Resolution::Retry).await;
    let view = world.end(run).await;
    assert_eq!((view.run.state, view.run.attempt), (RunState::Succeeded, 1));
}
