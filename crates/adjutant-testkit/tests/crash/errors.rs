//! Calls that fail without killing anybody, with and without the write having happened.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use adjutant_core::{RetryPolicy, RunState};
use adjutant_executor::{AgentRunner, RunnerConfig};
use adjutant_queue::{NewRun, RunQueue};
use adjutant_testkit::{Failures, FaultPlan, FaultStore};
use tokio_util::sync::CancellationToken;

use crate::{
    agents::{self, FLAKY, WHOLE, paced},
    check::Lines,
    site::{Owner, Site},
    worker::LEASE_TTL,
};

#[tokio::test]
async fn lost_answers_lose_and_repeat_nothing() {
    let site = Site::new().await;
    let mut owner = Owner::default();
    let mut runs = Vec::new();
    for number in 0..20 {
        let agent = if number % 3 == 0 { FLAKY } else { WHOLE };
        let run = NewRun {
            retry: RetryPolicy {
                max_attempts: NonZeroU32::MAX,
                backoff_base: 0.01,
                ..RetryPolicy::default()
            },
            ..Site::run(agent, &paced(0))
        };
        runs.push(site.store.submit(vec![run]).await.unwrap()[0].run);
    }
    owner.open.clone_from(&runs);
    let plan = FaultPlan {
        fail: Some(Failures {
            seed: 7,
            before: 0.03,
            after: 0.03,
        }),
        ..FaultPlan::default()
    };
    let store = Arc::new(FaultStore::new(Arc::new(site.store.clone()), plan));
    let config = RunnerConfig {
        lease_ttl: LEASE_TTL,
        heartbeat_interval: LEASE_TTL / 4,
        ..RunnerConfig::default()
    };
    let runner = AgentRunner::new(
        Arc::clone(&store) as Arc<dyn adjutant_store::Store>,
        agents::registry(&site.lines()),
        config,
    )
    .unwrap();
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    let worker = tokio::spawn(async move { runner.run_loop(token).await });
    owner.until_all_ended(&site).await;
    shutdown.cancel();
    worker.await.unwrap().unwrap();

    let lines = Lines::read(&site);
    for run in &runs {
        let state = site.view(*run).await.run.state;
        assert_eq!(state, RunState::Succeeded, "{run}");
    }
    let failures = store.failures();
    eprintln!("{failures} of {} calls failed", store.calls());
    assert!(failures >= 10);
    assert!(
        lines.repeated() as u64 <= failures,
        "{} repeated by {failures} failures",
        lines.repeated()
    );
    tokio::time::timeout(
        Duration::from_secs(5),
        adjutant_store::Store::close(&site.store),
    )
    .await
    .unwrap();
}
