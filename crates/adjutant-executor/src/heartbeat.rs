//! Keeps leases alive and brings back what is asked of the runs.

use std::{collections::HashMap, sync::Arc, time::Duration};

use adjutant_core::{EventType, NewEvent, RunId, Timestamp};
use adjutant_queue::Beat;
use adjutant_store::{Commit, Op};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    control::{LOST, PAUSE},
    shared::{Active, Shared},
};

/// A `run.heartbeat` event is written this often at most, however often the lease is extended.
const EVENT_EVERY: Duration = Duration::from_secs(30);

/// Shortest time between two beats when they fail.
const AGAIN: Duration = Duration::from_millis(50);

/// Beats for all active runs until dropped.
pub(crate) async fn beat(shared: Arc<Shared>) {
    let interval = shared.config.heartbeat_interval;
    let mut told: HashMap<RunId, Timestamp> = HashMap::new();
    let mut wait = interval;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.beat_now.notified() => {}
        }
        wait = interval;
        let active = still_held(&shared);
        told.retain(|run, _| active.iter().any(|entry| entry.lease.run == *run));
        let Some(deadline) = active.iter().map(|entry| entry.good_until).min() else {
            continue;
        };
        let leases: Vec<_> = active.iter().map(|entry| entry.lease).collect();
        let asked = Instant::now();
        let beats = shared.store.heartbeat(&leases, shared.config.lease_ttl);
        match tokio::time::timeout_at(deadline, beats).await {
            Ok(Ok(beats)) => {
                shared.confirm(&leases, asked);
                active
                    .iter()
                    .zip(beats)
                    .for_each(|(entry, beat)| tell(entry, beat));
                // An event that cannot be written must not keep the next beat waiting.
                let events = announce(&shared, &active, &mut told);
                let _late = tokio::time::timeout(interval, events).await;
            }
            failed => {
                // A store that is slow to answer is asked again, as one that fails is.
                let error = failed.map(Result::err).ok().flatten();
                let error = error.map_or_else(|| "no answer".to_owned(), |error| error.to_string());
                tracing::warn!(worker = %shared.worker, error, "failed to extend leases");
                let left = deadline.saturating_duration_since(Instant::now());
                wait = (left / 4).max(AGAIN).min(left).min(interval);
            }
        }
    }
}

/// The active runs, without those whose lease nobody has confirmed for its whole duration: others may
/// hold them now.
fn still_held(shared: &Shared) -> Vec<Active> {
    let now = Instant::now();
    let mut active = shared.active();
    active.retain(|entry| {
        if entry.good_until <= now {
            entry.control.set(LOST);
        }
        !entry.control.has(LOST)
    });
    active
}

fn tell(entry: &Active, beat: Beat) {
    match beat {
        Beat::Lost => entry.control.set(LOST),
        Beat::Alive { cancel, pause } => {
            if let Some(reason) = cancel {
                entry.control.cancel(&reason);
            }
            if pause {
                entry.control.set(PAUSE);
            }
        }
    }
}

async fn announce(shared: &Shared, active: &[Active], told: &mut HashMap<RunId, Timestamp>) {
    let now = shared.clock.now();
    for entry in active {
        let last = told.entry(entry.lease.run).or_insert(now);
        if now.since(*last) < EVENT_EVERY || entry.control.has(LOST) {
            continue;
        }
        *last = now;
        let event = NewEvent::new(EventType::RunHeartbeat, json!({ "timestamp": now }));
        let commit = Commit {
            lease: entry.lease,
            ops: vec![Op::Event(event)],
            end: None,
        };
        if let Err(error) = shared.store.commit(commit).await {
            tracing::debug!(run_id = %entry.lease.run, %error, "failed to write a heartbeat event");
        }
    }
}
