//! What a batch writes: one array per column, and one statement for all tables.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use adjutant_core::{RunId, StepRecord};
use adjutant_engine::{Added, Changes, Columns};
use adjutant_queue::{Group, Payload, Signal};

use crate::{
    args::{Args, int, uuid},
    history::{self, STEP_COLUMNS},
    record::{self, COLUMNS, FIRST_CHANGING, array_type},
    text,
};

/// The most rows of a kind in one statement.
const ROWS: usize = 500;

/// The most text of a kind in one statement, unless a single row has more. A message to the server ends at 1 GiB.
const BYTES: usize = 64 << 20;

/// Rows of `counts` that a fold takes at most.
const FOLDED: usize = 5000;

/// The columns of `counts` by class; see [`adjutant_engine::class`].
pub(crate) const COUNTS: [&str; 12] = [
    "pending",
    "running",
    "waiting",
    "input_required",
    "paused",
    "succeeded",
    "failed",
    "cancelled",
    "timed_out",
    "parked",
    "ready",
    "blocked",
];

/// Parts of the statement, by bit of the key of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
enum Part {
    New,
    Changed,
    Payloads,
    Outcomes,
    Steps,
    Checkpoints,
    Dropped,
    Events,
    Signals,
    Taken,
    Fanouts,
    Counts,
    Fold,
}

const PARTS: [Part; 13] = [
    Part::New,
    Part::Changed,
    Part::Payloads,
    Part::Outcomes,
    Part::Steps,
    Part::Checkpoints,
    Part::Dropped,
    Part::Events,
    Part::Signals,
    Part::Taken,
    Part::Fanouts,
    Part::Counts,
    Part::Fold,
];

/// The rows of all tables.
pub(crate) struct Rows<'a> {
    new: Vec<Columns<'a>>,
    changed: Vec<Columns<'a>>,
    steps: &'a [(RunId, u64, &'a StepRecord)],
    checkpoints: Vec<&'a (RunId, u64, adjutant_core::Json, adjutant_core::Timestamp)>,
    dropped: Vec<(RunId, u64)>,
    signals: Vec<&'a (RunId, Signal)>,
    taken: Vec<(RunId, u64)>,
    fanouts: &'a [(RunId, &'a str, Group)],
    counts: Vec<(i64, i64)>,
    added: &'a Added,
    fold: bool,
}

/// Texts of statements by the parts that they have.
#[derive(Default)]
pub(crate) struct Texts(HashMap<u16, Arc<str>>);

impl<'a> Rows<'a> {
    /// The rows of a batch. What it both makes and drops is not written at all, for a statement does not see what
    /// it writes itself.
    pub(crate) fn of(changes: &'a Changes<'a>, fold: bool) -> Self {
        let added = changes.added;
        let mut dropped: BTreeMap<RunId, u64> = BTreeMap::new();
        for (run, upto) in &added.dropped {
            let highest = dropped.entry(*run).or_default();
            *highest = (*upto).max(*highest);
        }
        let stays = |run: &RunId, seq: u64| dropped.get(run).is_none_or(|upto| seq > *upto);
        let here = |run: &RunId, id: u64| {
            let mut signals = added.signals.iter();
            signals.any(|(to, signal)| to == run && signal.id == id)
        };
        let taken: Vec<(RunId, u64)> = added.taken.clone();
        let records = |new: bool| {
            let runs = changes.runs.iter();
            record::columns(
                runs.filter(move |run| run.before.is_none() == new)
                    .map(|run| run.record),
            )
        };
        Self {
            new: records(true),
            changed: records(false),
            steps: &changes.steps,
            checkpoints: added
                .checkpoints
                .iter()
                .filter(|(run, seq, ..)| stays(run, *seq))
                .collect(),
            signals: added
                .signals
                .iter()
                .filter(|(run, signal)| !taken.contains(&(*run, signal.id)))
                .collect(),
            taken: taken
                .into_iter()
                .filter(|(run, id)| !here(run, *id))
                .collect(),
            dropped: dropped.into_iter().collect(),
            fanouts: &changes.fanouts,
            counts: changes.counts(),
            added,
            fold,
        }
    }

    /// The statements that write them.
    pub(crate) fn statements(&self, texts: &mut Texts) -> Vec<(Arc<str>, Args)> {
        let mut statements = Vec::new();
        for chunk in 0.. {
            let mut args = Args::default();
            let mut key = 0;
            for part in PARTS {
                if self.bind(part, chunk, &mut args) {
                    key |= 1 << part as u16;
                }
            }
            if key == 0 {
                break;
            }
            statements.push((texts.get(key), args));
        }
        statements
    }

    /// Binds one chunk of the rows of a part; false if there is none.
    fn bind(&self, part: Part, chunk: usize, args: &mut Args) -> bool {
        match part {
            Part::New => bind(&self.new, chunk, args, |rows, args| {
                record::bind_ids(rows, args);
                record::bind_fixed(rows, args);
                record::bind_changing(rows, args);
            }),
            Part::Changed => bind(&self.changed, chunk, args, |rows, args| {
                record::bind_ids(rows, args);
                record::bind_changing(rows, args);
            }),
            Part::Payloads => bind_sized(
                &self.added.payloads,
                chunk,
                args,
                payload_size,
                |rows, args| {
                    args.add(ids(rows.iter().map(|(run, _)| run)));
                    args.add(list(rows, |(_, payload)| payload.input.as_str()));
                    args.add(list(rows, |(_, payload)| {
                        Some(payload.metadata.as_str()).filter(|_| !payload.metadata.is_null())
                    }));
                },
            ),
            Part::Outcomes => bind_sized(
                &self.added.outcomes,
                chunk,
                args,
                |row| row.1.len(),
                |rows, args| {
                    args.add(ids(rows.iter().map(|(run, _)| run)));
                    args.add(list(rows, |(_, body)| body.as_str()));
                },
            ),
            Part::Steps => bind_sized(
                self.steps,
                chunk,
                args,
                |row| history::size(row.2),
                history::bind_steps,
            ),
            Part::Checkpoints => bind_sized(
                &self.checkpoints,
                chunk,
                args,
                |row| row.2.len(),
                |rows, args| {
                    args.add(ids(rows.iter().map(|row| &row.0)));
                    args.add(list(rows, |row| int(row.1)));
                    args.add(list(rows, |row| row.2.as_str()));
                    args.add(list(rows, |row| row.3.as_micros()));
                },
            ),
            Part::Dropped => bind(&self.dropped, chunk, args, bind_numbers),
            Part::Events => bind_sized(
                &self.added.events,
                chunk,
                args,
                |row| row.2.payload.len(),
                |rows, args| {
                    let types = list(rows, |row| text::stored(row.2.event_type.as_str()));
                    args.add(ids(rows.iter().map(|row| &row.0)));
                    args.add(list(rows, |row| int(row.1)));
                    args.add(list(rows, |row| row.3.as_micros()));
                    args.add(list(&types, |text| &**text));
                    args.add(list(rows, |row| history::visibility_code(row.2.visibility)));
                    args.add(list(rows, |row| row.2.payload.as_str()));
                },
            ),
            Part::Signals => bind_sized(
                &self.signals,
                chunk,
                args,
                |row| row.1.payload.len(),
                |rows, args| {
                    let names = list(rows, |(_, signal)| text::stored(&signal.name));
                    args.add(ids(rows.iter().map(|(run, _)| run)));
                    args.add(list(rows, |(_, signal)| int(signal.id)));
                    args.add(list(&names, |name| &**name));
                    args.add(list(rows, |(_, signal)| signal.payload.as_str()));
                    args.add(list(rows, |(_, signal)| signal.received_at.as_micros()));
                },
            ),
            Part::Taken => bind(&self.taken, chunk, args, bind_numbers),
            Part::Fanouts => bind(self.fanouts, chunk, args, |rows, args| {
                let keys = list(rows, |(_, key, _)| text::stored(key));
                args.add(ids(rows.iter().map(|(run, ..)| run)));
                args.add(list(&keys, |key| &**key));
                args.add(list(rows, |(_, _, group)| int(group.open)));
                args.add(list(rows, |(_, _, group)| int(group.failed)));
            }),
            Part::Counts => {
                let some = chunk == 0 && !self.counts.is_empty();
                if some {
                    bind_counts(&self.counts, args);
                }
                some
            }
            Part::Fold => self.fold && chunk == 0,
        }
    }
}

/// Binds the changes of all classes.
pub(crate) fn bind_counts(counts: &[(i64, i64)], args: &mut Args) {
    for class in 0_i64.. {
        if class >= COUNTS.len() as i64 {
            break;
        }
        let of_class = counts.iter().filter(|(of, _)| *of == class);
        args.add(of_class.map(|(_, by)| by).sum::<i64>());
    }
}

fn bind<T>(rows: &[T], chunk: usize, args: &mut Args, bind: impl Fn(&[T], &mut Args)) -> bool {
    bind_sized(rows, chunk, args, |_| 0, bind)
}

/// The same for rows that may be large.
fn bind_sized<T>(
    rows: &[T],
    chunk: usize,
    args: &mut Args,
    size: impl Fn(&T) -> usize,
    bind: impl Fn(&[T], &mut Args),
) -> bool {
    let mut rest = rows;
    for skip in (0..=chunk).rev() {
        let mut bytes = 0;
        let fits = rest.iter().take(ROWS).take_while(|row| {
            bytes += size(row);
            bytes <= BYTES
        });
        let (now, later) = rest.split_at(fits.count().max(1).min(rest.len()));
        if skip == 0 && !now.is_empty() {
            bind(now, args);
            return true;
        }
        rest = later;
    }
    false
}

fn payload_size((_, payload): &(RunId, Payload)) -> usize {
    payload.input.len() + payload.metadata.len()
}

fn bind_numbers(rows: &[(RunId, u64)], args: &mut Args) {
    args.add(ids(rows.iter().map(|(run, _)| run)));
    args.add(list(rows, |(_, number)| int(*number)));
}

fn list<'r, R, T: 'r>(rows: &'r [R], of: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

fn ids<'r>(runs: impl Iterator<Item = &'r RunId>) -> Vec<sqlx::types::Uuid> {
    runs.map(|run| uuid(run.as_bytes())).collect()
}

impl Texts {
    fn get(&mut self, key: u16) -> Arc<str> {
        let text = self.0.entry(key).or_insert_with(|| {
            let mut values = 0;
            let parts = PARTS.iter().filter(|part| key & (1 << **part as u16) != 0);
            let parts: Vec<String> = parts.map(|part| part.text(&mut values)).collect();
            // Parts of a `with` that change tables are carried out whether or not anybody reads them.
            Arc::from(format!("with {} select 1", parts.join(", ")))
        });
        Arc::clone(text)
    }
}

impl Part {
    /// The part as a member of `with`, its values counted on from `values`.
    fn text(self, values: &mut usize) -> String {
        let numbered = "run uuid[], seq bigint[]";
        match self {
            Self::New => {
                let columns = COLUMNS.join(", ");
                let rows = rows(&typed(&COLUMNS), values);
                format!("new as (insert into runs ({columns}) select {columns} from {rows})")
            }
            Self::Changed => {
                let changing = &COLUMNS[FIRST_CHANGING..];
                let all = [&COLUMNS[..1], changing].concat();
                let rows = rows(&typed(&all), values);
                let set: Vec<String> = changing.iter().map(|c| format!("{c} = v.{c}")).collect();
                let set = set.join(", ");
                format!("changed as (update runs as r set {set} from {rows} where r.id = v.id)")
            }
            Self::Payloads => {
                let columns = "run uuid[], input text[], metadata text[]";
                insert("payloads", columns, values, "")
            }
            Self::Outcomes => insert("outcomes", "run uuid[], body text[]", values, ""),
            Self::Steps => {
                let columns = step_columns();
                let again = " on conflict (run, key) do update set kind = excluded.kind, \
                     input = excluded.input, state = excluded.state, body = excluded.body, \
                     attempts = excluded.attempts, started_at = excluded.started_at, \
                     recorded_at = excluded.recorded_at";
                insert("steps", &columns, values, again)
            }
            Self::Checkpoints => {
                let columns = "run uuid[], seq bigint[], state text[], saved_at bigint[]";
                insert("checkpoints", columns, values, "")
            }
            Self::Dropped => {
                let rows = rows(numbered, values);
                format!(
                    "dropped as (delete from checkpoints as c using {rows} \
                     where c.run = v.run and c.seq <= v.seq)"
                )
            }
            Self::Events => {
                let columns = "run uuid[], seq bigint[], at bigint[], type text[], \
                     visibility bigint[], payload text[]";
                insert("events", columns, values, "")
            }
            Self::Signals => {
                let columns = "run uuid[], id bigint[], name text[], payload text[], \
                     received_at bigint[]";
                insert("signals", columns, values, "")
            }
            Self::Taken => {
                let rows = rows(numbered, values);
                format!(
                    "taken as (delete from signals as s using {rows} \
                     where s.run = v.run and s.id = v.seq)"
                )
            }
            Self::Fanouts => {
                let columns = "run uuid[], key text[], open bigint[], failed bigint[]";
                let again = " on conflict (run, key) do update set open = excluded.open, \
                     failed = excluded.failed";
                insert("fanouts", columns, values, again)
            }
            Self::Counts => format!("counted as ({})", counts_text(values)),
            Self::Fold => {
                let sums = COUNTS.map(|column| format!("sum({column})")).join(", ");
                format!(
                    "old as (delete from counts where ctid = any (array(\
                       select ctid from counts limit {FOLDED} for update skip locked)) returning *), \
                     folded as (insert into counts select {sums} from old having count(*) > 0)"
                )
            }
        }
    }
}

/// The statement that adds a row of changes to `counts`.
pub(crate) fn counts_text(values: &mut usize) -> String {
    let columns = COUNTS.join(", ");
    let marks: Vec<String> = COUNTS
        .iter()
        .map(|_| {
            *values += 1;
            format!("${values}::bigint")
        })
        .collect();
    format!(
        "insert into counts ({columns}) values ({})",
        marks.join(", ")
    )
}

fn typed(columns: &[&str]) -> String {
    let typed: Vec<String> = columns
        .iter()
        .map(|column| format!("{column} {}", array_type(column)))
        .collect();
    typed.join(", ")
}

fn step_columns() -> String {
    let typed = STEP_COLUMNS.split(", ").map(|column| {
        let text = matches!(column, "key" | "kind" | "body");
        format!("{column} {}", if text { "text[]" } else { "bigint[]" })
    });
    let typed: Vec<String> = typed.collect();
    format!("run uuid[], {}", typed.join(", "))
}

/// `unnest($1::uuid[], …) as v(run, …)`.
fn rows(columns: &str, values: &mut usize) -> String {
    let (mut names, mut arrays) = (Vec::new(), Vec::new());
    for column in columns.split(", ") {
        let (name, kind) = column.split_once(' ').unwrap_or((column, "bigint[]"));
        *values += 1;
        names.push(name);
        arrays.push(format!("${values}::{kind}"));
    }
    format!("unnest({}) as v({})", arrays.join(", "), names.join(", "))
}

/// `payloads_added as (insert into payloads (run, …) select run, … from unnest(…))`.
fn insert(table: &str, columns: &str, values: &mut usize, tail: &str) -> String {
    let names: Vec<&str> = columns
        .split(", ")
        .filter_map(|column| column.split(' ').next())
        .collect();
    let names = names.join(", ");
    let rows = rows(columns, values);
    format!("{table}_added as (insert into {table} ({names}) select {names} from {rows}{tail})")
}
