//! Concurrency keys.

use std::{num::NonZeroU32, time::Duration};

use adjutant_core::{ErrorInfo, RunId, RunState};

use super::{Fixture, LEASE};
use crate::{Command, Concurrency, Disposition, Lease, NewRun, WakeOn};

fn keyed(f: &Fixture, key: &str, limit: u32, priority: i32) -> NewRun {
    let mut run = f.run();
    run.concurrency = Some(Concurrency {
        key: key.into(),
        limit: NonZeroU32::new(limit).unwrap(),
    });
    run.priority = priority;
    run
}

pub async fn no_more_run_at_a_time_than_the_key_allows(f: &Fixture) {
    for _ in 0..7 {
        f.submit(keyed(f, "k", 3, 0)).await;
    }
    let mut held: Vec<Lease> = Vec::new();
    let mut done = 0;
    while done < 7 {
        held.extend(f.claim(10).await.iter().map(|claimed| claimed.lease));
        assert_eq!(held.len(), 3.min(7 - done));
        let stats = f.engine.stats().await.unwrap();
        assert_eq!(
            stats.by_state.get(&RunState::Running),
            Some(&3.min(7 - done as u64))
        );
        f.succeed(held.remove(0)).await;
        done += 1;
    }
}

pub async fn every_way_out_frees_the_slot(f: &Fixture) {
    let other = f.submit(keyed(f, "k", 1, -1)).await;
    let never = || vec![WakeOn::Signal("never".to_owned())];
    for way in 0..5 {
        let first = f.submit(keyed(f, "k", 1, 50)).await;
        let claimed = f.claim(10).await;
        assert_eq!(claimed.len(), 1, "way {way}");
        let lease = claimed[0].lease;
        assert_eq!(lease.run, first, "way {way}");
        assert!(f.claim(10).await.is_empty());
        match way {
            0 => drop(f.succeed(lease).await),
            1 => drop(f.wait_for(lease, never()).await),
            2 => {
                let error = ErrorInfo::retriable("x", "y");
                f.settle(lease, Disposition::Failed(error)).await;
            }
            3 => {
                f.control(first, Command::Pause).await;
                f.release(lease).await;
            }
            _ => {
                f.cancel(first).await;
                f.after(LEASE).await;
            }
        }
        let next = f.claim_one().await.lease;
        assert_eq!(
            next.run,
            if way == 4 { next.run } else { other },
            "way {way}"
        );
        f.release(next).await;
    }
}

pub async fn the_best_of_the_held_back_goes_first(f: &Fixture) {
    let first = f.submit(keyed(f, "k", 1, 0)).await;
    let lease = f.claim_one().await.lease;
    assert_eq!(lease.run, first);
    let low = f.submit(keyed(f, "k", 1, 0)).await;
    let high = f.submit(keyed(f, "k", 1, 9)).await;
    let middle = f.submit(keyed(f, "k", 1, 5)).await;
    assert!(f.claim(10).await.is_empty());
    let mut lease = lease;
    for expected in [high, middle, low] {
        f.succeed(lease).await;
        let mut claimed = f.claim(10).await;
        assert_eq!(claimed.len(), 1);
        lease = claimed.remove(0).lease;
        assert_eq!(lease.run, expected);
    }
}

pub async fn a_cancelled_candidate_leaves_the_slot_to_others(f: &Fixture) {
    f.submit(keyed(f, "k", 1, 0)).await;
    let lease = f.claim_one().await.lease;
    let mut rest: Vec<RunId> = Vec::new();
    for _ in 0..3 {
        rest.push(f.submit(keyed(f, "k", 1, 0)).await);
    }
    assert!(f.claim(10).await.is_empty());
    f.succeed(lease).await;
    f.cancel(rest[0]).await;
    f.control(rest[1], Command::Pause).await;
    assert_eq!(f.claim_ids().await, rest[2..]);
}

pub async fn other_keys_are_not_held_back(f: &Fixture) {
    for key in ["k", "k", "l", "l"] {
        f.submit(keyed(f, key, 1, 0)).await;
    }
    let free = f.submitted().await;
    let claimed = f.claim(10).await;
    assert_eq!(claimed.len(), 3);
    assert_eq!(claimed[2].lease.run, free);
    assert_eq!(f.after(Duration::ZERO).await.woken, 0);
}
