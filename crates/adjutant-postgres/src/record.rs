//! How runs are stored. These shapes are the database's, not the domain's: they change only with the schema.

use std::borrow::Cow;

use adjutant_core::{Json, Result, RunId};
use adjutant_engine::{Columns, Loaded};
use adjutant_queue::{Payload, RunRecord};
use sqlx::{Decode, Postgres, Row, Type, postgres::PgRow, types::Uuid};

use crate::{args::Values, error::corrupt, text};

/// The columns of `runs` in the order in which they are read.
pub(crate) const COLUMNS: [&str; 26] = [
    "id",
    "agent",
    "priority",
    "created_at",
    "parent",
    "fanout",
    "slot",
    "key",
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

/// Those that never change come first, after the id.
pub(crate) const FIRST_CHANGING: usize = 8;

/// The columns of a table that goes by this name, after each other.
pub(crate) fn columns_of(name: &str) -> String {
    COLUMNS.map(|column| format!("{name}.{column}")).join(", ")
}

/// The type of a column in an array.
pub(crate) fn array_type(column: &str) -> &'static str {
    match column {
        "id" | "parent" | "worker" => "uuid[]",
        "agent" | "fanout" | "slot" | "key" | "more" => "text[]",
        _ => "bigint[]",
    }
}

/// The values of records, fit to be stored.
pub(crate) fn columns<'a>(records: impl Iterator<Item = &'a RunRecord>) -> Vec<Columns<'a>> {
    let fit = |text: Cow<'a, str>| match text {
        Cow::Borrowed(text) => text::stored(text),
        Cow::Owned(text) => Cow::Owned(text::stored(&text).into_owned()),
    };
    records
        .map(|record| {
            let columns = Columns::of(record);
            Columns {
                agent: fit(columns.agent),
                fanout: columns.fanout.map(fit),
                slot: columns.slot.map(fit),
                key: columns.key.map(fit),
                more: columns.more.map(fit),
                ..columns
            }
        })
        .collect()
}

/// Binds the ids.
pub(crate) fn bind_ids(rows: &[Columns<'_>], to: &mut impl Values) {
    to.ids(rows.iter().map(|row| &row.id));
}

/// Binds the columns that never change.
pub(crate) fn bind_fixed(rows: &[Columns<'_>], to: &mut impl Values) {
    to.texts(rows.iter().map(|row| &*row.agent));
    to.ints(rows.iter().map(|row| row.priority));
    to.ints(rows.iter().map(|row| row.created_at));
    to.maybe_ids(rows.iter().map(|row| row.parent.as_ref()));
    to.maybe_texts(rows.iter().map(|row| row.fanout.as_deref()));
    to.maybe_texts(rows.iter().map(|row| row.slot.as_deref()));
    to.maybe_texts(rows.iter().map(|row| row.key.as_deref()));
}

/// Binds those that change.
pub(crate) fn bind_changing(rows: &[Columns<'_>], to: &mut impl Values) {
    to.ints(rows.iter().map(|row| row.state));
    to.maybe_ints(rows.iter().map(|row| row.line));
    to.maybe_ints(rows.iter().map(|row| row.rank));
    to.maybe_ints(rows.iter().map(|row| row.due_at));
    to.ints(rows.iter().map(|row| row.ready_at));
    to.maybe_ints(rows.iter().map(|row| row.started_at));
    to.maybe_ints(rows.iter().map(|row| row.finished_at));
    to.ints(rows.iter().map(|row| row.attempt));
    to.ints(rows.iter().map(|row| row.epoch));
    to.maybe_ids(rows.iter().map(|row| row.worker.as_ref()));
    to.ints(rows.iter().map(|row| row.flags));
    to.ints(rows.iter().map(|row| row.last_seq));
    to.ints(rows.iter().map(|row| row.steps));
    to.ints(rows.iter().map(|row| row.checkpoint));
    to.ints(rows.iter().map(|row| row.signals));
    to.ints(rows.iter().map(|row| row.unread));
    to.ints(rows.iter().map(|row| row.children));
    to.maybe_texts(rows.iter().map(|row| row.more.as_deref()));
}

/// A value of a row, whatever kind of integer the column is.
pub(crate) fn get<'r, T>(row: &'r PgRow, column: usize, location: &str) -> Result<T>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get_unchecked(column)
        .map_err(|error| corrupt(location, error))
}

pub(crate) fn count(row: &PgRow, column: usize, location: &str) -> Result<u64> {
    get::<i64>(row, column, location).map(i64::cast_unsigned)
}

pub(crate) fn small(row: &PgRow, column: usize, location: &str) -> Result<u32> {
    let number = get::<i64>(row, column, location)?;
    u32::try_from(number).map_err(|_| corrupt(location, "a number out of range"))
}

pub(crate) fn run_id(row: &PgRow, column: usize, location: &str) -> Result<RunId> {
    let id: Uuid = get(row, column, location)?;
    Ok(RunId::from_bytes(*id.as_bytes()))
}

/// Text that may have had a NUL.
pub(crate) fn string(row: &PgRow, column: usize, location: &str) -> Result<String> {
    let text: &str = get(row, column, location)?;
    Ok(text::read(text).into_owned())
}

/// Text that was JSON when it was stored.
pub(crate) fn json(row: &PgRow, column: usize, location: &str) -> Result<Json> {
    Json::parse(get(row, column, location)?).map_err(|error| corrupt(location, error))
}

/// Reads the columns of [`COLUMNS`].
pub(crate) fn run(row: &PgRow, location: &str) -> Result<RunRecord> {
    let int = |column| get::<i64>(row, column, location);
    let maybe = |column| get::<Option<i64>>(row, column, location);
    let text = |column| -> Result<_> {
        let text: Option<&str> = get(row, column, location)?;
        Ok(text.map(text::read))
    };
    let id = |column| -> Result<Option<[u8; 16]>> {
        let id: Option<Uuid> = get(row, column, location)?;
        Ok(id.map(|id| *id.as_bytes()))
    };
    let columns = Columns {
        id: *get::<Uuid>(row, 0, location)?.as_bytes(),
        agent: text::read(get(row, 1, location)?),
        priority: int(2)?,
        created_at: int(3)?,
        parent: id(4)?,
        fanout: text(5)?,
        slot: text(6)?,
        key: text(7)?,
        state: int(8)?,
        line: maybe(9)?,
        rank: maybe(10)?,
        due_at: maybe(11)?,
        ready_at: int(12)?,
        started_at: maybe(13)?,
        finished_at: maybe(14)?,
        attempt: int(15)?,
        epoch: int(16)?,
        worker: id(17)?,
        flags: int(18)?,
        last_seq: int(19)?,
        steps: int(20)?,
        checkpoint: int(21)?,
        signals: int(22)?,
        unread: int(23)?,
        children: int(24)?,
        more: text(25)?,
    };
    columns
        .record()
        .map_err(|problem| corrupt(location, problem))
}

/// A run as it was found, with its payload if that is in the row. One that cannot be read is told of in the log.
pub(crate) fn loaded(row: &PgRow, with_payload: bool, location: &str) -> Option<Loaded> {
    let read = run(row, location).and_then(|record| {
        let payload = with_payload.then(|| payload(row, COLUMNS.len(), location));
        Ok(Loaded::Run(Box::new(record), payload.transpose()?))
    });
    match (read, run_id(row, 0, location)) {
        (Ok(loaded), _) => Some(loaded),
        (Err(error), Ok(id)) => {
            tracing::error!(run_id = %id, %error, "a run's record cannot be read");
            Some(Loaded::Unreadable(id))
        }
        (Err(error), Err(_)) => {
            tracing::error!(%error, "a run's record cannot be read");
            None
        }
    }
}

/// Reads input and metadata from `column` on.
pub(crate) fn payload(row: &PgRow, column: usize, location: &str) -> Result<Payload> {
    let metadata = match get::<Option<&str>>(row, column + 1, location)? {
        None => Json::null(),
        Some(_) => json(row, column + 1, location)?,
    };
    Ok(Payload {
        input: json(row, column, location)?,
        metadata,
    })
}
