//! What was done stays done: a crash at every commit, and calls that must not be made twice.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use adjutant_budget::BudgetLedger;
use adjutant_core::{EventType, Intent, Resolution, RunState};
use adjutant_llm::{Script, ScriptedModel};
use adjutant_queue::RunLookup;

use crate::support::World;

const WORK: &str = r"
- tool_calls: [{name: look, arguments: {what: a}}, {name: look, arguments: {what: b}}]
- tool_calls: [{name: look, arguments: {what: c}}, {name: pay, arguments: {what: d}}]
- tool_calls: [{name: look, arguments: {what: e}}, {name: look, arguments: {what: f}}]
- tool_calls: [{name: look, arguments: {what: g}}, {name: look, arguments: {what: h}}]
- text: Done.
";

#[tokio::test(start_paused = true)]
async fn finished_calls_are_never_made_again_wherever_the_worker_dies() {
    let events = {
        let world = World::new();
        let _worker = world.worker(&world.assistant(world.equipment(WORK)));
        let run = world.submit("helper", "Go.").await;
        world.end(run).await;
        world.events(run).await.len()
    };
    assert!(events > 20, "{events}");
    for crash_at in 1..events {
        let world = World::new();
        let model = std::sync::Arc::new(ScriptedModel::new(Script::from_yaml(WORK).unwrap()));
        let equipment = adjutant_harness::Equipment {
            models: Some(model.clone()),
            ..world.equipment("[]")
        };
        let agents = world.assistant(equipment);
        let worker = world.worker(&agents);
        let run = world.submit("helper", "Go.").await;
        while world.events(run).await.len() < crash_at {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        worker.crash().await;
        let _next = world.worker(&agents);
        // An open payment is a person's to settle: here it had happened, or had not, as the tool itself counted.
        loop {
            let view = world.store.get(run).await.unwrap().unwrap();
            if view.run.state.is_terminal() {
                assert_eq!(view.run.state, RunState::Succeeded, "crash at {crash_at}");
                break;
            }
            if view.run.state == RunState::InputRequired {
                let resolution = match world.counts.paid.load(SeqCst) {
                    0 => Resolution::Retry,
                    _ => Resolution::Done {
                        result: "paid d".into(),
                    },
                };
                let json = adjutant_core::Json::from_value(&resolution).unwrap();
                world.signal(run, &Intent::signal("tool:pay"), json).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (looked, paid) = (
            world.counts.looked.load(SeqCst),
            world.counts.paid.load(SeqCst),
        );
        assert_eq!(paid, 1, "crash at {crash_at}");
        // What was under way when the worker died may come twice, two calls at most; what had been answered does not.
        assert!((7..=9).contains(&looked), "crash at {crash_at}: {looked}");
        let asked = model.requests().len();
        assert!((5..=6).contains(&asked), "crash at {crash_at}: {asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_unsafe_call_waits_for_a_person_and_keeps_its_key() {
    let script = "[{tool_calls: [{name: pay, arguments: {what: rent}}]}, {text: Done.}]";
    let world = World::new();
    world.counts.hanging.store(1, SeqCst);
    let mut equipment = world.equipment(script);
    equipment.budget.run.tool_calls = Some(5);
    let agents = world.assistant(equipment);
    let worker = world.worker(&agents);
    let run = world.submit("helper", "Pay.").await;
    while world.counts.paid.load(SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    worker.crash().await;
    let _next = world.worker(&agents);
    world.until(run, EventType::EffectIndeterminate).await;
    world.until(run, EventType::RunWaiting).await;
    assert_eq!(
        world.counts.paid.load(SeqCst),
        1,
        "not made again by itself"
    );
    let retry = adjutant_core::Json::from_value(&Resolution::Retry).unwrap();
    world.signal(run, &Intent::signal("tool:pay"), retry).await;
    assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
    let keys = world.counts.keys.lock().unwrap().clone();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1], "one call has one idempotency key");
    let account = adjutant_budget::Account::run(run);
    let balance = world.ledger.balance(&account).await.unwrap().unwrap();
    assert_eq!(
        balance.spent.tool_calls, 2,
        "the lost call counts, and the one that a person had made"
    );
    assert!(balance.reserved.is_zero(), "{balance:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_got_no_answer_in_time_is_open_too() {
    let script = "[{tool_calls: [{name: pay, arguments: {what: rent}}]}, {text: Done.}]";
    let world = World::new();
    world.counts.hanging.store(1, SeqCst);
    let _worker = world.worker(&world.assistant(world.equipment(script)));
    let run = world.submit("helper", "Pay.").await;
    world.until(run, EventType::EffectIndeterminate).await;
    let done = Resolution::Done {
        result: serde_json::json!({ "receipt": 7 }),
    };
    let done = adjutant_core::Json::from_value(&done).unwrap();
    world.signal(run, &Intent::signal("tool:pay"), done).await;
    assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
    assert_eq!(world.counts.paid.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_named_after_its_content_is_found_though_its_client_once_went_away() {
    let model = std::sync::Arc::new(ScriptedModel::new(
        Script::from_yaml("[{delay_ms: 100, text: Hello.}]").unwrap(),
    ));
    let crash = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let crashing = std::sync::Arc::clone(&crash);
    let agent = adjutant_core::AgentFn::new("helper", move |ctx| {
        let crash = std::sync::Arc::clone(&crashing);
        async move {
            let call = || adjutant_core::ModelCall {
                key: "llm:42".to_owned(),
                request: adjutant_core::ModelRequest {
                    messages: ctx.input_messages().to_vec(),
                    ..adjutant_core::ModelRequest::default()
                },
            };
            if crash.load(SeqCst) {
                // A client that gives up, and asks again.
                let gave_up = ctx.host().generate(call(), None);
                let _ = tokio::time::timeout(Duration::from_millis(20), gave_up).await;
            }
            ctx.host().generate(call(), None).await?;
            if crash.swap(false, SeqCst) {
                return Err(adjutant_core::AgentError::retriable("crash", "once more"));
            }
            Ok(adjutant_core::RunResult::output("done"))
        }
    });
    let world = World::new();
    let equipment = adjutant_harness::Equipment {
        models: Some(model.clone()),
        ..world.equipment("[]")
    };
    let equipped = adjutant_harness::Equipped::new(agent, equipment);
    let agents = adjutant_core::AgentRegistry::new().with(equipped);
    let _worker = world.worker(&agents);
    let run = world.submit("helper", "Hi.").await;
    assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
    assert_eq!(
        model.requests().len(),
        2,
        "the one that was given up, and the one that counts"
    );
}
