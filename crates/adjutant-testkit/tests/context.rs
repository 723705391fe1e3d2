//! The mock context: what it does, and that the executor does the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{
    Agent, AgentError, AgentFn, AgentRegistry, ApprovalRequest, Delegate, ErrorInfo, EventType,
    FailurePolicy, Json, Outcome, RetryPolicy, RunInput, RunResult, RunState, StepOutcome,
};
use adjutant_events::EventBus;
use adjutant_executor::{AgentRunner, RunnerConfig};
use adjutant_queue::{Command, NewRun, RunLookup, RunQueue};
use adjutant_state::StateStore;
use adjutant_store::{MemoryConfig, MemoryStore};
use adjutant_testkit::{TestContext, VirtualClock, run_agent_test};
use serde_json::json;

fn thrice() -> RetryPolicy {
    RetryPolicy {
        max_attempts: NonZeroU32::new(3).unwrap(),
        jitter: 0.0,
        ..RetryPolicy::default()
    }
}

/// Does all that a context offers.
fn all_rounder() -> impl Agent {
    AgentFn::new("all-rounder", |ctx| async move {
        let tries = AtomicU32::new(0);
        let read: u32 = ctx
            .step_builder("read")
            .retry(thrice())
            .description("reads")
            .run(|| async {
                match tries.fetch_add(1, SeqCst) {
                    0 => Err(AgentError::retriable("busy", "try again")),
                    n => Ok(n),
                }
            })
            .await?;
        ctx.checkpoint(&read).await?;
        ctx.sleep("nap", Duration::from_secs(60)).await?;
        let twice: u32 = ctx.step("read", || async { Ok(2) }).await?;
        let refused = ctx
            .step::<(), _, _>("refused", || async {
                Err(AgentError::permanent("no", "never"))
            })
            .await
            .unwrap_err();
        let go = ctx.wait_for_signal("go", None).await?;
        let late = ctx
            .wait_for_signal("late", Some(Duration::from_secs(5)))
            .await?;
        let decision = ctx
            .request_approval(ApprovalRequest::new("publish", "Publish?"))
            .await?;
        let fan = Delegate::new("fan")
            .policy(FailurePolicy::Settle)
            .child("good", RunInput::default())
            .child("bad", RunInput::default());
        let children = ctx.delegate(fan).await?;
        let states: Vec<_> = children.iter().map(|child| child.status).collect();
        ctx.progress(100.0, "done").await?;
        Ok(RunResult::output(json!([
            read,
            twice,
            refused.info().kind,
            go,
            late,
            decision.approved,
            states
        ])))
    })
}

const OUTPUT: &str = r#"[1,2,"no",{"n":1},null,true,["succeeded","failed"]]"#;

/// What is told of steps, questions and children, without ids and durations.
fn told(events: &[adjutant_core::Event]) -> Vec<String> {
    let kinds = ["step.", "approval.", "sub_agent.", "progress."];
    let told = events.iter().filter(|event| {
        kinds
            .iter()
            .any(|kind| event.event_type.as_str().starts_with(kind))
    });
    told.map(|event| {
        let mut payload: serde_json::Map<_, _> = event.payload.to().unwrap();
        payload.remove("run_id");
        payload.remove("duration_ms");
        payload.sort_keys();
        format!("{} {}", event.event_type, json!(payload))
    })
    .collect()
}

/// What is recorded of steps, without ids and times.
fn recorded(journal: &[adjutant_core::StepRecord]) -> Vec<String> {
    let lines = journal.iter().map(|step| {
        let how = match &step.outcome {
            StepOutcome::Started { .. } => "started".to_owned(),
            // The outcomes of children name them.
            StepOutcome::Completed { .. } if step.key == "fan" => "completed".to_owned(),
            StepOutcome::Completed { result } => format!("completed {result}"),
            StepOutcome::Failed { error } => format!("failed {error}"),
        };
        let (key, kind, input) = (&step.key, step.kind.as_str(), step.input.0);
        format!("{key} {kind} {input} {} {how}", step.attempts)
    });
    lines.collect()
}

fn scripted() -> TestContext {
    TestContext::builder()
        .signal("go", json!({ "n": 1 }))
        .approve("publish")
        .child("good", |_| Ok(Json::from("fine")))
        .child("bad", |_| Err(ErrorInfo::permanent("odd", "on purpose")))
        .build()
}

#[tokio::test(start_paused = true)]
async fn the_mock_tells_and_records_what_the_executor_does() {
    let clock = VirtualClock::new();
    let store = Arc::new(MemoryStore::with(MemoryConfig {
        clock: Arc::new(clock),
        ..MemoryConfig::default()
    }));
    let agents = AgentRegistry::new()
        .with(all_rounder())
        .with(AgentFn::new("good", |_| async {
            Ok(RunResult::output("fine"))
        }))
        .with(AgentFn::new("bad", |_| async {
            Err(AgentError::permanent("odd", "on purpose"))
        }));
    let runner = AgentRunner::with_clock(
        Arc::clone(&store) as Arc<dyn adjutant_store::Store>,
        agents,
        RunnerConfig::default(),
        Arc::new(clock),
    )
    .unwrap();
    let new = NewRun::new("all-rounder", &RunInput::default()).unwrap();
    let run = store.submit(vec![new]).await.unwrap()[0].run;
    let tell = async |name: &str, payload| {
        let signal = Command::Signal {
            name: name.to_owned(),
            payload: Json::from(payload),
        };
        store.control(run, signal).await.unwrap();
    };
    tell("go", json!({ "n": 1 })).await;
    let view = loop {
        while runner.run_once().await.unwrap() {}
        let view = store.settled(run, Duration::from_secs(1)).await.unwrap();
        match view.run.state {
            state if state.is_settled() => break view,
            RunState::InputRequired => tell("approval:publish", json!({ "approved": true })).await,
            _ => {}
        }
    };
    let Some(Outcome::Succeeded(result)) = view.outcome else {
        panic!("{view:?}");
    };
    assert_eq!(result.final_output.as_str(), OUTPUT);

    let ctx = scripted();
    let result = ctx.run(&all_rounder()).await.unwrap();
    assert_eq!(result.final_output.as_str(), OUTPUT);
    let events = store.read(run, 0, 1000).await.unwrap();
    assert_eq!(told(&ctx.events()), told(&events));
    let history = store.history(run).await.unwrap();
    assert_eq!(recorded(&ctx.journal()), recorded(&history.journal));
}

#[tokio::test]
async fn another_attempt_finds_what_is_recorded() {
    let ctx = scripted();
    ctx.run(&all_rounder()).await.unwrap();
    let result = ctx.run(&all_rounder()).await.unwrap();
    assert_eq!(result.final_output.as_str(), OUTPUT);
    assert_eq!((ctx.executions("read"), ctx.executions("read#2")), (2, 1));
    assert_eq!(ctx.payloads(EventType::StepSkipped).len(), 2);
    assert_eq!(ctx.delegated().len(), 2);
    assert_eq!(ctx.checkpoints().len(), 2);
}

#[tokio::test]
async fn what_takes_time_moves_only_the_runs_clock() {
    let ctx = scripted();
    let before = ctx.context().now();
    let wall = std::time::Instant::now();
    ctx.run(&all_rounder()).await.unwrap();
    // A retry after 2 s, a nap of 60 s, a signal that does not come within 5 s.
    assert_eq!(ctx.context().now().since(before), Duration::from_secs(67));
    assert!(wall.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn what_the_script_lacks_is_named() {
    for (agent, kind) in [
        ("signal", "no_signal"),
        ("decision", "no_decision"),
        ("child", "no_child"),
    ] {
        let asking = AgentFn::new(agent, |ctx| async move {
            match ctx.agent_key().as_str() {
                "signal" => drop(ctx.wait_for_signal("x", None).await?),
                "decision" => drop(ctx.request_approval(ApprovalRequest::new("x", "?")).await?),
                _ => drop(ctx.call_agent("x", "x", RunInput::default()).await?),
            }
            Ok(RunResult::default())
        });
        let (result, _ctx) = run_agent_test(&asking, RunInput::default()).await;
        let error = result.unwrap_err();
        assert_eq!(error.info().kind, kind);
        assert!(error.info().message.contains("`x`"), "{error}");
    }
}

#[tokio::test]
async fn the_first_failure_cancels_the_rest_of_a_fail_fast_fan_out() {
    let agent = AgentFn::new("fan", |ctx| async move {
        let fan = Delegate::new("fan")
            .policy(FailurePolicy::FailFast)
            .child("bad", RunInput::default())
            .child("good", RunInput::default());
        ctx.delegate(fan).await?;
        Ok(RunResult::default())
    });
    let ctx = scripted();
    for _ in 0..2 {
        let error = ctx.run(&agent).await.unwrap_err();
        assert_eq!(error.info().kind, "child_failed");
    }
    let ends = ctx.payloads(EventType::SubAgentEnd);
    let states: Vec<_> = ends
        .iter()
        .map(|end| end.to::<serde_json::Value>().unwrap()["status"].clone())
        .collect();
    assert_eq!(states, ["failed", "cancelled"]);
}

#[tokio::test]
async fn a_cancelled_run_begins_no_step() {
    let ctx = scripted();
    ctx.cancel();
    let error = ctx.run(&all_rounder()).await.unwrap_err();
    assert_eq!(error.info().kind, "cancelled");
    assert_eq!(ctx.executions("read"), 0);
    ctx.context().cancellation().await;
}

#[tokio::test]
async fn input_metadata_and_state_are_as_described() {
    let agent = AgentFn::new("reader", |ctx| async move {
        let state: Option<u32> = ctx.get_state()?;
        Ok(RunResult::output(json!([
            ctx.input_messages()[0].text(),
            ctx.input_data::<u32>()?,
            ctx.params(),
            ctx.metadata(),
            state,
            ctx.attempt()
        ])))
    });
    let ctx = TestContext::builder()
        .message(adjutant_core::Message::user("hi"))
        .data(json!(1))
        .params(json!({ "p": 2 }))
        .metadata(json!({ "m": 3 }))
        .state(json!(4))
        .build();
    let result = ctx.run(&agent).await.unwrap();
    let expected = r#"["hi",1,{"p":2},{"m":3},4,1]"#;
    assert_eq!(result.final_output.as_str(), expected);
}

#[tokio::test]
async fn a_step_that_changed_is_refused() {
    let ctx = scripted();
    let view = ctx.context();
    view.step("a", || async { Ok(1) }).await.unwrap();
    let agent = AgentFn::new("changed", |ctx| async move {
        let step = ctx.step_builder("a").input("another")?;
        step.run(|| async { Ok(1) }).await?;
        Ok(RunResult::default())
    });
    let error = ctx.run(&agent).await.unwrap_err();
    assert_eq!(error.info().kind, "step_changed");
}
