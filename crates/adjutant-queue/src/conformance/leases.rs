//! Leases: epochs, heartbeats, expiry.

use std::time::Duration;

use adjutant_core::{RunResult, RunState};

use super::{
    Fixture, LEASE, WAIT,
    fixture::{is_illegal, is_lost},
};
use crate::{Beat, Command, Disposition, Lease};

const ALIVE: Beat = Beat::Alive {
    cancel: None,
    pause: false,
};

async fn beat(f: &Fixture, lease: Lease) -> Beat {
    f.engine
        .heartbeat(&[lease], LEASE)
        .await
        .unwrap()
        .pop()
        .unwrap()
}

pub async fn each_claim_has_a_higher_epoch(f: &Fixture) {
    let mut lease = f.running().await;
    for epoch in 1..4 {
        assert_eq!(lease.epoch, epoch);
        f.release(lease).await;
        lease = f.claim_one().await.lease;
    }
}

pub async fn a_held_run_is_not_claimed_again(f: &Fixture) {
    let lease = f.running().await;
    assert!(f.claim(1).await.is_empty());
    let held = f.record(lease.run).await.held.unwrap();
    assert_eq!(
        (held.worker, held.expires_at),
        (lease.worker, f.now() + LEASE)
    );
    assert!(f.after(LEASE - Duration::from_millis(1)).await.is_idle());
    assert!(f.claim(1).await.is_empty());
}

pub async fn a_heartbeat_extends_the_lease(f: &Fixture) {
    let lease = f.running().await;
    for _ in 0..3 {
        assert!(f.after(LEASE / 2).await.is_idle());
        assert_eq!(beat(f, lease).await, ALIVE);
    }
    assert_eq!(
        f.record(lease.run).await.held.unwrap().expires_at,
        f.now() + LEASE
    );
    assert_eq!(f.after(LEASE).await.recovered, 1);
    assert_eq!(beat(f, lease).await, Beat::Lost);
}

pub async fn a_heartbeat_brings_back_cancel_and_pause(f: &Fixture) {
    let lease = f.running().await;
    f.control(lease.run, Command::Pause).await;
    assert_eq!(
        beat(f, lease).await,
        Beat::Alive {
            cancel: None,
            pause: true
        }
    );
    f.cancel(lease.run).await;
    let both = Beat::Alive {
        cancel: Some("test".to_owned()),
        pause: true,
    };
    assert_eq!(beat(f, lease).await, both);
}

pub async fn a_stale_heartbeat_says_lost(f: &Fixture) {
    let old = f.running().await;
    f.release(old).await;
    assert_eq!(beat(f, old).await, Beat::Lost);
    let new = f.claim_one().await.lease;
    assert_eq!(beat(f, old).await, Beat::Lost);
    let stolen = Lease {
        worker: old.worker,
        ..new
    };
    assert_eq!(beat(f, stolen).await, Beat::Lost);
    f.succeed(new).await;
    assert_eq!(beat(f, new).await, Beat::Lost);
}

pub async fn heartbeats_answer_each_lease_in_order(f: &Fixture) {
    let (a, b, c) = (f.running().await, f.running().await, f.running().await);
    f.succeed(b).await;
    f.cancel(c.run).await;
    let beats = f.engine.heartbeat(&[a, b, c], LEASE).await.unwrap();
    let asked = Beat::Alive {
        cancel: Some("test".to_owned()),
        pause: false,
    };
    assert_eq!(beats, [ALIVE, Beat::Lost, asked]);
}

pub async fn an_expired_lease_comes_back_and_costs_no_attempt(f: &Fixture) {
    let lease = f.running().await;
    let swept = f.after(LEASE).await;
    assert_eq!((swept.recovered, swept.parked), (1, 0));
    let record = f.record(lease.run).await;
    assert_eq!(
        (record.state, record.attempt, record.deaths),
        (RunState::Pending, 1, 1)
    );
    let again = f.claim_one().await;
    assert_eq!((again.run.attempt, again.lease.epoch), (1, 2));
}

pub async fn a_stale_lease_changes_nothing(f: &Fixture) {
    let old = f.running().await;
    f.after(LEASE).await;
    let new = f.claim_one().await;
    let result = Disposition::Succeeded(RunResult::default());
    assert!(is_lost(f.engine.settle(old, result.clone()).await));
    assert_eq!(f.record(old.run).await, new.run);
    f.succeed(new.lease).await;
    let before = f.record(old.run).await;
    assert!(is_lost(f.engine.settle(new.lease, result.clone()).await));
    let unknown = Lease {
        run: adjutant_core::RunId::new(),
        ..old
    };
    assert!(is_lost(f.engine.settle(unknown, result).await));
    assert_eq!(f.record(old.run).await, before);
}

pub async fn a_released_lease_is_lost(f: &Fixture) {
    let lease = f.running().await;
    let record = f.release(lease).await;
    assert_eq!((record.state, record.held), (RunState::Pending, None));
    let reason = "drain".to_owned();
    assert!(is_lost(
        f.engine
            .settle(lease, Disposition::Released { reason })
            .await
    ));
    let again = f.claim_one().await;
    assert_eq!((again.run.attempt, again.run.deaths), (1, 0));
}

pub async fn too_many_deaths_park_the_run_until_it_is_redriven(f: &Fixture) {
    let mut run = f.run();
    run.max_deaths = 2;
    let id = f.submit(run).await;
    for death in 1..=3 {
        f.claim_one().await;
        let swept = f.after(LEASE).await;
        assert_eq!(swept.parked, u64::from(death == 3));
        assert_eq!(f.record(id).await.deaths, death);
    }
    let record = f.record(id).await;
    assert_eq!(
        (record.state, record.finished_at),
        (RunState::Parked, Some(f.now()))
    );
    assert!(record.reason.is_some());
    assert!(f.claim(1).await.is_empty());
    assert!(is_illegal(f.engine.control(id, Command::Pause).await));
    let record = f.control(id, Command::Redrive).await;
    assert_eq!(
        (record.state, record.deaths, record.finished_at),
        (RunState::Pending, 0, None)
    );
    f.succeed(f.claim_one().await.lease).await;
    assert!(is_illegal(f.engine.control(id, Command::Redrive).await));
}

pub async fn a_waiting_sweep_wakes_when_a_lease_expires(f: &Fixture) {
    f.submitted().await;
    let request = crate::ClaimRequest {
        lease_ttl: Duration::from_millis(50),
        ..f.request(1)
    };
    f.engine.claim(request).await.unwrap();
    let (swept, ()) = tokio::join!(f.engine.sweep(10, WAIT), async {
        tokio::task::yield_now().await;
        f.clock.advance(Duration::from_millis(50));
    });
    assert_eq!(swept.unwrap().recovered, 1);
}

pub async fn a_sweep_takes_no_more_than_its_limit(f: &Fixture) {
    for _ in 0..5 {
        f.running().await;
    }
    f.clock.advance(LEASE);
    for expected in [2, 2, 1, 0] {
        let swept = f.engine.sweep(2, Duration::ZERO).await.unwrap();
        assert_eq!(swept.recovered, expected);
    }
}
