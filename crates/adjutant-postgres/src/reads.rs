//! Queries that writer and readers share.

use std::sync::{Arc, LazyLock};

use adjutant_core::{Result, RunId, Timestamp};
use adjutant_queue::{Payload, Signal};
use adjutant_state::{Checkpoint, History};
use sqlx::postgres::PgRow;

use crate::{
    args::{Args, limit},
    db::Db,
    error::Told,
    history::{self, STEP_COLUMNS},
    record,
};

/// A statement's text, made once.
pub(crate) type Text = LazyLock<Arc<str>>;

static SIGNALS: Text = LazyLock::new(|| {
    Arc::from(
        "select run, id, name, payload, received_at from signals where run = any($1) order by run, id",
    )
});
static PAYLOADS: Text =
    LazyLock::new(|| Arc::from("select run, input, metadata from payloads where run = any($1)"));
pub(crate) static STEPS: Text = LazyLock::new(|| {
    Arc::from(format!(
        "select {STEP_COLUMNS} from steps where run = $1 order by ordinal"
    ))
});
pub(crate) static CHECKPOINTS: Text = LazyLock::new(|| {
    Arc::from(
        "select seq, state, saved_at from checkpoints where run = $1 order by seq desc limit $2",
    )
});

/// Reads every row.
pub(crate) fn each<T>(
    db: &Db,
    rows: &[PgRow],
    read: impl Fn(&PgRow, &str) -> Result<T>,
) -> Result<Vec<T>, Told> {
    let values = rows.iter().map(|row| read(row, &db.location));
    values.collect::<Result<_>>().map_err(Told::broken)
}

/// The signals that nobody has taken, by run, in order of arrival.
pub(crate) async fn signals(db: &mut Db, runs: &[RunId]) -> Result<Vec<(RunId, Signal)>, Told> {
    let rows = db.rows(&SIGNALS, Args::runs(runs).done()).await?;
    each(db, &rows, |row, location| {
        let signal = Signal {
            id: record::count(row, 1, location)?,
            name: record::string(row, 2, location)?,
            payload: record::json(row, 3, location)?,
            received_at: Timestamp::from_micros(record::get(row, 4, location)?),
        };
        Ok((record::run_id(row, 0, location)?, signal))
    })
}

/// What runs were given.
pub(crate) async fn payloads(db: &mut Db, runs: &[RunId]) -> Result<Vec<(RunId, Payload)>, Told> {
    let rows = db.rows(&PAYLOADS, Args::runs(runs).done()).await?;
    each(db, &rows, |row, location| {
        let run = record::run_id(row, 0, location)?;
        Ok((run, record::payload(row, 1, location)?))
    })
}

/// The journal and the latest checkpoint.
pub(crate) async fn history(db: &mut Db, run: RunId) -> Result<History, Told> {
    let rows = db.rows(&STEPS, Args::run(run).done()).await?;
    let journal = each(db, &rows, history::step)?;
    let latest = Args::run(run).with(limit(1)).done();
    let rows = db.rows(&CHECKPOINTS, latest).await?;
    let checkpoint = each(db, &rows, checkpoint)?.pop();
    Ok(History {
        journal,
        checkpoint,
    })
}

/// Reads a row of [`CHECKPOINTS`].
pub(crate) fn checkpoint(row: &PgRow, location: &str) -> Result<Checkpoint> {
    Ok(Checkpoint {
        seq: record::count(row, 0, location)?,
        state: record::json(row, 1, location)?,
        saved_at: Timestamp::from_micros(record::get(row, 2, location)?),
    })
}
