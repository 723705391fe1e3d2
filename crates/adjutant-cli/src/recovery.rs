//! Finding the run that an earlier command began and could not finish.

use std::{path::Path, sync::Arc};

use adjutant::{
    Store,
    core::{Error, Json, RunId, RunInput, RunState, SystemClock, Timestamp, WorkerId},
    queue::{Disposition, Lease, RunFilter, RunRecord},
};
use serde::{Deserialize, Serialize};

use crate::{
    agents::Found,
    failure::Result,
    workers::{self, Life, WorkerNote},
};

/// Unfinished runs of one agent that are looked at.
const LOOKED_AT: usize = 200;

/// What this program keeps with a run, beside what the user says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Marks {
    /// The caller's working directory, for agents that read files by relative paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The manifest's absolute path, for whoever continues the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// What the submitter calls the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What tells that a later command asks for the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

impl Marks {
    /// The marks in a run's metadata.
    pub fn of(metadata: &Json) -> Self {
        metadata.to().unwrap_or_default()
    }
}

/// What an equal command has an equal one of: manifest, agent, input, parameters and working directory.
pub fn fingerprint(agent: &Found, cwd: &Path, input: &RunInput) -> String {
    let request = serde_json::json!({
        "manifest": agent.path,
        "agent": agent.key(),
        "cwd": cwd,
        "input": input,
    });
    format!("{:016x}", Json::from(request).fingerprint().0)
}

/// Who has an unfinished run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Nobody: it can be taken at once.
    Nobody,
    /// A worker that is dead, and still has this lease.
    Dead(Lease),
    /// A worker that is at it.
    Alive(WorkerId),
}

/// Who has the run, as far as leases and notes tell.
pub fn holder(run: &RunRecord, notes: &[WorkerNote]) -> Holder {
    let serving = notes
        .iter()
        .find(|note| note.run == Some(run.id) && note.life() == Life::Alive);
    if let Some(note) = serving {
        return Holder::Alive(note.worker);
    }
    match run.held {
        Some(held) if run.state == RunState::Running && held.expires_at > now() => {
            match workers::life_of(notes, held.worker) {
                Life::Dead => Holder::Dead(Lease {
                    run: run.id,
                    worker: held.worker,
                    epoch: run.epoch,
                }),
                // Without a note it is somebody elsewhere, and their lease counts.
                Life::Alive | Life::Unknown => Holder::Alive(held.worker),
            }
        }
        _ => Holder::Nobody,
    }
}

/// Gives a run back on behalf of its worker, whose process is known to be dead: there is nobody left to wait for.
///
/// Only for a person's own command. A worker that is restarted again and again by its supervisor waits for leases to
/// end, which is how runs that kill their workers are counted and parked.
pub async fn give_back(store: &Arc<dyn Store>, lease: Lease) -> Result<()> {
    let reason = "its worker died".to_owned();
    match store.settle(lease, Disposition::Released { reason }).await {
        // Somebody else was quicker, or it was alive after all: either way the run is in good hands.
        Ok(_) | Err(Error::LeaseLost { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The time now, by the clock that leases are written with.
pub fn now() -> Timestamp {
    adjutant::core::Clock::now(&SystemClock)
}

/// The newest unfinished run that an equal command began and nobody works on.
pub async fn unfinished(
    store: &Arc<dyn Store>,
    agent: &str,
    fingerprint: &str,
    notes: &[WorkerNote],
) -> Result<Option<(RunRecord, Holder)>> {
    let filter = RunFilter {
        states: vec![
            RunState::Pending,
            RunState::Running,
            RunState::Waiting,
            RunState::InputRequired,
        ],
        agent: Some(agent.into()),
        limit: LOOKED_AT,
        ..RunFilter::default()
    };
    for run in store.list(filter).await? {
        let holder = holder(&run, notes);
        // Who cancelled a run does not want it to go on.
        if run.cancel.is_some() {
            continue;
        }
        if matches!(holder, Holder::Alive(_))
            || !has_fingerprint(store, run.id, fingerprint).await?
        {
            continue;
        }
        return Ok(Some((run, holder)));
    }
    Ok(None)
}

async fn has_fingerprint(store: &Arc<dyn Store>, run: RunId, fingerprint: &str) -> Result<bool> {
    let view = store.get(run).await?;
    Ok(view.is_some_and(|view| {
        Marks::of(&view.payload.metadata).fingerprint.as_deref() == Some(fingerprint)
    }))
}
