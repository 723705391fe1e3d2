//! Who is claimed when, and by whom.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use adjutant_core::RunId;

use super::{Fixture, WAIT};
use crate::{AGEING, AgentFilter, ClaimRequest, Command};

pub async fn higher_priority_goes_first(f: &Fixture) {
    let mut ids = Vec::new();
    for priority in [0, 10, 5] {
        let mut run = f.run();
        run.priority = priority;
        ids.push(f.submit(run).await);
    }
    assert_eq!(f.claim_ids().await, [ids[1], ids[2], ids[0]]);
}

pub async fn the_same_priority_goes_first_come_first_served(f: &Fixture) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(f.submitted().await);
        f.clock.advance(Duration::from_millis(1));
    }
    assert_eq!(f.claim_one().await.lease.run, ids[0]);
    assert_eq!(f.claim_ids().await, ids[1..]);
}

pub async fn waiting_overtakes_priority(f: &Fixture) {
    let patient = f.submitted().await;
    f.clock.advance(AGEING + Duration::from_secs(1));
    let mut run = f.run();
    run.priority = 1;
    let urgent = f.submit(run.clone()).await;
    run.id = RunId::new();
    run.priority = 2;
    let more_urgent = f.submit(run).await;
    assert_eq!(f.claim_ids().await, [more_urgent, patient, urgent]);
}

pub async fn a_delay_goes_on_when_a_pause_is_over(f: &Fixture) {
    let mut run = f.run();
    run.not_before = Some(f.now() + Duration::from_secs(5));
    let run = f.submit(run).await;
    f.control(run, Command::Pause).await;
    f.control(run, Command::Resume).await;
    f.after(Duration::from_secs(4)).await;
    assert!(f.claim(1).await.is_empty());
    f.after(Duration::from_secs(2)).await;
    assert_eq!(f.claim_ids().await, [run]);
}

pub async fn a_delayed_run_is_not_claimed_before_its_time(f: &Fixture) {
    let mut run = f.run();
    run.not_before = Some(f.now() + Duration::from_secs(5));
    let id = f.submit(run).await;
    let swept = f.after(Duration::from_secs(4)).await;
    assert_eq!(
        (swept.woken, swept.next_due),
        (0, Some(f.now() + Duration::from_secs(1)))
    );
    assert!(f.claim(1).await.is_empty());
    assert_eq!(f.after(Duration::from_secs(1)).await.woken, 1);
    assert_eq!(f.claim_ids().await, [id]);
}

pub async fn an_agent_filter_takes_only_its_own_and_loses_no_other(f: &Fixture) {
    let mut ids = Vec::new();
    for agent in ["a", "b", "c", "b"] {
        let mut run = f.run();
        run.agent = agent.into();
        ids.push(f.submit(run).await);
    }
    let only = |agents: &[&str]| ClaimRequest {
        agents: AgentFilter::Only(agents.iter().map(|agent| (*agent).into()).collect()),
        ..f.request(10)
    };
    let claim = async |agents: &[&str]| -> Vec<RunId> {
        let claimed = f.engine.claim(only(agents)).await.unwrap();
        claimed.iter().map(|claimed| claimed.lease.run).collect()
    };
    assert_eq!(claim(&["b", "nobody"]).await, [ids[1], ids[3]]);
    assert!(claim(&[]).await.is_empty());
    assert_eq!(claim(&["c", "a"]).await, [ids[0], ids[2]]);
}

pub async fn any_takes_every_agents_runs_by_rank(f: &Fixture) {
    let mut expected = Vec::new();
    for (n, agent) in ["a", "b", "c", "a", "b", "c"].into_iter().enumerate() {
        let mut run = f.run();
        run.agent = agent.into();
        run.priority = i32::try_from(n % 4).unwrap();
        expected.push((-run.priority, n, f.submit(run).await));
    }
    expected.sort_unstable();
    let expected: Vec<_> = expected.into_iter().map(|(_, _, id)| id).collect();
    assert_eq!(f.claim_ids().await, expected);
}

pub async fn a_claim_takes_up_to_its_capacity(f: &Fixture) {
    for _ in 0..5 {
        f.submitted().await;
    }
    assert!(f.claim(0).await.is_empty());
    assert_eq!(f.claim(3).await.len(), 3);
    assert_eq!(f.claim(3).await.len(), 2);
    assert!(f.claim(3).await.is_empty());
}

pub async fn concurrent_workers_get_different_runs(f: &Fixture) {
    let runs: Vec<_> = (0..100).map(|_| f.run()).collect();
    let all: BTreeSet<RunId> = runs.iter().map(|run| run.id).collect();
    f.engine.submit(runs).await.unwrap();
    let workers = (0..8).map(|_| {
        let (engine, request) = (Arc::clone(&f.engine), f.request(3));
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = engine.claim(request.clone()).await.unwrap();
                if claimed.is_empty() {
                    return mine;
                }
                mine.extend(claimed.iter().map(|claimed| claimed.lease.run));
            }
        })
    });
    let mut claimed = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        claimed.extend(worker.await.unwrap());
    }
    assert_eq!(claimed.len(), 100);
    assert_eq!(BTreeSet::from_iter(claimed), all);
}

pub async fn a_waiting_claim_is_woken_by_a_submit(f: &Fixture) {
    let request = ClaimRequest {
        wait: WAIT,
        ..f.request(1)
    };
    let (claimed, run) = tokio::join!(f.engine.claim(request), async {
        tokio::task::yield_now().await;
        f.submitted().await
    });
    assert_eq!(claimed.unwrap()[0].lease.run, run);
}

pub async fn a_waiting_claim_is_not_satisfied_by_other_agents(f: &Fixture) {
    let request = ClaimRequest {
        wait: Duration::from_millis(50),
        agents: AgentFilter::Only(vec!["b".into()]),
        ..f.request(1)
    };
    let (claimed, run) = tokio::join!(f.engine.claim(request), f.submitted());
    assert!(claimed.unwrap().is_empty());
    assert_eq!(f.claim_ids().await, [run]);
}

/// Whatever a dropped claim had leased or was about to, somebody gets it: at once or after the lease.
pub async fn a_dropped_claim_loses_no_run(f: &Fixture) {
    for _ in 0..20 {
        let request = ClaimRequest {
            wait: WAIT,
            ..f.request(1)
        };
        let engine = Arc::clone(&f.engine);
        let dropped = tokio::spawn(async move { engine.claim(request).await });
        tokio::task::yield_now().await;
        let run = f.submitted().await;
        dropped.abort();
        if let Ok(claimed) = dropped.await {
            assert_eq!(claimed.unwrap()[0].lease.run, run);
        } else if let Some(claimed) = f.claim(1).await.pop() {
            assert_eq!(claimed.lease.run, run);
        } else {
            f.after(super::LEASE).await;
            assert!(f.claim_ids().await.contains(&run));
        }
        f.cancel(run).await;
    }
}

pub async fn every_waiting_claim_gets_its_run(f: &Fixture) {
    let claims: Vec<_> = (0..10)
        .map(|_| {
            let request = ClaimRequest {
                wait: WAIT,
                ..f.request(1)
            };
            let engine = Arc::clone(&f.engine);
            tokio::spawn(async move { engine.claim(request).await.unwrap()[0].lease.run })
        })
        .collect();
    let mut all = BTreeSet::new();
    for _ in 0..10 {
        all.insert(f.submitted().await);
    }
    let mut claimed = BTreeSet::new();
    for claim in claims {
        claimed.insert(claim.await.unwrap());
    }
    assert_eq!(claimed, all);
}
