//! What a batch is going to write: rows per table, and the few statements that write them all.

use std::sync::{Arc, LazyLock};

use adjutant_core::{Json, NewEvent, Result, RunId, StepRecord, Timestamp};
use adjutant_queue::{Payload, RunRecord, Signal};

use crate::{
    db::Db,
    record::{self, CHANGING, COLUMNS, COUNTING, STEP_COLUMNS},
    sql::{self, Args, Texts, WIDEST, WIDTHS, width_for},
};

/// Up to this many statements of up to this many rows are joined into one with the commit: two thread
/// hops for all instead of two for each. More kinds of joined texts than the cache holds would cost more.
const JOINED_STATEMENTS: usize = 12;
const JOINED_WIDTH: usize = 0;

/// Joined texts remembered before starting over.
const JOINED_TEXTS: usize = 128;

/// Rows of the tables that are only ever added to within a batch, so that undoing is cutting off.
#[derive(Default)]
pub(crate) struct Added {
    pub payloads: Vec<(RunId, Payload)>,
    pub outcomes: Vec<(RunId, String)>,
    pub checkpoints: Vec<(RunId, u64, Json, Timestamp)>,
    /// Checkpoints up to this number are dropped.
    pub dropped: Vec<(RunId, u64)>,
    pub events: Vec<(RunId, u64, NewEvent, Timestamp)>,
    pub signals: Vec<(RunId, Signal)>,
    /// Signals taken out of the mailbox.
    pub taken: Vec<(RunId, u64)>,
}

/// Lengths of [`Added`] to cut back to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mark([usize; 7]);

impl Added {
    pub(crate) fn mark(&self) -> Mark {
        Mark([
            self.payloads.len(),
            self.outcomes.len(),
            self.checkpoints.len(),
            self.dropped.len(),
            self.events.len(),
            self.signals.len(),
            self.taken.len(),
        ])
    }

    pub(crate) fn cut(&mut self, mark: Mark) {
        let Mark(
            [
                payloads,
                outcomes,
                checkpoints,
                dropped,
                events,
                signals,
                taken,
            ],
        ) = mark;
        self.payloads.truncate(payloads);
        self.outcomes.truncate(outcomes);
        self.checkpoints.truncate(checkpoints);
        self.dropped.truncate(dropped);
        self.events.truncate(events);
        self.signals.truncate(signals);
        self.taken.truncate(taken);
    }
}

/// Everything that a batch writes.
#[derive(Default)]
pub(crate) struct Rows<'a> {
    pub new_runs: Vec<&'a RunRecord>,
    pub changed_runs: Vec<&'a RunRecord>,
    pub counted_runs: Vec<&'a RunRecord>,
    pub steps: Vec<(RunId, u64, &'a StepRecord)>,
    pub fanouts: Vec<(RunId, &'a str, adjutant_queue::Group)>,
    /// Changes of the numbers in `counts`.
    pub counts: Vec<(i64, i64)>,
}

/// One statement with its width and values.
struct Piece {
    table: usize,
    width: usize,
    args: Args,
}

/// Writes rows in as few statements as possible.
#[derive(Default)]
pub(crate) struct Flush {
    pieces: Vec<Piece>,
    widest: usize,
}

static RUNS_NEW: Texts = LazyLock::new(|| sql::insert("runs", COLUMNS, ""));
static RUNS_CHANGED: Texts = LazyLock::new(|| update_runs(&CHANGING));
static RUNS_COUNTED: Texts = LazyLock::new(|| update_runs(&COUNTING));
static PAYLOADS: Texts = LazyLock::new(|| sql::insert("payloads", "run, input, metadata", ""));
static OUTCOMES: Texts = LazyLock::new(|| sql::insert("outcomes", "run, body", ""));
static STEPS: Texts = LazyLock::new(|| {
    sql::insert(
        "steps",
        &format!("run, {STEP_COLUMNS}"),
        " on conflict (run, key) do update set kind = excluded.kind, input = excluded.input, \
         state = excluded.state, body = excluded.body, attempts = excluded.attempts, \
         started_at = excluded.started_at, recorded_at = excluded.recorded_at",
    )
});
static CHECKPOINTS: Texts =
    LazyLock::new(|| sql::insert("checkpoints", "run, seq, state, saved_at", ""));
static DROPPED: Texts = LazyLock::new(|| {
    sql::rows(
        "delete from checkpoints where (run, seq) in (select c.run, c.seq from (values ",
        2,
        ") as v cross join checkpoints as c on c.run = v.column1 and c.seq <= v.column2)",
    )
});
static EVENTS: Texts =
    LazyLock::new(|| sql::insert("events", "run, seq, at, type, visibility, payload", ""));
static SIGNALS: Texts =
    LazyLock::new(|| sql::insert("signals", "run, id, name, payload, received_at", ""));
static TAKEN: Texts =
    LazyLock::new(|| sql::rows("delete from signals where (run, id) in (values ", 2, ")"));
static FANOUTS: Texts = LazyLock::new(|| {
    sql::insert(
        "fanouts",
        "run, key, open, failed",
        " on conflict (run, key) do update set open = excluded.open, failed = excluded.failed",
    )
});
static COUNTS: Texts = LazyLock::new(|| {
    sql::rows(
        "update counts set runs = runs + v.column2 from (values ",
        2,
        ") as v where class = v.column1",
    )
});

/// In the order of the pieces.
static TABLES: [&Texts; 13] = [
    &RUNS_NEW,
    &RUNS_CHANGED,
    &RUNS_COUNTED,
    &PAYLOADS,
    &OUTCOMES,
    &STEPS,
    &CHECKPOINTS,
    &DROPPED,
    &EVENTS,
    &SIGNALS,
    &TAKEN,
    &FANOUTS,
    &COUNTS,
];

fn update_runs(columns: &[&str]) -> [Arc<str>; WIDTHS.len()] {
    let set: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(n, column)| format!("{column} = v.column{}", n + 2))
        .collect();
    sql::rows(
        &format!("update runs set {} from (values ", set.join(", ")),
        columns.len() + 1,
        ") as v where id = v.column1",
    )
}

impl Flush {
    /// Adds rows for one of the [`TABLES`].
    fn table<T>(&mut self, table: usize, columns: usize, rows: &[T], bind: impl Fn(&T, &mut Args)) {
        for chunk in rows.chunks(WIDEST) {
            let width = width_for(chunk.len());
            let mut args = Args::default();
            for row in chunk {
                bind(row, &mut args);
            }
            args.nulls((WIDTHS[width] - chunk.len()) * columns);
            self.widest = self.widest.max(width);
            self.pieces.push(Piece { table, width, args });
        }
    }

    /// Adds everything that a batch writes.
    pub(crate) fn add(&mut self, rows: &Rows<'_>, added: &Added) {
        self.table(0, CHANGING.len() + 8, &rows.new_runs, |run, args| {
            record::bind_run(run, args);
        });
        self.table(1, CHANGING.len() + 1, &rows.changed_runs, |run, args| {
            args.blob(run.id.as_bytes());
            record::bind_changing(run, args);
        });
        self.table(2, COUNTING.len() + 1, &rows.counted_runs, |run, args| {
            args.blob(run.id.as_bytes());
            record::bind_counts(run, args);
        });
        self.table(3, 3, &added.payloads, |(run, payload), args| {
            args.blob(run.as_bytes());
            args.text(payload.input.as_str());
            args.maybe_text(
                Some(payload.metadata.as_str()).filter(|_| !payload.metadata.is_null()),
            );
        });
        self.table(4, 2, &added.outcomes, |(run, body), args| {
            args.blob(run.as_bytes());
            args.text(body);
        });
        self.table(5, 10, &rows.steps, |(run, ordinal, step), args| {
            args.blob(run.as_bytes());
            record::bind_step(step, *ordinal, args);
        });
        self.table(
            6,
            4,
            &added.checkpoints,
            |(run, seq, state, saved_at), args| {
                args.blob(run.as_bytes());
                args.count(*seq);
                args.text(state.as_str());
                args.int(saved_at.as_micros());
            },
        );
        let pair = |(run, number): &(RunId, u64), args: &mut Args| {
            args.blob(run.as_bytes());
            args.count(*number);
        };
        self.table(7, 2, &added.dropped, pair);
        self.table(8, 6, &added.events, |(run, seq, event, at), args| {
            args.blob(run.as_bytes());
            args.count(*seq);
            args.int(at.as_micros());
            args.text(event.event_type.as_str());
            args.int(record::visibility_code(event.visibility));
            args.text(event.payload.as_str());
        });
        self.table(9, 5, &added.signals, |(run, signal), args| {
            args.blob(run.as_bytes());
            args.count(signal.id);
            args.text(&signal.name);
            args.text(signal.payload.as_str());
            args.int(signal.received_at.as_micros());
        });
        self.table(10, 2, &added.taken, pair);
        self.table(11, 4, &rows.fanouts, |(run, key, group), args| {
            args.blob(run.as_bytes());
            args.text(key);
            args.count(group.open);
            args.count(group.failed);
        });
        self.table(12, 2, &rows.counts, |(class, change), args| {
            args.int(*class);
            args.int(*change);
        });
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Writes everything.
    pub(crate) async fn write(self, db: &mut Db) -> Result<()> {
        for piece in self.pieces {
            db.run(Arc::clone(&TABLES[piece.table][piece.width]), piece.args)
                .await?;
        }
        Ok(())
    }
}
