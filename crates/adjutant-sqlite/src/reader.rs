//! Reading beside the writer: a few connections, each used by one caller at a time.

use std::sync::{
    Arc, LazyLock, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use adjutant_core::{Error, Event, Outcome, Result, RunId, RunState, Timestamp};
use adjutant_engine::{class, state_of_class};
use adjutant_queue::{QueueStats, RunFilter, RunRecord, RunView};
use sqlx::{QueryBuilder, sqlite::SqliteRow};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    config::SqliteConfig,
    db::Db,
    error::{corrupt, from_sqlx},
    history,
    record::{self, COLUMNS},
    sql::Args,
};

static VIEW: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from(format!(
        "select {}, p.input, p.metadata, o.body from runs as r \
         left join payloads as p on p.run = r.id left join outcomes as o on o.run = r.id \
         where r.id = ?",
        record::columns_of("r")
    ))
});
static EVENTS: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from(
        "select seq, at, type, visibility, payload from events where run = ? and seq > ? \
         order by seq limit ?",
    )
});
static LAST_SEQ: LazyLock<Arc<str>> =
    LazyLock::new(|| Arc::from("select last_seq from runs where id = ?"));
static FIRST_SEQ: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from(
        "select last_seq, (select seq from events where run = ?1 order by seq limit 1) \
         from runs where id = ?1",
    )
});
static COUNTS: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("select class, runs from counts"));
static OLDEST: LazyLock<Arc<str>> = LazyLock::new(|| {
    // The way back from a rank: each level of priority is worth a minute of waiting.
    Arc::from(format!(
        "select min(rank + priority * {}) from runs where line = 1",
        adjutant_queue::AGEING.as_micros()
    ))
});

/// The reading connections, opened as needed.
pub(crate) struct Readers {
    config: SqliteConfig,
    permits: Semaphore,
    idle: Mutex<Vec<Db>>,
    closed: AtomicBool,
}

/// One of them, on loan.
pub(crate) struct Reader<'a> {
    readers: &'a Readers,
    db: Option<Db>,
    _permit: SemaphorePermit<'a>,
}

impl Readers {
    pub(crate) fn new(config: SqliteConfig) -> Self {
        Self {
            permits: Semaphore::new(config.readers.get()),
            config,
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// A connection, waiting for one if all are in use.
    ///
    /// # Errors
    /// `Closed`, or what keeps the file from being opened.
    pub(crate) async fn get(&self) -> Result<Reader<'_>> {
        let permit = self.permits.acquire().await.map_err(|_| Error::Closed)?;
        let idle = self.idle().pop();
        let db = match idle {
            Some(db) => db,
            None => Db::reader(&self.config).await?,
        };
        Ok(Reader {
            readers: self,
            db: Some(db),
            _permit: permit,
        })
    }

    pub(crate) async fn close(&self) {
        self.closed.store(true, SeqCst);
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for db in idle {
            db.close().await;
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Db>> {
        // A list of connections is whole whatever happened around it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(db) = self.db.take()
            && db.failure().is_none()
            && !self.readers.closed.load(SeqCst)
        {
            self.readers.idle().push(db);
        }
    }
}

impl Reader<'_> {
    /// The connection.
    ///
    /// # Errors
    /// Never: it is there until the loan ends.
    pub(crate) fn db(&mut self) -> Result<&mut Db> {
        self.db.as_mut().ok_or(Error::Closed)
    }

    pub(crate) async fn view(&mut self, run: RunId) -> Result<Option<RunView>> {
        let db = self.db()?;
        let mut args = Args::default();
        args.blob(run.as_bytes());
        let rows = db.rows(Arc::clone(&VIEW), args).await?;
        rows.first().map(|row| view(row, db)).transpose()
    }

    pub(crate) async fn list(&mut self, filter: &RunFilter) -> Result<Vec<RunRecord>> {
        let db = self.db()?;
        let mut query = QueryBuilder::new(format!("select {COLUMNS} from runs where true"));
        if let Some(before) = filter.before {
            query
                .push(" and id < ")
                .push_bind(before.as_bytes().to_vec());
        }
        if let Some(parent) = filter.parent {
            query
                .push(" and parent = ")
                .push_bind(parent.as_bytes().to_vec());
        }
        if let Some(agent) = &filter.agent {
            query
                .push(" and agent = ")
                .push_bind(agent.as_str().to_owned());
        }
        if !filter.states.is_empty() {
            let mut states = query.push(" and state in (").separated(",");
            for state in &filter.states {
                states.push_bind(i64::from(state.code()));
            }
            query.push(")");
        }
        query.push(" order by id desc limit ");
        query.push_bind(i64::try_from(filter.limit).unwrap_or(i64::MAX));
        let path = db.path().to_owned();
        let rows = query.build().persistent(false).fetch_all(db.raw()).await;
        let rows = rows.map_err(|error| from_sqlx(error, "list runs", &path))?;
        rows.iter().map(|row| record::run(row, &path)).collect()
    }

    pub(crate) async fn stats(&mut self) -> Result<QueueStats> {
        let db = self.db()?;
        let mut stats = QueueStats::default();
        for row in db.rows(Arc::clone(&COUNTS), Args::default()).await? {
            let class: i64 = record::get(&row, 0, db.path())?;
            let runs = u64::try_from(record::get::<i64>(&row, 1, db.path())?)
                .map_err(|_| corrupt(db.path(), "a negative count of runs"))?;
            match class {
                class::READY => stats.ready = runs,
                class::BLOCKED => stats.blocked = runs,
                class => {
                    if let Some(state) = state_of_class(class).filter(|_| runs > 0) {
                        stats.by_state.insert(state, runs);
                    }
                }
            }
        }
        let pending = stats.by_state.get(&RunState::Pending).copied().unwrap_or(0);
        stats.delayed = pending
            .saturating_sub(stats.ready)
            .saturating_sub(stats.blocked);
        let rows = db.rows(Arc::clone(&OLDEST), Args::default()).await?;
        let oldest = rows
            .first()
            .map(|row| record::get::<Option<i64>>(row, 0, db.path()));
        stats.oldest_ready_at = oldest.transpose()?.flatten().map(Timestamp::from_micros);
        Ok(stats)
    }

    /// The number of the run's latest event; `None` for no such run.
    pub(crate) async fn last_seq(&mut self, run: RunId) -> Result<Option<u64>> {
        let db = self.db()?;
        let mut args = Args::default();
        args.blob(run.as_bytes());
        let rows = db.rows(Arc::clone(&LAST_SEQ), args).await?;
        let last = rows
            .first()
            .map(|row| record::get::<i64>(row, 0, db.path()))
            .transpose()?;
        Ok(last.map(i64::cast_unsigned))
    }

    pub(crate) async fn events(
        &mut self,
        run: RunId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>> {
        let db = self.db()?;
        let after_stored = i64::try_from(after).unwrap_or(i64::MAX);
        let mut args = Args::default();
        args.blob(run.as_bytes());
        args.int(after_stored);
        args.int(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = db.rows(Arc::clone(&EVENTS), args).await?;
        let events = rows.iter().map(|row| history::event(run, row, db.path()));
        let events = events.collect::<Result<Vec<_>>>()?;
        if events
            .first()
            .is_some_and(|event| Some(event.seq) == after.checked_add(1))
        {
            return Ok(events);
        }
        // Nothing there, or not what comes next: is the run gone, or its beginning?
        let mut args = Args::default();
        args.blob(run.as_bytes());
        let rows = db.rows(Arc::clone(&FIRST_SEQ), args).await?;
        let row = rows.first().ok_or(Error::RunNotFound(run))?;
        let last = record::get::<i64>(row, 0, db.path())?.cast_unsigned();
        let first = record::get::<Option<i64>>(row, 1, db.path())?.map(i64::cast_unsigned);
        let first = first.unwrap_or(last + 1);
        // What came in between the two looks is for the next call.
        if after.saturating_add(1) < first {
            return Err(Error::Pruned { run, first });
        }
        Ok(events)
    }
}

fn view(row: &SqliteRow, db: &Db) -> Result<RunView> {
    let path = db.path();
    let run = record::run(row, path)?;
    let outcome: Option<&str> = record::get(row, record::PAYLOAD_COLUMN + 2, path)?;
    let outcome: Option<Outcome> = match outcome {
        Some(text) => {
            adjutant_engine::outcome(run.state, text).map_err(|error| corrupt(path, error))?
        }
        None => None,
    };
    Ok(RunView {
        payload: record::payload(row, record::PAYLOAD_COLUMN, path)?,
        outcome,
        run,
    })
}
