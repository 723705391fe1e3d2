//! Tells the host at intervals that runs are being worked on.

use std::sync::{Arc, PoisonError};

use crate::{link::lock, server::Host};

/// Runs until the connection is closed. One thread serves all runs.
pub(crate) fn beat(host: &Arc<Host>) {
    let mut state = lock(&host.state);
    while !state.closed {
        let interval = state.heartbeat;
        let (guard, waited) = host
            .pulse
            .wait_timeout(state, interval)
            .unwrap_or_else(PoisonError::into_inner);
        state = guard;
        if waited.timed_out() {
            let runs: Vec<_> = state.runs.values().cloned().collect();
            // Writing may block on a host that does not read; health checks must not wait for that.
            drop(state);
            runs.iter().for_each(|attempt| attempt.heartbeat());
            state = lock(&host.state);
        }
    }
}
