//! Cancel, pause, resume.

use std::time::Duration;

use adjutant_core::{Error, Outcome, RunId, RunState};

use super::{Fixture, LEASE};
use crate::{Beat, Command, Disposition, WakeOn};

async fn waiting(f: &Fixture) -> RunId {
    let lease = f.running().await;
    f.wait_for(lease, vec![WakeOn::Signal("go".to_owned())])
        .await
        .id
}

pub async fn a_run_that_nobody_holds_is_cancelled_at_once(f: &Fixture) {
    let waiting = waiting(f).await;
    let paused = f.submitted().await;
    f.control(paused, Command::Pause).await;
    let pending = f.submitted().await;
    for run in [waiting, paused, pending] {
        let record = f.cancel(run).await;
        assert_eq!((record.state, record.wait), (RunState::Cancelled, None));
        let outcome = f.engine.get(run).await.unwrap().unwrap().outcome;
        assert_eq!(
            outcome,
            Some(Outcome::Cancelled {
                reason: "test".to_owned()
            })
        );
    }
}

pub async fn a_held_run_is_cancelled_by_its_worker(f: &Fixture) {
    let lease = f.running().await;
    let record = f.cancel(lease.run).await;
    assert_eq!(
        (record.state, record.cancel.as_deref()),
        (RunState::Running, Some("test"))
    );
    let reason = "test".to_owned();
    let record = f.settle(lease, Disposition::Cancelled { reason }).await;
    assert_eq!(record.state, RunState::Cancelled);
}

pub async fn a_cancelled_run_is_never_claimed_again(f: &Fixture) {
    let pending = f.submitted().await;
    f.cancel(pending).await;
    let held = f.running().await;
    f.cancel(held.run).await;
    assert_eq!(f.release(held).await.state, RunState::Cancelled);
    let held = f.running().await;
    f.cancel(held.run).await;
    let record = f.wait_for(held, vec![WakeOn::At(f.now())]).await;
    assert_eq!(record.state, RunState::Cancelled);
    f.after(LEASE * 100).await;
    assert!(f.claim(10).await.is_empty());
}

pub async fn cancelling_twice_is_cancelling_once(f: &Fixture) {
    let run = f.submitted().await;
    let once = f.cancel(run).await;
    f.clock.advance(LEASE);
    assert_eq!(f.cancel(run).await, once);
    let lease = f.running().await;
    let once = f.cancel(lease.run).await;
    let reason = "another".to_owned();
    assert_eq!(f.control(lease.run, Command::Cancel { reason }).await, once);
}

pub async fn a_cancel_outlives_its_worker(f: &Fixture) {
    let lease = f.running().await;
    f.cancel(lease.run).await;
    f.after(LEASE).await;
    let record = f.record(lease.run).await;
    assert_eq!((record.state, record.deaths), (RunState::Cancelled, 1));
}

pub async fn pending_and_waiting_runs_pause_and_resume(f: &Fixture) {
    for was_waiting in [true, false] {
        let run = match was_waiting {
            true => waiting(f).await,
            false => f.submitted().await,
        };
        assert_eq!(f.control(run, Command::Pause).await.state, RunState::Paused);
        let again = f.control(run, Command::Pause).await;
        assert_eq!(again.state, RunState::Paused);
        f.signal(run, "go", "1").await;
        f.after(LEASE * 100).await;
        assert!(f.claim(1).await.is_empty());
        assert_eq!(
            f.control(run, Command::Resume).await.state,
            RunState::Pending
        );
        f.succeed(f.claim_one().await.lease).await;
        assert_eq!(f.state(run).await, RunState::Succeeded);
    }
}

pub async fn a_held_run_pauses_when_it_is_released(f: &Fixture) {
    let lease = f.running().await;
    assert_eq!(
        f.control(lease.run, Command::Pause).await.state,
        RunState::Running
    );
    assert_eq!(f.release(lease).await.state, RunState::Paused);
    assert!(f.claim(1).await.is_empty());
    f.control(lease.run, Command::Resume).await;
    let again = f.claim_one().await;
    assert_eq!((again.run.attempt, again.run.pause), (1, false));
    f.control(lease.run, Command::Pause).await;
    f.control(lease.run, Command::Resume).await;
    let beat = f
        .engine
        .heartbeat(&[again.lease], LEASE)
        .await
        .unwrap()
        .pop();
    assert_eq!(
        beat,
        Some(Beat::Alive {
            cancel: None,
            pause: false
        })
    );
    assert_eq!(f.release(again.lease).await.state, RunState::Pending);
}

pub async fn a_command_for_no_run_says_so(f: &Fixture) {
    let run = RunId::new();
    let error = f.engine.control(run, Command::Pause).await.unwrap_err();
    assert!(
        matches!(error, Error::RunNotFound(id) if id == run),
        "{error}"
    );
    let error = f.engine.settled(run, Duration::ZERO).await.unwrap_err();
    assert!(
        matches!(error, Error::RunNotFound(id) if id == run),
        "{error}"
    );
}

pub async fn a_cancel_reaches_children_and_grandchildren(f: &Fixture) {
    let root = f.running().await;
    let pending = f.submit(f.child(root.run, "g")).await;
    let held = f.claim_one().await.lease;
    assert_eq!(held.run, pending);
    let below_held = f.submit(f.child(held.run, "g")).await;
    let other = f.submit(f.child(root.run, "h")).await;
    f.control(other, Command::Pause).await;
    let below_other = f.submit(f.child(other, "g")).await;
    f.cancel(root.run).await;
    for run in [below_held, other, below_other] {
        assert_eq!(f.state(run).await, RunState::Cancelled);
    }
    assert!(f.record(held.run).await.cancel.is_some());
    assert!(f.record(root.run).await.cancel.is_some());
}
