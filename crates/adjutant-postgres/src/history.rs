//! How steps and events are stored; see `record.rs`.

use std::borrow::Cow;

use adjutant_core::{
    Event, EventType, Fingerprint, Result, RunId, StepKind, StepOutcome, StepRecord, Timestamp,
    Visibility,
};
use sqlx::postgres::PgRow;

use crate::{
    args::{Values, int},
    error::corrupt,
    record::{count, get, json, small, string},
    text,
};

/// The columns of `steps` after the run, in the order in which they are bound and read.
pub(crate) const STEP_COLUMNS: &str =
    "key, ordinal, kind, input, state, body, attempts, started_at, recorded_at";

fn body(outcome: &StepOutcome) -> (i64, Cow<'_, str>) {
    match outcome {
        StepOutcome::Started { memo } => (0, memo.as_str().into()),
        StepOutcome::Completed { result } => (1, result.as_str().into()),
        // An error always has a JSON form.
        StepOutcome::Failed { error } => {
            (2, serde_json::to_string(error).unwrap_or_default().into())
        }
    }
}

/// The text of its outcome, in bytes; errors are small.
pub(crate) fn size(step: &StepRecord) -> usize {
    match &step.outcome {
        StepOutcome::Started { memo: body } | StepOutcome::Completed { result: body } => body.len(),
        StepOutcome::Failed { .. } => 0,
    }
}

/// Binds runs and the columns of [`STEP_COLUMNS`].
pub(crate) fn bind_steps(rows: &[(RunId, u64, &StepRecord)], to: &mut impl Values) {
    let steps = || rows.iter().map(|(_, _, step)| *step);
    let keys: Vec<_> = steps().map(|step| text::stored(&step.key)).collect();
    let bodies: Vec<_> = steps().map(|step| body(&step.outcome)).collect();
    to.ids(rows.iter().map(|(run, ..)| run.as_bytes()));
    to.texts(keys.iter().map(|key| &**key));
    to.ints(rows.iter().map(|(_, ordinal, _)| int(*ordinal)));
    to.texts(steps().map(|step| step.kind.as_str()));
    to.ints(steps().map(|step| int(step.input.0)));
    to.ints(bodies.iter().map(|(state, _)| *state));
    to.texts(bodies.iter().map(|(_, body)| &**body));
    to.ints(steps().map(|step| i64::from(step.attempts)));
    to.ints(steps().map(|step| step.started_at.as_micros()));
    to.ints(steps().map(|step| step.recorded_at.as_micros()));
}

/// Reads the columns of [`STEP_COLUMNS`].
pub(crate) fn step(row: &PgRow, location: &str) -> Result<StepRecord> {
    let at = |column| get::<i64>(row, column, location).map(Timestamp::from_micros);
    let body = || json(row, 5, location);
    let kind: &str = get(row, 2, location)?;
    Ok(StepRecord {
        key: string(row, 0, location)?,
        kind: step_kind(kind).ok_or_else(|| corrupt(location, format!("step kind `{kind}`")))?,
        input: Fingerprint(count(row, 3, location)?),
        outcome: match get::<i64>(row, 4, location)? {
            0 => StepOutcome::Started { memo: body()? },
            1 => StepOutcome::Completed { result: body()? },
            _ => StepOutcome::Failed {
                error: body()?.to().map_err(|error| corrupt(location, error))?,
            },
        },
        attempts: small(row, 6, location)?,
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
pub(crate) fn event(run_id: RunId, row: &PgRow, location: &str) -> Result<Event> {
    Ok(Event {
        run_id,
        seq: count(row, 0, location)?,
        timestamp: get::<i64>(row, 1, location).map(Timestamp::from_micros)?,
        event_type: EventType::from(&*text::read(get(row, 2, location)?)),
        visibility: match get::<i64>(row, 3, location)? {
            0 => Visibility::Internal,
            1 => Visibility::Debug,
            _ => Visibility::User,
        },
        payload: json(row, 4, location)?,
    })
}
