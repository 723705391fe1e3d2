//! Timers, signals, fan-outs, and readers that wait.

use std::{sync::Arc, time::Duration};

use adjutant_core::{Error, ErrorInfo, Json, Limits, RunId, RunState};

use super::{Fixture, LEASE, WAIT};
use crate::{Command, Disposition, Wait, WakeOn};

const SECOND: Duration = Duration::from_secs(1);

fn signal(name: &str) -> WakeOn {
    WakeOn::Signal(name.to_owned())
}

pub async fn a_timer_wakes(f: &Fixture) {
    let lease = f.running().await;
    let at = f.now() + SECOND;
    let record = f
        .wait_for(lease, vec![WakeOn::At(at), signal("never")])
        .await;
    assert_eq!((record.state, record.held), (RunState::Waiting, None));
    assert_eq!(
        f.engine.sweep(10, Duration::ZERO).await.unwrap().next_due,
        Some(at)
    );
    assert!(f.claim(1).await.is_empty());
    assert_eq!(f.after(SECOND).await.woken, 1);
    assert_eq!(f.claim_ids().await, [lease.run]);
}

pub async fn a_timer_that_is_over_wakes_at_once(f: &Fixture) {
    let lease = f.running().await;
    let record = f.wait_for(lease, vec![WakeOn::At(f.now())]).await;
    assert_eq!((record.state, record.wait), (RunState::Pending, None));
    assert_eq!(f.claim_ids().await, [lease.run]);
}

pub async fn a_waiting_sweep_notices_an_earlier_timer(f: &Fixture) {
    let lease = f.running().await;
    let at = f.now() + Duration::from_millis(20);
    let (swept, _) = tokio::join!(f.engine.sweep(10, WAIT), async {
        tokio::task::yield_now().await;
        let record = f.wait_for(lease, vec![WakeOn::At(at)]).await;
        f.clock.advance(Duration::from_millis(20));
        record
    });
    assert_eq!(swept.unwrap().woken, 1);
}

pub async fn a_signal_wakes_and_waits_in_the_mailbox(f: &Fixture) {
    let lease = f.running().await;
    f.wait_for(lease, vec![signal("go")]).await;
    let record = f.signal(lease.run, "go", "1").await;
    assert_eq!(
        (record.state, record.unread_signals),
        (RunState::Pending, 1)
    );
    let claimed = f.claim_one().await;
    assert_eq!(claimed.signals.len(), 1);
    let got = &claimed.signals[0];
    assert_eq!(
        (got.id, got.name.as_str(), got.payload.as_str()),
        (1, "go", "\"1\"")
    );
    assert_eq!(got.received_at, f.now());
}

pub async fn a_signal_before_the_wait_is_kept(f: &Fixture) {
    let lease = f.running().await;
    assert_eq!(
        f.signal(lease.run, "go", "1").await.state,
        RunState::Running
    );
    let record = f.wait_for(lease, vec![signal("go")]).await;
    assert_eq!(record.state, RunState::Pending);
    assert_eq!(f.claim_one().await.signals.len(), 1);
}

pub async fn signals_keep_their_order(f: &Fixture) {
    let run = f.submitted().await;
    for n in ["1", "2", "3"] {
        f.signal(run, "go", n).await;
    }
    let signals = f.claim_one().await.signals;
    let got: Vec<_> = signals.iter().map(|s| (s.id, s.payload.as_str())).collect();
    assert_eq!(got, [(1, "\"1\""), (2, "\"2\""), (3, "\"3\"")]);
}

pub async fn another_signal_does_not_wake(f: &Fixture) {
    let lease = f.running().await;
    f.signal(lease.run, "other", "0").await;
    let record = f.wait_for(lease, vec![signal("go")]).await;
    assert_eq!(record.state, RunState::Waiting);
    assert_eq!(
        f.signal(lease.run, "other", "1").await.state,
        RunState::Waiting
    );
    assert!(f.claim(1).await.is_empty());
}

pub async fn a_signal_over_the_limit_is_refused(f: &Fixture) {
    let run = f.submitted().await;
    let payload = Json::from("x".repeat(Limits::default().signal).as_str());
    let name = "big".to_owned();
    let error = f
        .engine
        .control(run, Command::Signal { name, payload })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(f.claim_one().await.signals.is_empty());
}

pub async fn waiting_for_a_person_shows(f: &Fixture) {
    let lease = f.running().await;
    let wait = Wait {
        wake_on: vec![signal("yes")],
        input_required: true,
    };
    let record = f.settle(lease, Disposition::Waiting(wait.clone())).await;
    assert_eq!(
        (record.state, record.wait),
        (RunState::InputRequired, Some(wait))
    );
    assert_eq!(
        f.signal(lease.run, "yes", "1").await.state,
        RunState::Pending
    );
}

pub async fn a_wait_continues_the_same_attempt(f: &Fixture) {
    let lease = f.running().await;
    f.wait_for(lease, vec![WakeOn::At(f.now())]).await;
    let claimed = f.claim_one().await;
    assert_eq!((claimed.run.attempt, claimed.lease.epoch), (1, 2));
}

pub async fn a_waiting_reader_is_told_of_the_end(f: &Fixture) {
    let lease = f.running().await;
    let (view, _) = tokio::join!(f.engine.settled(lease.run, WAIT), async {
        tokio::task::yield_now().await;
        f.succeed(lease).await
    });
    let view = view.unwrap();
    assert_eq!(view.run.state, RunState::Succeeded);
    assert!(view.outcome.is_some());
    let again = f.engine.settled(lease.run, WAIT).await.unwrap();
    assert_eq!(again, view);
}

pub async fn a_waiting_reader_is_told_of_parking(f: &Fixture) {
    let mut run = f.run();
    run.max_deaths = 0;
    let id = f.submit(run).await;
    f.claim_one().await;
    let (view, swept) = tokio::join!(f.engine.settled(id, WAIT), async {
        tokio::task::yield_now().await;
        f.after(LEASE).await
    });
    assert_eq!(swept.parked, 1);
    let view = view.unwrap();
    assert_eq!((view.run.state, view.outcome), (RunState::Parked, None));
}

pub async fn a_reader_that_waits_in_vain_gets_the_run_as_it_stands(f: &Fixture) {
    let run = f.submitted().await;
    for wait in [Duration::ZERO, Duration::from_millis(20)] {
        let view = f.engine.settled(run, wait).await.unwrap();
        assert_eq!(view.run.state, RunState::Pending);
    }
}

/// A parent that waits for three children in group `g`, and the children.
async fn family(f: &Fixture, fail_fast: bool) -> (RunId, Vec<RunId>) {
    let parent = f.running().await;
    let mut children = Vec::new();
    for _ in 0..3 {
        children.push(f.submit(f.child(parent.run, "g")).await);
    }
    let key = Arc::from("g");
    let record = f
        .wait_for(parent, vec![WakeOn::Group { key, fail_fast }])
        .await;
    assert_eq!((record.state, record.children), (RunState::Waiting, 3));
    (parent.run, children)
}

async fn fail_one(f: &Fixture) {
    let lease = f.claim_one().await.lease;
    f.settle(lease, Disposition::Failed(ErrorInfo::permanent("x", "y")))
        .await;
}

pub async fn a_group_wakes_its_parent_when_all_have_ended(f: &Fixture) {
    let (parent, children) = family(f, false).await;
    f.succeed(f.claim_one().await.lease).await;
    fail_one(f).await;
    assert_eq!(f.state(parent).await, RunState::Waiting);
    f.cancel(children[2]).await;
    assert_eq!(f.state(parent).await, RunState::Pending);
    assert_eq!(f.claim_ids().await, [parent]);
}

pub async fn fail_fast_wakes_at_the_first_failure(f: &Fixture) {
    let (parent, children) = family(f, true).await;
    f.succeed(f.claim_one().await.lease).await;
    assert_eq!(f.state(parent).await, RunState::Waiting);
    fail_one(f).await;
    assert_eq!(f.state(parent).await, RunState::Pending);
    assert_eq!(f.state(children[2]).await, RunState::Pending);
}
