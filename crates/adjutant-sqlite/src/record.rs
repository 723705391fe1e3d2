//! How runs are stored. These shapes are the file's, not the domain's: they change only with the schema.

use std::{path::Path, sync::Arc, time::Duration};

use adjutant_core::{
    AgentKey, ErrorInfo, Json, Result, RetryPolicy, RunId, RunState, Timestamp, WorkerId,
};
use adjutant_queue::{
    Concurrency, DEFAULT_MAX_DEATHS, Held, Origin, ParentLink, Payload, RunRecord, Wait,
};
use serde::{Deserialize, Serialize};
use sqlx::{Decode, Row, Sqlite, Type, sqlite::SqliteRow};

use crate::{error::corrupt, sql::Args};

/// The columns of `runs`, in the order of the methods below.
pub(crate) const COLUMNS: &str = "id, agent, priority, created_at, parent, fanout, slot, key, \
    state, line, rank, due_at, ready_at, started_at, finished_at, attempt, epoch, worker, flags, \
    last_seq, steps, checkpoint, signals, unread, children, more";

/// The columns of `runs` under another name.
pub(crate) fn columns_of(name: &str) -> String {
    let columns: Vec<String> = COLUMNS
        .split(',')
        .map(|c| format!("{name}.{}", c.trim()))
        .collect();
    columns.join(", ")
}

/// Those that change, after the id.
pub(crate) const CHANGING: [&str; 18] = [
    "state",
    "line",
    "rank",
    "due_at",
    "ready_at",
    "started_at",
    "finished_at",
    "attempt",
    "epoch",
    "worker",
    "flags",
    "last_seq",
    "steps",
    "checkpoint",
    "signals",
    "unread",
    "children",
    "more",
];

/// Those that a commit changes which leaves the run where it is.
pub(crate) const COUNTING: [&str; 6] = [
    "last_seq",
    "steps",
    "checkpoint",
    "signals",
    "unread",
    "children",
];

/// `line` of a run that a worker could take.
pub(crate) const READY: i64 = 1;
/// `line` of a run that its concurrency key holds back.
pub(crate) const BLOCKED: i64 = 2;

const FRESH: i64 = 1;
const PAUSE: i64 = 2;

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

/// The `line` of a run.
pub(crate) fn line(record: &RunRecord) -> Option<i64> {
    match record.state {
        RunState::Pending if record.blocked => Some(BLOCKED),
        RunState::Pending if record.not_before.is_none() => Some(READY),
        _ => None,
    }
}

/// Binds all columns of a new run.
pub(crate) fn bind_run(record: &RunRecord, args: &mut Args) {
    args.blob(record.id.as_bytes());
    args.text(record.agent.as_str());
    args.int(record.priority.into());
    args.int(record.created_at.as_micros());
    let parent = record.parent.as_ref();
    args.maybe_blob(parent.map(|link| link.run.as_bytes().as_slice()));
    args.maybe_text(parent.map(|link| &*link.group));
    args.maybe_text(record.concurrency.as_ref().map(|c| &*c.key));
    args.maybe_text(record.idempotency_key.as_deref());
    bind_changing(record, args);
}

/// Binds the columns of [`CHANGING`].
pub(crate) fn bind_changing(record: &RunRecord, args: &mut Args) {
    let line = line(record);
    let micros = |time: Option<Timestamp>| time.map(Timestamp::as_micros);
    args.int(record.state.code().into());
    args.maybe_int(line);
    args.maybe_int(line.map(|_| record.rank()));
    args.maybe_int(micros(record.due_at()));
    args.int(record.ready_at.as_micros());
    args.maybe_int(micros(record.started_at));
    args.maybe_int(micros(record.finished_at));
    args.int(record.attempt.into());
    args.count(record.epoch);
    args.maybe_blob(
        record
            .held
            .as_ref()
            .map(|held| held.worker.as_bytes().as_slice()),
    );
    args.int(if record.fresh { FRESH } else { 0 } | if record.pause { PAUSE } else { 0 });
    bind_counts(record, args);
    args.maybe_text(more(record).as_deref());
}

/// Binds the columns of [`COUNTING`].
pub(crate) fn bind_counts(record: &RunRecord, args: &mut Args) {
    args.count(record.last_seq);
    args.count(record.steps);
    args.count(record.checkpoint);
    args.count(record.signals);
    args.count(record.unread_signals);
    args.count(record.children);
}

/// A value of a row; the column's declared type is not looked at, because what a query computes has none.
pub(crate) fn get<'r, T>(row: &'r SqliteRow, column: usize, path: &Path) -> Result<T>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get_unchecked(column)
        .map_err(|error| corrupt(path, error))
}

pub(crate) fn count(row: &SqliteRow, column: usize, path: &Path) -> Result<u64> {
    get::<i64>(row, column, path).map(i64::cast_unsigned)
}

pub(crate) fn run_id(row: &SqliteRow, column: usize, path: &Path) -> Result<RunId> {
    id(get(row, column, path)?, path).map(RunId::from_bytes)
}

fn id(bytes: &[u8], path: &Path) -> Result<[u8; 16]> {
    bytes
        .try_into()
        .map_err(|_| corrupt(path, "an id that does not have 16 bytes"))
}

pub(crate) fn small(number: i64, path: &Path) -> Result<u32> {
    u32::try_from(number).map_err(|_| corrupt(path, "a number out of range"))
}

fn time(row: &SqliteRow, column: usize, path: &Path) -> Result<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column, path)?.map(Timestamp::from_micros))
}

/// Reads the columns of [`COLUMNS`].
pub(crate) fn run(row: &SqliteRow, path: &Path) -> Result<RunRecord> {
    let at = |column| get::<i64>(row, column, path).map(Timestamp::from_micros);
    let state = u8::try_from(get::<i64>(row, 8, path)?)
        .ok()
        .and_then(RunState::from_code);
    let state = state.ok_or_else(|| corrupt(path, "an unknown run state"))?;
    let line: Option<i64> = get(row, 9, path)?;
    let due_at = time(row, 11, path)?;
    let flags: i64 = get(row, 18, path)?;
    let more: More = match get::<Option<&str>>(row, 25, path)? {
        None => More::default(),
        Some(text) => serde_json::from_str(text).map_err(|error| corrupt(path, error))?,
    };
    let parent = match get::<Option<&[u8]>>(row, 4, path)? {
        None => None,
        Some(parent) => Some(ParentLink {
            run: RunId::from_bytes(id(parent, path)?),
            group: Arc::from(get::<&str>(row, 5, path)?),
        }),
    };
    let held = match (get::<Option<&[u8]>>(row, 17, path)?, due_at) {
        (Some(worker), Some(expires_at)) => Some(Held {
            worker: WorkerId::from_bytes(id(worker, path)?),
            expires_at,
        }),
        _ => None,
    };
    let concurrency = get::<Option<&str>>(row, 6, path)?.zip(more.limit);
    Ok(RunRecord {
        id: run_id(row, 0, path)?,
        agent: AgentKey::new(get(row, 1, path)?),
        state,
        reason: more.reason,
        priority: i32::try_from(get::<i64>(row, 2, path)?).unwrap_or(0),
        created_at: at(3)?,
        ready_at: at(12)?,
        started_at: time(row, 13, path)?,
        finished_at: time(row, 14, path)?,
        not_before: match state {
            RunState::Pending => due_at,
            _ => more.not_before.map(Timestamp::from_micros),
        },
        blocked: line == Some(BLOCKED),
        attempt: small(get(row, 15, path)?, path)?,
        fresh: flags & FRESH != 0,
        deaths: more.deaths,
        max_deaths: more.max_deaths.unwrap_or(DEFAULT_MAX_DEATHS),
        epoch: count(row, 16, path)?,
        held,
        wait: more.wait,
        cancel: more.cancel,
        pause: flags & PAUSE != 0,
        retry: more.retry.unwrap_or_default(),
        timeout: more.timeout_us.map(Duration::from_micros),
        concurrency: concurrency.map(|(key, limit)| Concurrency {
            key: Arc::from(key),
            limit,
        }),
        parent,
        origin: more.origin,
        idempotency_key: get(row, 7, path)?,
        error: more.error,
        last_seq: count(row, 19, path)?,
        steps: count(row, 20, path)?,
        checkpoint: count(row, 21, path)?,
        signals: count(row, 22, path)?,
        unread_signals: count(row, 23, path)?,
        children: count(row, 24, path)?,
    })
}

/// Text that was JSON when it was stored.
pub(crate) fn json(row: &SqliteRow, column: usize, path: &Path) -> Result<Json> {
    Json::parse(get(row, column, path)?).map_err(|error| corrupt(path, error))
}

/// Reads input and metadata from `column` on.
pub(crate) fn payload(row: &SqliteRow, column: usize, path: &Path) -> Result<Payload> {
    let metadata = match get::<Option<&str>>(row, column + 1, path)? {
        None => Json::null(),
        Some(_) => json(row, column + 1, path)?,
    };
    Ok(Payload {
        input: json(row, column, path)?,
        metadata,
    })
}
