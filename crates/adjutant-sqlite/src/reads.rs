//! Queries that writer and readers share.

use std::sync::{Arc, LazyLock};

use adjutant_core::{Result, RunId, Timestamp};
use adjutant_queue::{Payload, Signal};
use adjutant_state::{Checkpoint, History};

use crate::{
    db::Db,
    history::{self, STEP_COLUMNS},
    record,
    sql::{self, Args, Texts, WIDEST, id_args, width_for},
};

static SIGNALS: Texts = LazyLock::new(|| {
    let columns = "t.run, t.id, t.name, t.payload, t.received_at";
    sql::find(columns, "signals", "run", " order by t.run, t.id")
});
static PAYLOADS: Texts =
    LazyLock::new(|| sql::find("t.run, t.input, t.metadata", "payloads", "run", ""));
static STEPS: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from(format!(
        "select {STEP_COLUMNS} from steps where run = ? order by ordinal"
    ))
});
static CHECKPOINTS: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from(
        "select seq, state, saved_at from checkpoints where run = ? order by seq desc limit ?",
    )
});

/// The signals that nobody has taken, by run, in order of arrival.
pub(crate) async fn signals(db: &mut Db, runs: &[RunId]) -> Result<Vec<(RunId, Signal)>> {
    let mut found = Vec::new();
    for chunk in runs.chunks(WIDEST) {
        let width = width_for(chunk.len());
        let rows = db
            .rows(Arc::clone(&SIGNALS[width]), id_args(chunk, width))
            .await?;
        for row in rows {
            let path = db.path();
            let signal = Signal {
                id: record::get::<i64>(&row, 1, path)?.cast_unsigned(),
                name: record::get(&row, 2, path)?,
                payload: record::json(&row, 3, path)?,
                received_at: Timestamp::from_micros(record::get(&row, 4, path)?),
            };
            found.push((record::run_id(&row, 0, path)?, signal));
        }
    }
    Ok(found)
}

/// What runs were given.
pub(crate) async fn payloads(db: &mut Db, runs: &[RunId]) -> Result<Vec<(RunId, Payload)>> {
    let mut found = Vec::new();
    for chunk in runs.chunks(WIDEST) {
        let width = width_for(chunk.len());
        for row in db
            .rows(Arc::clone(&PAYLOADS[width]), id_args(chunk, width))
            .await?
        {
            let path = db.path();
            let run = record::run_id(&row, 0, path)?;
            found.push((run, record::payload(&row, 1, path)?));
        }
    }
    Ok(found)
}

/// The journal and the latest checkpoint, as of one moment if the caller has a transaction.
pub(crate) async fn history(db: &mut Db, run: RunId) -> Result<History> {
    let mut args = Args::default();
    args.blob(run.as_bytes());
    let rows = db.rows(Arc::clone(&STEPS), args).await?;
    let journal = rows.iter().map(|row| history::step(row, db.path()));
    Ok(History {
        journal: journal.collect::<Result<_>>()?,
        checkpoint: checkpoints(db, run, 1).await?.pop(),
    })
}

/// The latest checkpoints, newest first.
pub(crate) async fn checkpoints(db: &mut Db, run: RunId, limit: usize) -> Result<Vec<Checkpoint>> {
    let mut args = Args::default();
    args.blob(run.as_bytes());
    args.int(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = db.rows(Arc::clone(&CHECKPOINTS), args).await?;
    let path = db.path();
    let checkpoints = rows.iter().map(|row| {
        Ok(Checkpoint {
            seq: record::get::<i64>(row, 0, path)?.cast_unsigned(),
            state: record::json(row, 1, path)?,
            saved_at: Timestamp::from_micros(record::get(row, 2, path)?),
        })
    });
    checkpoints.collect()
}
