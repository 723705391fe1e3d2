//! Reading beside the writer: a few connections, each used by one caller at a time.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use adjutant_core::{Error, Event, Outcome, Result, RunId, RunState, Timestamp};
use adjutant_engine::{Counters, outcome};
use adjutant_queue::{QueueStats, RunFilter, RunRecord, RunView};
use adjutant_state::{Checkpoint, History};
use sqlx::postgres::PgRow;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    args::{Args, int, limit, uuid},
    config::PostgresConfig,
    db::{Db, Role},
    error::corrupt,
    history,
    reads::{self, Text},
    record::{self, COLUMNS, columns_of},
    text,
    writes::COUNTS,
};

static VIEW: Text = Text::new(|| {
    Arc::from(format!(
        "select {}, p.input, p.metadata, o.body from runs as r \
         left join payloads as p on p.run = r.id left join outcomes as o on o.run = r.id \
         where r.id = $1",
        columns_of("r")
    ))
});
static EVENTS: Text = Text::new(|| {
    Arc::from(
        "select seq, at, type, visibility, payload from events where run = $1 and seq > $2 \
         order by seq limit $3",
    )
});
static LAST_SEQ: Text = Text::new(|| Arc::from("select last_seq from runs where id = $1"));
static FIRST_SEQ: Text = Text::new(|| {
    Arc::from(
        "select last_seq, (select seq from events where run = $1 order by seq limit 1) \
         from runs where id = $1",
    )
});
static STATS: Text = Text::new(|| {
    let sums = COUNTS.map(|column| format!("coalesce(sum({column}), 0)::bigint"));
    Arc::from(format!(
        "select (select ready_at from runs where line = 1 order by ready_at limit 1), {} \
         from counts",
        sums.join(", ")
    ))
});

/// The reading connections, opened as needed.
pub(crate) struct Readers {
    pub config: PostgresConfig,
    permits: Semaphore,
    idle: Mutex<Vec<Db>>,
    closed: AtomicBool,
    /// Calls by readers are nobody's measure.
    counters: Arc<Counters>,
}

/// One of them, on loan.
pub(crate) struct Reader<'a> {
    readers: &'a Readers,
    db: Option<Db>,
    fresh: bool,
    _permit: SemaphorePermit<'a>,
}

impl Readers {
    pub(crate) fn new(config: PostgresConfig) -> Self {
        Self {
            permits: Semaphore::new(config.readers.get()),
            config,
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
            counters: Arc::default(),
        }
    }

    /// A connection, waiting for one if all are in use.
    ///
    /// # Errors
    /// `Closed`, or what keeps it from being opened.
    async fn get(&self) -> Result<Reader<'_>> {
        let permit = timeout(self.config.acquire_timeout, self.permits.acquire()).await;
        let permit = permit.map_err(|_| Error::Backend {
            action: "read from the store",
            transient: true,
            source: "all reading connections were busy; raise `readers`".into(),
        })?;
        let permit = permit.map_err(|_| Error::Closed)?;
        let idle = self.idle().pop();
        let (db, fresh) = match idle {
            Some(db) => (db, false),
            None => (self.connect(Role::Reader).await?, true),
        };
        Ok(Reader {
            readers: self,
            db: Some(db),
            fresh,
            _permit: permit,
        })
    }

    /// A connection of one's own.
    pub(crate) async fn connect(&self, role: Role) -> Result<Db> {
        if self.closed.load(SeqCst) {
            return Err(Error::Closed);
        }
        let db = Db::connect(&self.config, role, &self.counters).await;
        db.map_err(|told| told.error)
    }

    /// Reads with a connection, and once more with a new one if it turns out that the server has dropped it.
    async fn query(&self, sql: &Arc<str>, args: Args, keep: bool) -> Result<Vec<PgRow>> {
        let args = args.done();
        let mut reader = self.get().await?;
        let Some(db) = &mut reader.db else {
            return Err(Error::Closed);
        };
        let told = match db.query(sql, args.clone(), keep).await {
            Ok(rows) => return Ok(rows),
            Err(told) => told,
        };
        if !told.lost || reader.fresh {
            return Err(told.error);
        }
        // Most likely the others are as old.
        self.idle().clear();
        reader.db = None;
        let db = reader.db.insert(self.connect(Role::Reader).await?);
        let rows = db.query(sql, args, keep).await;
        rows.map_err(|told| told.error)
    }

    pub(crate) async fn rows(&self, sql: &Arc<str>, args: Args) -> Result<Vec<PgRow>> {
        self.query(sql, args, true).await
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

    pub(crate) fn location(&self) -> String {
        self.config.location()
    }

    pub(crate) async fn view(&self, run: RunId) -> Result<Option<RunView>> {
        let rows = self.rows(&VIEW, Args::run(run)).await?;
        rows.first()
            .map(|row| view(row, &self.location()))
            .transpose()
    }

    pub(crate) async fn list(&self, filter: &RunFilter) -> Result<Vec<RunRecord>> {
        let (sql, args) = list_query(filter);
        let rows = self.query(&sql.into(), args, false).await?;
        let location = self.location();
        rows.iter().map(|row| record::run(row, &location)).collect()
    }

    pub(crate) async fn stats(&self) -> Result<QueueStats> {
        let rows = self.rows(&STATS, Args::default()).await?;
        let location = self.location();
        let row = rows
            .first()
            .ok_or_else(|| corrupt(&location, "no counts"))?;
        let oldest: Option<i64> = record::get(row, 0, &location)?;
        let mut counts = [0_u64; COUNTS.len()];
        for (class, count) in counts.iter_mut().enumerate() {
            let sum: i64 = record::get(row, class + 1, &location)?;
            *count =
                u64::try_from(sum).map_err(|_| corrupt(&location, "a negative count of runs"))?;
        }
        let [by_state @ .., ready, blocked] = counts;
        let mut stats = QueueStats {
            ready,
            blocked,
            oldest_ready_at: oldest.map(Timestamp::from_micros),
            ..QueueStats::default()
        };
        for (code, runs) in (0_u8..).zip(by_state) {
            if let Some(state) = RunState::from_code(code).filter(|_| runs > 0) {
                stats.by_state.insert(state, runs);
            }
        }
        let pending = stats.by_state.get(&RunState::Pending).copied().unwrap_or(0);
        stats.delayed = pending.saturating_sub(ready).saturating_sub(blocked);
        Ok(stats)
    }

    pub(crate) async fn history(&self, run: RunId) -> Result<History> {
        let location = self.location();
        let rows = self.rows(&reads::STEPS, Args::run(run)).await?;
        let steps = rows.iter().map(|row| history::step(row, &location));
        Ok(History {
            journal: steps.collect::<Result<_>>()?,
            checkpoint: self.checkpoints(run, 1).await?.pop(),
        })
    }

    pub(crate) async fn checkpoints(&self, run: RunId, most: usize) -> Result<Vec<Checkpoint>> {
        let location = self.location();
        let args = Args::run(run).with(limit(most));
        let rows = self.rows(&reads::CHECKPOINTS, args).await?;
        let read = rows.iter().map(|row| reads::checkpoint(row, &location));
        read.collect()
    }

    /// The number of the run's latest event; `None` for no such run.
    pub(crate) async fn last_seq(&self, run: RunId) -> Result<Option<u64>> {
        let rows = self.rows(&LAST_SEQ, Args::run(run)).await?;
        let location = self.location();
        let last = rows.first().map(|row| record::count(row, 0, &location));
        last.transpose()
    }

    pub(crate) async fn events(&self, run: RunId, after: u64, most: usize) -> Result<Vec<Event>> {
        let stored = int(after.min(i64::MAX.cast_unsigned()));
        let args = Args::run(run).with(stored).with(limit(most));
        let rows = self.rows(&EVENTS, args).await?;
        let location = self.location();
        let events = rows.iter().map(|row| history::event(run, row, &location));
        let events = events.collect::<Result<Vec<_>>>()?;
        let next = after.checked_add(1);
        if events.first().is_some_and(|event| Some(event.seq) == next) {
            return Ok(events);
        }
        // Nothing there, or not what comes next: is the run gone, or its beginning?
        let rows = self.rows(&FIRST_SEQ, Args::run(run)).await?;
        let row = rows.first().ok_or(Error::RunNotFound(run))?;
        let last = record::count(row, 0, &location)?;
        let first: Option<i64> = record::get(row, 1, &location)?;
        let first = first.map_or(last + 1, i64::cast_unsigned);
        // What came in between the two looks is for the next call.
        if after.saturating_add(1) < first {
            return Err(Error::Pruned { run, first });
        }
        Ok(events)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(db) = self.db.take()
            && db.is_fit()
            && !self.readers.closed.load(SeqCst)
        {
            self.readers.idle().push(db);
        }
    }
}

/// States are written into the text, so that the planner sees which indexes have them.
fn list_query(filter: &RunFilter) -> (String, Args) {
    let mut args = Args::default();
    let mut sql = format!("select {} from runs where true", COLUMNS.join(", "));
    let mut values = 0;
    let mut mark = |text: &str| {
        values += 1;
        format!(" and {text} ${values}")
    };
    if let Some(before) = filter.before {
        sql.push_str(&mark("id <"));
        args.add(uuid(before.as_bytes()));
    }
    if let Some(parent) = filter.parent {
        sql.push_str(&mark("parent ="));
        args.add(uuid(parent.as_bytes()));
    }
    if let Some(agent) = &filter.agent {
        sql.push_str(&mark("agent ="));
        args.add(&*text::stored(agent.as_str()));
    }
    if !filter.states.is_empty() {
        let states = filter.states.iter().map(|state| state.code().to_string());
        let states = states.collect::<Vec<_>>().join(", ");
        sql.push_str(&format!(" and state in ({states})"));
    }
    sql.push_str(&format!(" order by id desc limit {}", limit(filter.limit)));
    (sql, args)
}

fn view(row: &PgRow, location: &str) -> Result<RunView> {
    let run = record::run(row, location)?;
    let body: Option<&str> = record::get(row, COLUMNS.len() + 2, location)?;
    let ended: Option<Outcome> = match body {
        Some(text) => outcome(run.state, text).map_err(|error| corrupt(location, error))?,
        None => None,
    };
    Ok(RunView {
        payload: record::payload(row, COLUMNS.len(), location)?,
        outcome: ended,
        run,
    })
}
