//! Lists, numbers, forgetting.

use std::{collections::BTreeMap, time::Duration};

use adjutant_core::{RunId, RunState};

use super::{Fixture, LEASE};
use crate::{PrunePolicy, RunFilter, WakeOn};

async fn list(f: &Fixture, filter: RunFilter) -> Vec<RunId> {
    f.engine
        .list(filter)
        .await
        .unwrap()
        .iter()
        .map(|run| run.id)
        .collect()
}

pub async fn a_run_that_is_not_there_is_none(f: &Fixture) {
    assert!(f.engine.get(RunId::new()).await.unwrap().is_none());
    assert!(list(f, RunFilter::default()).await.is_empty());
}

pub async fn lists_are_newest_first_and_paged(f: &Fixture) {
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.insert(0, f.submitted().await);
        f.clock.advance(Duration::from_millis(1));
    }
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let page = list(
            f,
            RunFilter {
                limit: 3,
                before,
                ..RunFilter::default()
            },
        )
        .await;
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        before = Some(*last);
        pages.extend(page);
    }
    assert_eq!(pages, ids);
}

pub async fn lists_filter_by_state_agent_and_parent(f: &Fixture) {
    let running = f.running().await.run;
    let pending = f.submitted().await;
    let mut other = f.run();
    other.agent = "b".into();
    let other = f.submit(other).await;
    let child = f.submit(f.child(running, "g")).await;
    let all = RunFilter::default();
    let states = vec![RunState::Running, RunState::Cancelled];
    assert_eq!(
        list(
            f,
            RunFilter {
                states,
                ..all.clone()
            }
        )
        .await,
        [running]
    );
    let agent = Some("b".into());
    assert_eq!(
        list(
            f,
            RunFilter {
                agent,
                ..all.clone()
            }
        )
        .await,
        [other]
    );
    let parent = Some(running);
    assert_eq!(
        list(
            f,
            RunFilter {
                parent,
                ..all.clone()
            }
        )
        .await,
        [child]
    );
    assert_eq!(list(f, all).await, [child, other, pending, running]);
}

pub async fn the_numbers_are_true(f: &Fixture) {
    assert_eq!(
        f.engine.stats().await.unwrap(),
        crate::QueueStats::default()
    );
    let ended = f.running().await;
    f.succeed(ended).await;
    let waiting = f.running().await;
    f.wait_for(waiting, vec![WakeOn::Signal("go".to_owned())])
        .await;
    f.running().await;
    let mut delayed = f.run();
    delayed.not_before = Some(f.now() + LEASE * 100);
    f.submit(delayed).await;
    let oldest = f.now();
    f.submitted().await;
    f.clock.advance(Duration::from_secs(1));
    let mut urgent = f.run();
    urgent.priority = 100;
    f.submit(urgent).await;
    let stats = f.engine.stats().await.unwrap();
    let by_state = BTreeMap::from([
        (RunState::Pending, 3),
        (RunState::Running, 1),
        (RunState::Waiting, 1),
        (RunState::Succeeded, 1),
    ]);
    assert_eq!(stats.by_state, by_state);
    assert_eq!((stats.ready, stats.delayed, stats.blocked), (2, 1, 0));
    assert_eq!(stats.oldest_ready_at, Some(oldest));
}

async fn prune(f: &Fixture, limit: usize) -> u64 {
    let finished_before = f.now();
    f.engine
        .prune(PrunePolicy {
            finished_before,
            limit,
        })
        .await
        .unwrap()
}

pub async fn pruning_forgets_only_finished_runs(f: &Fixture) {
    let mut ended = Vec::new();
    for _ in 0..3 {
        let lease = f.running().await;
        ended.push(f.succeed(lease).await.id);
        f.clock.advance(Duration::from_secs(1));
    }
    let pending = f.submitted().await;
    f.cancel(pending).await;
    let mut doomed = f.run();
    doomed.max_deaths = 0;
    let parked = f.submit(doomed).await;
    f.claim_one().await;
    assert_eq!(prune(f, 2).await, 2);
    assert!(f.engine.get(ended[1]).await.unwrap().is_none());
    assert!(f.engine.get(ended[2]).await.unwrap().is_some());
    assert_eq!(prune(f, 10).await, 1);
    assert!(
        f.engine.get(pending).await.unwrap().is_some(),
        "it ended just now"
    );
    f.after(LEASE).await;
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(prune(f, 10).await, 1);
    assert_eq!(f.state(parked).await, RunState::Parked);
    assert_eq!(list(f, RunFilter::default()).await, [parked]);
}

pub async fn pruning_keeps_children_of_a_run_that_goes_on(f: &Fixture) {
    let parent = f.running().await;
    let child = f.submit(f.child(parent.run, "g")).await;
    f.succeed(f.claim_one().await.lease).await;
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(prune(f, 10).await, 0);
    assert!(f.engine.get(child).await.unwrap().is_some());
    f.succeed(parent).await;
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(prune(f, 10).await, 2);
    assert!(f.engine.get(child).await.unwrap().is_none());
}

pub async fn a_child_that_outlives_its_parent_is_still_listed_under_it(f: &Fixture) {
    let parent = f.running().await;
    let mut doomed = f.child(parent.run, "g");
    doomed.max_deaths = 0;
    let child = f.submit(doomed).await;
    f.claim_one().await;
    f.after(LEASE).await;
    assert_eq!(f.state(child).await, RunState::Parked);
    f.succeed(f.claim_one().await.lease).await;
    f.clock.advance(Duration::from_secs(1));
    prune(f, 10).await;
    assert_eq!(
        list(f, RunFilter::default()).await,
        [child],
        "the parent is gone"
    );
    let below = RunFilter {
        parent: Some(parent.run),
        ..RunFilter::default()
    };
    assert_eq!(list(f, below).await, [child]);
}

pub async fn a_pruned_key_can_be_used_again(f: &Fixture) {
    let mut run = f.run();
    run.idempotency_key = Some("k".to_owned());
    f.submit(run.clone()).await;
    f.succeed(f.claim_one().await.lease).await;
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(prune(f, 10).await, 1);
    run.id = RunId::new();
    assert!(f.engine.submit(vec![run]).await.unwrap()[0].created);
}
