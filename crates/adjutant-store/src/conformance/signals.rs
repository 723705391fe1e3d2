//! The mailbox.

use adjutant_core::{Error, RunState};
use adjutant_queue::{Disposition, WakeOn};

use super::{Fixture, fixture::wait_for};
use crate::{Commit, Op};

fn go() -> Option<Disposition> {
    wait_for(WakeOn::Signal("go".to_owned()))
}

pub async fn a_claim_carries_what_is_unread(f: &Fixture) {
    let run = f.submitted().await;
    f.signal(run, "a").await;
    f.signal(run, "b").await;
    let claimed = f.claim_one().await;
    let ids = |signals: &[adjutant_queue::Signal]| signals.iter().map(|s| s.id).collect::<Vec<_>>();
    assert_eq!(ids(&claimed.signals), [1, 2]);
    assert_eq!(claimed.run.unread_signals, 2);
    let reason = "yield".to_owned();
    let end = Some(Disposition::Released { reason });
    f.commit(claimed.lease, vec![Op::TakeSignal(1)], end).await;
    f.signal(run, "c").await;
    let claimed = f.claim_one().await;
    assert_eq!(ids(&claimed.signals), [2, 3]);
    assert_eq!(claimed.run.unread_signals, 2);
}

pub async fn a_signal_is_taken_once(f: &Fixture) {
    let lease = f.running().await;
    f.signal(lease.run, "go").await;
    f.commit(lease, vec![Op::TakeSignal(1)], None).await;
    for signal in [1, 2] {
        let ops = vec![Op::TakeSignal(signal)];
        let error = f
            .engine
            .commit(Commit {
                lease,
                ops,
                end: None,
            })
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
    }
    assert_eq!(
        f.snapshot(lease.run).await.view.unwrap().run.unread_signals,
        0
    );
}

pub async fn taking_a_signal_twice_in_one_commit_is_a_conflict(f: &Fixture) {
    let lease = f.running().await;
    f.signal(lease.run, "go").await;
    let ops = vec![Op::TakeSignal(1), Op::TakeSignal(1)];
    let error = f
        .engine
        .commit(Commit {
            lease,
            ops,
            end: None,
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    f.commit(lease, vec![Op::TakeSignal(1)], None).await;
}

pub async fn a_signal_taken_with_the_commit_does_not_end_its_wait(f: &Fixture) {
    let lease = f.running().await;
    f.signal(lease.run, "go").await;
    f.signal(lease.run, "go").await;
    let committed = f.commit(lease, vec![Op::TakeSignal(1)], go()).await;
    assert_eq!(committed.state, RunState::Pending, "the second one ends it");
    let lease = f.claim_one().await.lease;
    let committed = f.commit(lease, vec![Op::TakeSignal(2)], go()).await;
    assert_eq!(committed.state, RunState::Waiting);
    assert_eq!(f.signal(lease.run, "go").await.state, RunState::Pending);
}
