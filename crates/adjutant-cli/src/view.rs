//! Runs as this program shows them: the JSON form is stable and described in `docs/reference/cli.md`.

use adjutant::{
    core::{ErrorInfo, Json, Outcome, RunId, RunState, Timestamp, WorkerId},
    queue::{Origin, ParentLink, RunRecord, RunView, Wait},
};
use serde::Serialize;

/// A run for programs.
#[derive(Debug, Serialize)]
pub struct RunJson<'a> {
    pub run_id: RunId,
    pub agent: &'a str,
    pub state: RunState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    pub attempt: u32,
    pub max_attempts: u32,
    pub epoch: u64,
    pub deaths: u32,
    pub priority: i32,
    pub created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<&'a Wait>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_requested: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<&'a ParentLink>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<&'a Origin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<&'a str>,
    pub steps: u64,
    pub checkpoint: u64,
    pub last_seq: u64,
    pub unread_signals: u64,
    pub children: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parked_below: Vec<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a ErrorInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'a Outcome>,
}

impl<'a> RunJson<'a> {
    /// Where a run stands.
    pub fn record(run: &'a RunRecord) -> Self {
        Self {
            run_id: run.id,
            agent: run.agent.as_str(),
            state: run.state,
            reason: run.reason.as_deref(),
            attempt: run.attempt,
            max_attempts: run.retry.max_attempts.get(),
            epoch: run.epoch,
            deaths: run.deaths,
            priority: run.priority,
            created_at: run.created_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            not_before: run.not_before,
            worker: run.held.map(|held| held.worker),
            lease_expires_at: run.held.map(|held| held.expires_at),
            wait: run.wait.as_ref(),
            cancel_requested: run.cancel.as_deref(),
            parent: run.parent.as_ref(),
            origin: run.origin.as_ref(),
            idempotency_key: run.idempotency_key.as_deref(),
            steps: run.steps,
            checkpoint: run.checkpoint,
            last_seq: run.last_seq,
            unread_signals: run.unread_signals,
            children: run.children,
            parked_below: Vec::new(),
            error: run.error.as_ref(),
            input: None,
            metadata: None,
            outcome: None,
        }
    }

    /// A run with what it was given and how it ended.
    pub fn whole(view: &'a RunView) -> Self {
        Self {
            input: Some(&view.payload.input),
            metadata: Some(&view.payload.metadata),
            outcome: view.outcome.as_ref(),
            ..Self::record(&view.run)
        }
    }
}

/// JSON as a person reads it: text plainly, the rest indented.
pub fn readable(json: &Json) -> String {
    match json.to::<serde_json::Value>() {
        Ok(serde_json::Value::String(text)) => text,
        Ok(value) => serde_json::to_string_pretty(&value).unwrap_or_else(|_| json.to_string()),
        Err(_) => json.to_string(),
    }
}

/// A text in one line of at most `width` characters.
pub fn clip(text: &str, width: usize) -> String {
    let flat: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if flat.chars().count() <= width {
        return flat;
    }
    let kept: String = flat.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}
