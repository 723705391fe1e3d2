//! A run's record in the plain values that databases have. What is stored has this shape and not the domain's: it
//! changes only with an engine's schema.

use std::{borrow::Cow, sync::Arc, time::Duration};

use adjutant_core::{AgentKey, ErrorInfo, RetryPolicy, RunId, RunState, Timestamp, WorkerId};
use adjutant_queue::{Concurrency, DEFAULT_MAX_DEATHS, Held, Origin, ParentLink, RunRecord, Wait};
use serde::{Deserialize, Serialize};

use crate::Place;

/// `line` of a run that a worker could take.
const READY: i64 = 1;
/// `line` of a run that its concurrency key holds back.
const BLOCKED: i64 = 2;

const FRESH: i64 = 1;
const PAUSE: i64 = 2;

/// A record as plain values. Times are microseconds since the Unix epoch; counters are never negative, but most
/// databases know no other integers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns<'a> {
    /// The run.
    pub id: [u8; 16],
    /// Who does it.
    pub agent: Cow<'a, str>,
    /// −100 to 100.
    pub priority: i64,
    /// When it was submitted.
    pub created_at: i64,
    /// Its parent.
    pub parent: Option<[u8; 16]>,
    /// The parent's fan-out that it belongs to.
    pub fanout: Option<Cow<'a, str>>,
    /// Its concurrency key.
    pub slot: Option<Cow<'a, str>>,
    /// Its idempotency key.
    pub key: Option<Cow<'a, str>>,
    /// The state's code.
    pub state: i64,
    /// 1 in the line of ready runs, 2 held back by its concurrency key.
    pub line: Option<i64>,
    /// Its place in line: lower goes first.
    pub rank: Option<i64>,
    /// When a sweep has to look: delay, lease or timer.
    pub due_at: Option<i64>,
    /// Since when it could run.
    pub ready_at: i64,
    /// When it was first claimed.
    pub started_at: Option<i64>,
    /// When it ended or was parked.
    pub finished_at: Option<i64>,
    /// Attempts so far.
    pub attempt: i64,
    /// The fencing token.
    pub epoch: i64,
    /// Who holds it; the lease ends at `due_at`.
    pub worker: Option<[u8; 16]>,
    /// 1: the next claim is a new attempt; 2: pause asked for.
    pub flags: i64,
    /// Number of the latest event.
    pub last_seq: i64,
    /// Number of journal records.
    pub steps: i64,
    /// Number of the latest checkpoint.
    pub checkpoint: i64,
    /// Number of the latest signal.
    pub signals: i64,
    /// Signals that no wait has taken.
    pub unread: i64,
    /// Child runs ever spawned.
    pub children: i64,
    /// What few runs have, as JSON.
    pub more: Option<Cow<'a, str>>,
}

impl<'a> Columns<'a> {
    /// The values of a record.
    #[must_use]
    pub fn of(record: &'a RunRecord) -> Self {
        let place = Place::of(record);
        let line = if place.ready {
            Some(READY)
        } else {
            place.blocked.then_some(BLOCKED)
        };
        let micros = |time: Option<Timestamp>| time.map(Timestamp::as_micros);
        let parent = record.parent.as_ref();
        let flag = |set: bool, flag: i64| if set { flag } else { 0 };
        Self {
            id: *record.id.as_bytes(),
            agent: record.agent.as_str().into(),
            priority: record.priority.into(),
            created_at: record.created_at.as_micros(),
            parent: parent.map(|link| *link.run.as_bytes()),
            fanout: parent.map(|link| (&*link.group).into()),
            slot: record.concurrency.as_ref().map(|c| (&*c.key).into()),
            key: record.idempotency_key.as_deref().map(Into::into),
            state: record.state.code().into(),
            line,
            rank: line.map(|_| place.rank),
            due_at: micros(place.due),
            ready_at: record.ready_at.as_micros(),
            started_at: micros(record.started_at),
            finished_at: micros(record.finished_at),
            attempt: record.attempt.into(),
            epoch: record.epoch.cast_signed(),
            worker: record.held.as_ref().map(|held| *held.worker.as_bytes()),
            flags: flag(record.fresh, FRESH) | flag(record.pause, PAUSE),
            last_seq: record.last_seq.cast_signed(),
            steps: record.steps.cast_signed(),
            checkpoint: record.checkpoint.cast_signed(),
            signals: record.signals.cast_signed(),
            unread: record.unread_signals.cast_signed(),
            children: record.children.cast_signed(),
            more: more(record).map(Into::into),
        }
    }

    /// The way back.
    ///
    /// # Errors
    /// What is wrong with the values.
    pub fn record(self) -> Result<RunRecord, String> {
        let at = Timestamp::from_micros;
        let state = u8::try_from(self.state).ok().and_then(RunState::from_code);
        let state = state.ok_or("an unknown run state")?;
        let due_at = self.due_at.map(at);
        let more: More = match &self.more {
            None => More::default(),
            Some(text) => serde_json::from_str(text).map_err(|error| error.to_string())?,
        };
        let parent = self.parent.zip(self.fanout);
        let held = self.worker.zip(due_at);
        let concurrency = self.slot.zip(more.limit);
        Ok(RunRecord {
            id: RunId::from_bytes(self.id),
            agent: AgentKey::new(&self.agent),
            state,
            reason: more.reason,
            priority: i32::try_from(self.priority).map_err(|_| "a priority out of range")?,
            created_at: at(self.created_at),
            ready_at: at(self.ready_at),
            started_at: self.started_at.map(at),
            finished_at: self.finished_at.map(at),
            not_before: match state {
                RunState::Pending => due_at,
                _ => more.not_before.map(at),
            },
            blocked: self.line == Some(BLOCKED),
            attempt: u32::try_from(self.attempt).map_err(|_| "an attempt out of range")?,
            fresh: self.flags & FRESH != 0,
            deaths: more.deaths,
            max_deaths: more.max_deaths.unwrap_or(DEFAULT_MAX_DEATHS),
            epoch: self.epoch.cast_unsigned(),
            held: held.map(|(worker, expires_at)| Held {
                worker: WorkerId::from_bytes(worker),
                expires_at,
            }),
            wait: more.wait,
            cancel: more.cancel,
            pause: self.flags & PAUSE != 0,
            retry: more.retry.unwrap_or_default(),
            timeout: more.timeout_us.map(Duration::from_micros),
            concurrency: concurrency.map(|(key, limit)| Concurrency {
                key: Arc::from(&*key),
                limit,
            }),
            parent: parent.map(|(run, group)| ParentLink {
                run: RunId::from_bytes(run),
                group: Arc::from(&*group),
            }),
            origin: more.origin,
            idempotency_key: self.key.map(Cow::into_owned),
            error: more.error,
            last_seq: self.last_seq.cast_unsigned(),
            steps: self.steps.cast_unsigned(),
            checkpoint: self.checkpoint.cast_unsigned(),
            signals: self.signals.cast_unsigned(),
            unread_signals: self.unread.cast_unsigned(),
            children: self.children.cast_unsigned(),
        })
    }
}

/// What few runs have: one JSON object, left out altogether when it is empty.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
struct More {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(skip_serializing_if = "is_zero")]
    deaths: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_deaths: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<Wait>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<RetryPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<std::num::NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorInfo>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn more(record: &RunRecord) -> Option<String> {
    // Dearest first: almost all runs leave here.
    let retry = (record.retry != RetryPolicy::default()).then_some(&record.retry);
    let not_before = record
        .not_before
        .filter(|_| record.state != RunState::Pending);
    if retry.is_none()
        && not_before.is_none()
        && record.reason.is_none()
        && record.deaths == 0
        && record.max_deaths == DEFAULT_MAX_DEATHS
        && record.wait.is_none()
        && record.cancel.is_none()
        && record.timeout.is_none()
        && record.concurrency.is_none()
        && record.origin.is_none()
        && record.error.is_none()
    {
        return None;
    }
    let more = More {
        reason: record.reason.clone(),
        not_before: not_before.map(Timestamp::as_micros),
        deaths: record.deaths,
        max_deaths: Some(record.max_deaths).filter(|max| *max != DEFAULT_MAX_DEATHS),
        wait: record.wait.clone(),
        cancel: record.cancel.clone(),
        retry: retry.cloned(),
        timeout_us: record
            .timeout
            .map(|t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX)),
        limit: record.concurrency.as_ref().map(|c| c.limit),
        origin: record.origin.clone(),
        error: record.error.clone(),
    };
    // All of these have a JSON form.
    serde_json::to_string(&more).ok()
}
