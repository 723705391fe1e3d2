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

/// Beats for all active runs until dropped.
pub(crate) async fn beat(shared: Arc<Shared>) {
    let interval = shared.config.heartbeat_interval;
    let mut told: HashMap<RunId, Timestamp> = HashMap::new();
    let mut last_good = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = shared.beat_now.notified() => {}
        }
        let active = shared.active();
        told.retain(|run, _| active.iter().any(|entry| entry.lease.run == *run));
        if active.is_empty() {
            last_good = Instant::now();
            continue;
        }
        let leases: Vec<_> = active.iter().map(|entry| entry.lease).collect();
        let started = Instant::now();
        match shared
            .store
            .heartbeat(&leases, shared.config.lease_ttl)
            .await
        {
            Ok(beats) => {
                last_good = started;
                active
                    .iter()
                    .zip(beats)
                    .for_each(|(entry, beat)| tell(entry, beat));
                announce(&shared, &active, &mut told).await;
            }
            Err(error) => {
                tracing::warn!(worker = %shared.worker, %error, "failed to extend leases");
                // Nobody has confirmed the leases for their whole duration: others may hold them now.
                if last_good.elapsed() >= shared.config.lease_ttl {
                    active.iter().for_each(|entry| entry.control.set(LOST));
                }
            }
        }
    }
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
