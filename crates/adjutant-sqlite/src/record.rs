//! How runs are stored. These shapes are the file's, not the domain's: they change only with the schema.

use std::path::Path;

use adjutant_core::{Json, Result, RunId};
use adjutant_engine::Columns;
use adjutant_queue::{Payload, RunRecord};
use sqlx::{Decode, Row, Sqlite, Type, sqlite::SqliteRow};

use crate::{error::corrupt, sql::Args};

/// The columns of `runs`, in the order of the methods below.
pub(crate) const COLUMNS: &str = "id, agent, priority, created_at, parent, fanout, slot, key, \
    state, line, rank, due_at, ready_at, started_at, finished_at, attempt, epoch, worker, flags, \
    last_seq, steps, checkpoint, signals, unread, children, more";

/// The place of the rank among them.
pub(crate) const RANK_COLUMN: usize = 10;

/// Where a run's columns end, and what it was given begins if that is selected too.
pub(crate) const PAYLOAD_COLUMN: usize = 26;

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

/// Binds all columns of a new run.
pub(crate) fn bind_run(record: &RunRecord, args: &mut Args) {
    let columns = Columns::of(record);
    args.blob(&columns.id);
    args.text(&columns.agent);
    args.int(columns.priority);
    args.int(columns.created_at);
    args.maybe_blob(columns.parent.as_ref().map(<[u8; 16]>::as_slice));
    args.maybe_text(columns.fanout.as_deref());
    args.maybe_text(columns.slot.as_deref());
    args.maybe_text(columns.key.as_deref());
    bind_columns(&columns, args);
}

/// Binds the columns of [`CHANGING`].
pub(crate) fn bind_changing(record: &RunRecord, args: &mut Args) {
    bind_columns(&Columns::of(record), args);
}

fn bind_columns(columns: &Columns<'_>, args: &mut Args) {
    args.int(columns.state);
    args.maybe_int(columns.line);
    args.maybe_int(columns.rank);
    args.maybe_int(columns.due_at);
    args.int(columns.ready_at);
    args.maybe_int(columns.started_at);
    args.maybe_int(columns.finished_at);
    args.int(columns.attempt);
    args.int(columns.epoch);
    args.maybe_blob(columns.worker.as_ref().map(<[u8; 16]>::as_slice));
    args.int(columns.flags);
    args.int(columns.last_seq);
    args.int(columns.steps);
    args.int(columns.checkpoint);
    args.int(columns.signals);
    args.int(columns.unread);
    args.int(columns.children);
    args.maybe_text(columns.more.as_deref());
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

/// Reads the columns of [`COLUMNS`].
pub(crate) fn run(row: &SqliteRow, path: &Path) -> Result<RunRecord> {
    let int = |column| get::<i64>(row, column, path);
    let maybe = |column| get::<Option<i64>>(row, column, path);
    let text = |column| Ok(get::<Option<&str>>(row, column, path)?.map(Into::into));
    let bytes = |column| -> Result<Option<[u8; 16]>> {
        let bytes: Option<&[u8]> = get(row, column, path)?;
        bytes.map(|bytes| id(bytes, path)).transpose()
    };
    let columns = Columns {
        id: id(get(row, 0, path)?, path)?,
        agent: get::<&str>(row, 1, path)?.into(),
        priority: int(2)?,
        created_at: int(3)?,
        parent: bytes(4)?,
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
        worker: bytes(17)?,
        flags: int(18)?,
        last_seq: int(19)?,
        steps: int(20)?,
        checkpoint: int(21)?,
        signals: int(22)?,
        unread: int(23)?,
        children: int(24)?,
        more: text(25)?,
    };
    columns.record().map_err(|problem| corrupt(path, problem))
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
