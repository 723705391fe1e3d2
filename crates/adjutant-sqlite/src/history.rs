//! How outcomes, steps and events are stored; see `record.rs`.

use std::path::Path;

use adjutant_core::{
    Event, EventType, Fingerprint, Result, RunId, StepKind, StepOutcome, StepRecord, Timestamp,
    Visibility,
};
use sqlx::sqlite::SqliteRow;

use crate::{
    error::corrupt,
    record::{count, get, json, small},
    sql::Args,
};

/// The columns of `steps` after the run, in the order of the functions below.
pub(crate) const STEP_COLUMNS: &str =
    "key, ordinal, kind, input, state, body, attempts, started_at, recorded_at";

/// Binds the columns of [`STEP_COLUMNS`].
pub(crate) fn bind_step(step: &StepRecord, ordinal: u64, args: &mut Args) {
    args.text(&step.key);
    args.count(ordinal);
    args.text(step.kind.as_str());
    args.count(step.input.0);
    match &step.outcome {
        StepOutcome::Started { memo } => {
            args.int(0);
            args.text(memo.as_str());
        }
        StepOutcome::Completed { result } => {
            args.int(1);
            args.text(result.as_str());
        }
        StepOutcome::Failed { error } => {
            args.int(2);
            // An error always has a JSON form.
            args.text(&serde_json::to_string(error).unwrap_or_default());
        }
    }
    args.int(step.attempts.into());
    args.int(step.started_at.as_micros());
    args.int(step.recorded_at.as_micros());
}

/// Reads the columns of [`STEP_COLUMNS`].
pub(crate) fn step(row: &SqliteRow, path: &Path) -> Result<StepRecord> {
    let at = |column| get::<i64>(row, column, path).map(Timestamp::from_micros);
    let body = || json(row, 5, path);
    let kind: &str = get(row, 2, path)?;
    Ok(StepRecord {
        key: get(row, 0, path)?,
        kind: step_kind(kind).ok_or_else(|| corrupt(path, format!("step kind `{kind}`")))?,
        input: Fingerprint(count(row, 3, path)?),
        outcome: match get::<i64>(row, 4, path)? {
            0 => StepOutcome::Started { memo: body()? },
            1 => StepOutcome::Completed { result: body()? },
            _ => StepOutcome::Failed {
                error: body()?.to().map_err(|error| corrupt(path, error))?,
            },
        },
        attempts: small(get(row, 6, path)?, path)?,
        started_at: at(7)?,
        recorded_at: at(8)?,
    })
}

fn step_kind(text: &str) -> Option<StepKind> {
    const KINDS: [StepKind; 7] = [
        StepKind::Code,
        StepKind::Model,
        StepKind::Tool,
        StepKind::Sleep,
        StepKind::Signal,
        StepKind::Approval,
        StepKind::Delegate,
    ];
    KINDS.into_iter().find(|kind| kind.as_str() == text)
}

pub(crate) const fn visibility_code(visibility: Visibility) -> i64 {
    match visibility {
        Visibility::Internal => 0,
        Visibility::Debug => 1,
        Visibility::User => 2,
    }
}

/// Reads `seq, at, type, visibility, payload`.
pub(crate) fn event(run_id: RunId, row: &SqliteRow, path: &Path) -> Result<Event> {
    Ok(Event {
        run_id,
        seq: count(row, 0, path)?,
        timestamp: get::<i64>(row, 1, path).map(Timestamp::from_micros)?,
        event_type: EventType::from(get::<&str>(row, 2, path)?),
        visibility: match get::<i64>(row, 3, path)? {
            0 => Visibility::Internal,
            1 => Visibility::Debug,
            _ => Visibility::User,
        },
        payload: json(row, 4, path)?,
    })
}
