//! What a batch is going to write: rows per table, and the few statements that write them all.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use adjutant_core::{Result, RunId};
use adjutant_engine::Changes;
use adjutant_queue::RunRecord;

use crate::{
    db::Db,
    history::{self, STEP_COLUMNS},
    record::{self, CHANGING, COLUMNS, COUNTING},
    sql::{self, Args, Texts, WIDEST, WIDTHS, width_for},
};

/// Joined texts remembered before starting over. Each keeps its statements prepared.
const JOINED_TEXTS: usize = 64;

/// A batch with more rows of a kind is written one statement after another: then there are few batches,
/// and what is done per statement does not matter.
const JOINED_ROWS: usize = 2 * WIDEST;

/// One statement: of which table, and how wide.
type Piece = (usize, usize);

/// Texts of statements that were run in one go before.
#[derive(Default)]
pub(crate) struct Joined(HashMap<Vec<Piece>, Arc<str>>);

/// Writes rows in as few statements, and as few calls, as possible.
#[derive(Default)]
pub(crate) struct Flush {
    pieces: Vec<Piece>,
    /// The values of all pieces, if they are run in one go, else of each.
    args: Vec<Args>,
    /// Run in one go.
    joined: bool,
    /// The least width of a piece. Pieces of like width make for few different texts.
    least: usize,
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
    sql::insert(
        "counts",
        "class, runs",
        " on conflict (class) do update set runs = runs + excluded.runs",
    )
});

static BEGINS: Texts = LazyLock::new(|| [(); WIDTHS.len()].map(|()| Arc::from("begin immediate")));
static COMMITS: Texts = LazyLock::new(|| [(); WIDTHS.len()].map(|()| Arc::from("commit")));
// Null is refused there: whoever expects another number writes nothing.
static GENERATION: Texts = LazyLock::new(|| {
    [(); WIDTHS.len()].map(|()| {
        Arc::from("update counts set runs = case runs when ? then runs + 1 end where class = -1")
    })
});

/// In the order of the pieces.
static TABLES: [&Texts; 16] = [
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
    &BEGINS,
    &GENERATION,
    &COMMITS,
];

/// The places of what is not a table among the [`TABLES`].
const BEGIN: usize = 13;
const GENERATE: usize = 14;
const COMMIT: usize = 15;

/// Changes runs that are there. An insert that always finds its row in the way needs no scratch table,
/// which `update … from` does; the values that it would insert are never seen.
fn update_runs(columns: &[&str]) -> [Arc<str>; WIDTHS.len()] {
    let names = columns.join(", ");
    let all = ["agent", "priority", "created_at"]
        .iter()
        .chain(&CHANGING)
        .filter(|c| !columns.contains(c));
    let others: Vec<&str> = all.copied().collect();
    let values: Vec<String> = (2..columns.len() + 2)
        .map(|n| format!("column{n}"))
        .collect();
    let set: Vec<String> = columns
        .iter()
        .map(|c| format!("{c} = excluded.{c}"))
        .collect();
    let zero = |c: &&str| match *c {
        "agent" => "''",
        "worker" | "more" => "null",
        _ => "0",
    };
    let zeros: Vec<&str> = others.iter().map(zero).collect();
    sql::rows(
        &format!(
            "insert into runs (id, {names}, {}) select column1, {}, {} from (values ",
            others.join(", "),
            values.join(", "),
            zeros.join(", "),
        ),
        columns.len() + 1,
        &format!(
            ") where column1 is not null on conflict (id) do update set {}",
            set.join(", ")
        ),
    )
}

impl Flush {
    /// Adds rows for one of the [`TABLES`].
    fn table<T>(&mut self, table: usize, columns: usize, rows: &[T], bind: impl Fn(&T, &mut Args)) {
        for chunk in rows.chunks(WIDEST) {
            let width = width_for(chunk.len()).max(self.least);
            if !self.joined || self.args.is_empty() {
                self.args.push(Args::default());
            }
            let Some(args) = self.args.last_mut() else {
                return;
            };
            for row in chunk {
                bind(row, args);
            }
            args.nulls((WIDTHS[width] - chunk.len()) * columns);
            self.pieces.push((table, width));
        }
    }

    /// Adds everything that a batch writes, on the condition that `generation` is still the file's.
    pub(crate) fn add(&mut self, changes: &Changes<'_>, generation: i64) {
        let added = changes.added;
        let (mut new, mut changed, mut counted) = (Vec::new(), Vec::new(), Vec::new());
        for run in &changes.runs {
            match (run.before, run.counts_only) {
                (None, _) => new.push(run.record),
                (Some(_), true) => counted.push(run.record),
                (Some(_), false) => changed.push(run.record),
            }
        }
        let sizes = [
            new.len(),
            counted.len(),
            added.payloads.len(),
            added.outcomes.len(),
            changes.steps.len(),
            added.checkpoints.len(),
        ];
        let most = sizes.into_iter().max().unwrap_or(0);
        let events = added.events.len().max(changed.len());
        self.joined = most.max(events) <= JOINED_ROWS;
        self.least = width_for(most.max(1)).min(WIDTHS.len() - 2);
        let mut args = Args::default();
        args.int(generation);
        self.args.push(args);
        self.pieces.push((GENERATE, 0));
        self.table(0, CHANGING.len() + 8, &new, |run: &&RunRecord, args| {
            record::bind_run(run, args);
        });
        self.table(1, CHANGING.len() + 1, &changed, |run: &&RunRecord, args| {
            args.blob(run.id.as_bytes());
            record::bind_changing(run, args);
        });
        self.table(2, COUNTING.len() + 1, &counted, |run: &&RunRecord, args| {
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
        self.table(5, 10, &changes.steps, |(run, ordinal, step), args| {
            args.blob(run.as_bytes());
            history::bind_step(step, *ordinal, args);
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
            args.int(history::visibility_code(event.visibility));
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
        self.table(11, 4, &changes.fanouts, |(run, key, group), args| {
            args.blob(run.as_bytes());
            args.text(key);
            args.count(group.open);
            args.count(group.failed);
        });
        self.table(12, 2, &changes.counts(), |(class, change), args| {
            args.int(*class);
            args.int(*change);
        });
    }

    /// Whether all of it is run in one go.
    pub(crate) fn is_joined(&self) -> bool {
        self.joined
    }

    /// Puts the begin of the transaction in front. Only for what is run in one go.
    pub(crate) fn begin(&mut self) {
        self.pieces.insert(0, (BEGIN, 0));
    }

    /// Adds the commit.
    pub(crate) fn commit(&mut self) {
        self.pieces.push((COMMIT, 0));
        if !self.joined {
            self.args.push(Args::default());
        }
    }

    /// Writes everything.
    pub(crate) async fn write(mut self, db: &mut Db, joined: &mut Joined) -> Result<()> {
        if self.joined && self.pieces.len() > 1 {
            let text = joined.text(self.pieces);
            return db.run(text, self.args.pop().unwrap_or_default()).await;
        }
        for ((table, width), args) in self.pieces.into_iter().zip(self.args) {
            db.run(Arc::clone(&TABLES[table][width]), args).await?;
        }
        Ok(())
    }
}

impl Joined {
    /// The text of these statements, one after another.
    fn text(&mut self, pieces: Vec<Piece>) -> Arc<str> {
        if let Some(text) = self.0.get(&pieces) {
            return Arc::clone(text);
        }
        if self.0.len() >= JOINED_TEXTS {
            self.0.clear();
        }
        let texts: Vec<&str> = pieces
            .iter()
            .map(|(table, width)| &*TABLES[*table][*width])
            .collect();
        let text: Arc<str> = Arc::from(texts.join(";\n"));
        self.0.insert(pieces, Arc::clone(&text));
        text
    }
}
