//! Failed attempts: contained, classified, retried.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_core::{
    Agent, AgentError, AgentFn, AgentKey, AgentRegistry, ErrorInfo, EventType, RetryPolicy,
    RunContext, RunInput, RunResult, RunState,
};
use adjutant_queue::NewRun;

use crate::support::World;

fn once(agent: &str) -> NewRun {
    let mut run = NewRun::new(agent, &RunInput::default()).unwrap();
    run.retry = RetryPolicy::never();
    run
}

#[tokio::test(start_paused = true)]
async fn a_panicking_agent_fails_its_run_and_nothing_else() {
    let world = World::new();
    let agents = AgentRegistry::new()
        .with(AgentFn::new("bad", |_| async { panic!("on purpose") }))
        .with(AgentFn::new("good", |_| async {
            Ok(RunResult::output("fine"))
        }));
    let _worker = world.worker(&agents);
    let bad = world.submit_run(once("bad")).await;
    assert_eq!(world.failure(bad).await, "panic");
    let good = world.submit("good").await;
    assert_eq!(world.output(good).await.as_str(), "\"fine\"");
}

struct BadClassifier;

#[async_trait::async_trait]
impl Agent for BadClassifier {
    fn key(&self) -> AgentKey {
        AgentKey::new("bad")
    }
    async fn run(&self, _: &RunContext) -> Result<RunResult, AgentError> {
        Err(AgentError::permanent("first", "the real error"))
    }
    async fn on_error(&self, _: &RunContext, _: &AgentError) -> Option<ErrorInfo> {
        panic!("while classifying")
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_cannot_classify_its_error_keeps_it() {
    let world = World::new();
    let _worker = world.worker(&AgentRegistry::new().with(BadClassifier));
    let run = world.submit("bad").await;
    assert_eq!(world.failure(run).await, "first");
}

#[tokio::test(start_paused = true)]
async fn failed_attempts_are_repeated_with_back_off_until_they_are_used_up() {
    let world = World::new();
    let agents = AgentRegistry::new().with(AgentFn::new("flaky", |_| async {
        Err(AgentError::retriable("busy", "later"))
    }));
    let _worker = world.worker(&agents);
    let mut run = NewRun::new("flaky", &RunInput::default()).unwrap();
    run.retry.jitter = 0.0;
    let run = world.submit_run(run).await;
    assert_eq!(world.failure(run).await, "busy");
    let started = |event: &&adjutant_core::Event| event.event_type == EventType::RunStarted;
    let events = world.events(run).await;
    let starts: Vec<_> = events
        .iter()
        .filter(started)
        .map(|event| event.timestamp)
        .collect();
    assert_eq!(starts.len(), 3);
    assert!(starts[1].since(starts[0]) >= Duration::from_secs(2));
    assert!(starts[2].since(starts[1]) >= Duration::from_secs(4));
    assert!(
        starts[2].since(starts[0]) < Duration::from_secs(7),
        "woken when due, not polled"
    );
    assert_eq!(world.count(run, &EventType::RunRetrying).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_not_repeated() {
    let world = World::new();
    let agents = AgentRegistry::new().with(AgentFn::new("bad", |_| async {
        Err(AgentError::permanent("bad_input", "never"))
    }));
    let _worker = world.worker(&agents);
    let run = world.submit("bad").await;
    assert_eq!(world.failure(run).await, "bad_input");
    assert_eq!(world.end(run).await.run.attempt, 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_is_timed_out() {
    let world = World::new();
    let agents = AgentRegistry::new().with(AgentFn::new("slow", |_| async {
        std::future::pending::<()>().await;
        Ok(RunResult::default())
    }));
    let _worker = world.worker(&agents);
    let mut run = NewRun::new("slow", &RunInput::default()).unwrap();
    run.timeout = Some(Duration::from_secs(7));
    let run = world.submit_run(run).await;
    let view = world.end(run).await;
    assert_eq!(view.run.state, RunState::TimedOut);
    let took = view
        .run
        .finished_at
        .unwrap()
        .since(view.run.started_at.unwrap());
    assert!(
        took >= Duration::from_secs(7) && took < Duration::from_secs(8),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_agents_own_timeout_error_is_an_error_like_others() {
    let world = World::new();
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let agents = AgentRegistry::new().with(AgentFn::new("client", move |_| {
        let calls = Arc::clone(&counter);
        async move {
            if calls.fetch_add(1, SeqCst) == 0 {
                tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>()).await?;
            }
            Ok(RunResult::output("second try"))
        }
    }));
    let _worker = world.worker(&agents);
    let run = world.submit("client").await;
    assert_eq!(world.output(run).await.as_str(), "\"second try\"");
    assert_eq!(world.end(run).await.run.attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_agent_is_failed_by_a_worker_that_is_told_to() {
    let world = World::new();
    let config = adjutant_executor::RunnerConfig {
        fail_unknown_agents: true,
        ..World::config()
    };
    let _worker = world.worker_with(&AgentRegistry::new(), config);
    let run = world.submit("nobody").await;
    assert_eq!(world.failure(run).await, "unknown_agent");
}

#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_stored_fails_the_run() {
    let world = World::new();
    let agents = AgentRegistry::new().with(AgentFn::new("big", |_| async {
        Ok(RunResult::output("x".repeat(5 * 1024 * 1024).as_str()))
    }));
    let _worker = world.worker(&agents);
    let mut run = NewRun::new("big", &RunInput::default()).unwrap();
    run.retry.max_attempts = NonZeroU32::MIN;
    let run = world.submit_run(run).await;
    assert_eq!(world.failure(run).await, "payload_too_large");
}
