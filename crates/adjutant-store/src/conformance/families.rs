//! Parents and children.

use std::sync::Arc;

use adjutant_core::{Error, ErrorInfo, RunId, RunState};
use adjutant_queue::{Disposition, Lease, NewRun};

use super::{Fixture, fixture::wait_for_group};
use crate::{Commit, Op};

fn spawn(child: &NewRun) -> Op {
    Op::Spawn(Box::new(child.clone()))
}

/// A parent that waits for `n` children in group `g`, and the leases on the children.
async fn family(f: &Fixture, n: usize, fail_fast: bool) -> (RunId, Vec<Lease>) {
    let parent = f.running().await;
    let children: Vec<_> = (0..n).map(|_| f.child(parent.run, "g")).collect();
    let ops = children.iter().map(spawn).collect();
    let committed = f.commit(parent, ops, wait_for_group("g", fail_fast)).await;
    assert_eq!(committed.state, RunState::Waiting);
    let claimed = f.claim(n + 1).await;
    let leases: Vec<_> = claimed.iter().map(|claimed| claimed.lease).collect();
    assert!(
        leases
            .iter()
            .map(|lease| lease.run)
            .eq(children.iter().map(|child| child.id))
    );
    (parent.run, leases)
}

async fn fail(f: &Fixture, lease: Lease) {
    let error = ErrorInfo::permanent("x", "y");
    f.commit(lease, Vec::new(), Some(Disposition::Failed(error)))
        .await;
}

pub async fn a_fan_out_wakes_its_parent_when_all_have_ended(f: &Fixture) {
    let (parent, children) = family(f, 3, false).await;
    fail(f, children[1]).await;
    f.succeed(children[0]).await;
    assert_eq!(f.state(parent).await, RunState::Waiting);
    f.succeed(children[2]).await;
    assert_eq!(f.state(parent).await, RunState::Pending);
    let told = f.snapshot(parent).await;
    assert_eq!(told.told()[2..], ["run.waiting", "run.resumed"]);
    assert_eq!(f.claim_one().await.lease.run, parent);
}

pub async fn fail_fast_wakes_at_the_first_failure(f: &Fixture) {
    let (parent, children) = family(f, 3, true).await;
    f.succeed(children[0]).await;
    assert_eq!(f.state(parent).await, RunState::Waiting);
    fail(f, children[1]).await;
    let woken = f.claim_one().await;
    assert_eq!((woken.lease.run, woken.run.attempt), (parent, 1));
    f.succeed(children[2]).await;
    assert_eq!(f.state(parent).await, RunState::Running);
}

pub async fn a_child_that_has_ended_already_counts(f: &Fixture) {
    let parent = f.running().await;
    let child = f.child(parent.run, "g");
    f.commit(parent, vec![spawn(&child)], None).await;
    f.succeed(f.claim_one().await.lease).await;
    let committed = f
        .commit(parent, Vec::new(), wait_for_group("g", false))
        .await;
    assert_eq!(committed.state, RunState::Pending);
}

pub async fn a_fan_out_without_children_is_done(f: &Fixture) {
    let parent = f.running().await;
    let committed = f
        .commit(parent, Vec::new(), wait_for_group("none", false))
        .await;
    assert_eq!(committed.state, RunState::Pending);
}

pub async fn spawning_again_spawns_nothing_twice(f: &Fixture) {
    let parent = f.running().await;
    let child = f.child(parent.run, "g");
    for _ in 0..3 {
        f.commit(parent, vec![spawn(&child), spawn(&child)], None)
            .await;
    }
    let record = f.snapshot(parent.run).await.view.unwrap().run;
    assert_eq!(record.children, 1);
    f.succeed(f.claim_one().await.lease).await;
    let ops = vec![spawn(&child)];
    let committed = f.commit(parent, ops, wait_for_group("g", false)).await;
    assert_eq!(committed.state, RunState::Pending);
    assert_eq!(f.snapshot(child.id).await.told().len(), 3);
}

pub async fn a_child_must_name_its_parent(f: &Fixture) {
    let (parent, other) = (f.running().await, f.running().await);
    for child in [f.run(), f.child(other.run, "g")] {
        let commit = Commit {
            lease: parent,
            ops: vec![spawn(&child)],
            end: None,
        };
        let error = f.engine.commit(commit).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert!(f.engine.get(child.id).await.unwrap().is_none());
    }
}

pub async fn cancelling_a_group_leaves_other_groups(f: &Fixture) {
    let parent = f.running().await;
    let [held, pending, other] = ["g", "g", "h"].map(|group| f.child(parent.run, group));
    f.commit(parent, vec![spawn(&held)], None).await;
    assert_eq!(f.claim_one().await.lease.run, held.id);
    let cancel = Op::CancelGroup {
        group: Arc::from("g"),
        reason: "enough".to_owned(),
    };
    f.commit(
        parent,
        vec![spawn(&pending), spawn(&other), cancel.clone()],
        None,
    )
    .await;
    assert_eq!(f.state(pending.id).await, RunState::Cancelled);
    assert_eq!(f.state(other.id).await, RunState::Pending);
    let held = f.snapshot(held.id).await.view.unwrap().run;
    assert_eq!(
        (held.state, held.cancel.as_deref()),
        (RunState::Running, Some("enough"))
    );
    f.commit(parent, vec![cancel], wait_for_group("g", false))
        .await;
    assert_eq!(
        f.state(parent.run).await,
        RunState::Waiting,
        "one has not ended yet"
    );
}

pub async fn a_failed_parent_takes_its_family_with_it(f: &Fixture) {
    let parent = f.running().await;
    let child = f.child(parent.run, "g");
    f.commit(parent, vec![spawn(&child)], None).await;
    fail(f, parent).await;
    assert_eq!(f.state(child.id).await, RunState::Cancelled);
    let parent = f.running().await;
    let child = f.child(parent.run, "g");
    f.commit(parent, vec![spawn(&child)], None).await;
    f.succeed(parent).await;
    assert_eq!(
        f.state(child.id).await,
        RunState::Pending,
        "a success lets them go on"
    );
}

pub async fn a_cancel_reaches_grandchildren(f: &Fixture) {
    let (root, children) = family(f, 2, false).await;
    let grandchild = f.child(children[0].run, "g");
    let ops = vec![spawn(&grandchild)];
    f.commit(children[0], ops, wait_for_group("g", false)).await;
    f.cancel(root).await;
    for run in [root, children[0].run, grandchild.id] {
        assert_eq!(f.state(run).await, RunState::Cancelled);
    }
    let held = f.snapshot(children[1].run).await.view.unwrap().run;
    assert!(held.cancel.is_some());
    assert_eq!(held.state, RunState::Running);
    assert!(f.claim(10).await.is_empty());
}

pub async fn a_thousand_children_end_one_by_one(f: &Fixture) {
    let (parent, children) = family(f, 1000, false).await;
    for child in &children[1..] {
        f.succeed(*child).await;
    }
    assert_eq!(f.state(parent).await, RunState::Waiting);
    f.succeed(children[0]).await;
    assert_eq!(f.state(parent).await, RunState::Pending);
}
