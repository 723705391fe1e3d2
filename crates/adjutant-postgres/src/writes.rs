//! What a batch writes: one array per column, and one statement for all tables.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use adjutant_core::{RunId, StepRecord};
use adjutant_engine::{Added, Changes, Columns};
use adjutant_queue::{Group, Payload, Signal};

use crate::{
    args::{Values, int},
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

    /// How much text they have, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let added = self.added;
        let of_steps: usize = self.steps.iter().map(|row| history::size(row.2)).sum();
        let of_events: usize = added.events.iter().map(|row| row.2.payload.len()).sum();
        added.payloads.iter().map(payload_size).sum::<usize>()
            + added.outcomes.iter().map(|row| row.1.len()).sum::<usize>()
            + self
                .checkpoints
                .iter()
                .map(|row| row.2.len())
                .sum::<usize>()
            + self
                .signals
                .iter()
                .map(|row| row.1.payload.len())
                .sum::<usize>()
            + of_steps
            + of_events
    }

    /// Whether there are too many for one statement.
    pub(crate) fn is_chunked(&self) -> bool {
        let rows = [
            self.new.len(),
            self.changed.len(),
            self.steps.len(),
            self.added.payloads.len(),
            self.added.outcomes.len(),
            self.checkpoints.len(),
            self.dropped.len(),
            self.added.events.len(),
            self.signals.len(),
            self.taken.len(),
            self.fanouts.len(),
        ];
        rows.into_iter().any(|rows| rows > ROWS)
    }

    /// Binds one chunk of all parts, and says which parts that has; 0 for none.
    pub(crate) fn bind(&self, chunk: usize, to: &mut impl Values) -> u16 {
        let has = |part: &Part, to: &mut _| self.bind_part(*part, chunk, to);
        PARTS
            .iter()
            .filter(|part| has(part, to))
            .fold(0, |parts, part| parts | part.bit())
    }

    /// Binds one chunk of the rows of a part; false if there is none.
    fn bind_part(&self, part: Part, n: usize, to: &mut impl Values) -> bool {
        match part {
            Part::New => chunk(&self.new, n, |_| 0).is_some_and(|rows| {
                record::bind_ids(rows, to);
                record::bind_fixed(rows, to);
                record::bind_changing(rows, to);
                true
            }),
            Part::Changed => chunk(&self.changed, n, |_| 0).is_some_and(|rows| {
                record::bind_ids(rows, to);
                record::bind_changing(rows, to);
                true
            }),
            Part::Payloads => chunk(&self.added.payloads, n, payload_size).is_some_and(|rows| {
                to.ids(rows.iter().map(|(run, _)| run.as_bytes()));
                to.texts(rows.iter().map(|(_, payload)| payload.input.as_str()));
                let metadata = rows.iter().map(|(_, payload)| &payload.metadata);
                to.maybe_texts(
                    metadata.map(|json| Some(json.as_str()).filter(|_| !json.is_null())),
                );
                true
            }),
            Part::Outcomes => {
                chunk(&self.added.outcomes, n, |row| row.1.len()).is_some_and(|rows| {
                    to.ids(rows.iter().map(|(run, _)| run.as_bytes()));
                    to.texts(rows.iter().map(|(_, body)| body.as_str()));
                    true
                })
            }
            Part::Steps => chunk(self.steps, n, |row| history::size(row.2)).is_some_and(|rows| {
                history::bind_steps(rows, to);
                true
            }),
            Part::Checkpoints => {
                chunk(&self.checkpoints, n, |row| row.2.len()).is_some_and(|rows| {
                    to.ids(rows.iter().map(|row| row.0.as_bytes()));
                    to.ints(rows.iter().map(|row| int(row.1)));
                    to.texts(rows.iter().map(|row| row.2.as_str()));
                    to.ints(rows.iter().map(|row| row.3.as_micros()));
                    true
                })
            }
            Part::Dropped => bind_numbers(&self.dropped, n, to),
            Part::Events => self.bind_events(n, to),
            Part::Signals => self.bind_signals(n, to),
            Part::Taken => bind_numbers(&self.taken, n, to),
            Part::Fanouts => chunk(self.fanouts, n, |_| 0).is_some_and(|rows| {
                let keys: Vec<_> = rows.iter().map(|(_, key, _)| text::stored(key)).collect();
                to.ids(rows.iter().map(|(run, ..)| run.as_bytes()));
                to.texts(keys.iter().map(|key| &**key));
                to.ints(rows.iter().map(|(_, _, group)| int(group.open)));
                to.ints(rows.iter().map(|(_, _, group)| int(group.failed)));
                true
            }),
            Part::Counts => {
                let some = n == 0 && !self.counts.is_empty();
                if some {
                    bind_counts(&self.counts, to);
                }
                some
            }
            Part::Fold => self.fold && n == 0,
        }
    }

    fn bind_events(&self, n: usize, to: &mut impl Values) -> bool {
        let Some(rows) = chunk(&self.added.events, n, |row| row.2.payload.len()) else {
            return false;
        };
        let types = rows
            .iter()
            .map(|row| text::stored(row.2.event_type.as_str()));
        let types: Vec<_> = types.collect();
        to.ids(rows.iter().map(|row| row.0.as_bytes()));
        to.ints(rows.iter().map(|row| int(row.1)));
        to.ints(rows.iter().map(|row| row.3.as_micros()));
        to.texts(types.iter().map(|text| &**text));
        to.ints(
            rows.iter()
                .map(|row| history::visibility_code(row.2.visibility)),
        );
        to.texts(rows.iter().map(|row| row.2.payload.as_str()));
        true
    }

    fn bind_signals(&self, n: usize, to: &mut impl Values) -> bool {
        let Some(rows) = chunk(&self.signals, n, |row| row.1.payload.len()) else {
            return false;
        };
        let names: Vec<_> = rows
            .iter()
            .map(|(_, signal)| text::stored(&signal.name))
            .collect();
        to.ids(rows.iter().map(|(run, _)| run.as_bytes()));
        to.ints(rows.iter().map(|(_, signal)| int(signal.id)));
        to.texts(names.iter().map(|name| &**name));
        to.texts(rows.iter().map(|(_, signal)| signal.payload.as_str()));
        to.ints(
            rows.iter()
                .map(|(_, signal)| signal.received_at.as_micros()),
        );
        true
    }
}

/// Binds the changes of all classes.
pub(crate) fn bind_counts(counts: &[(i64, i64)], to: &mut impl Values) {
    for (class, _) in (0_i64..).zip(COUNTS) {
        let of_class = counts.iter().filter(|(of, _)| *of == class);
        to.int(of_class.map(|(_, by)| by).sum());
    }
}

/// The rows of the chunk with this number, if there is one.
fn chunk<T>(rows: &[T], n: usize, size: impl Fn(&T) -> usize) -> Option<&[T]> {
    let mut rest = rows;
    for skip in (0..=n).rev() {
        let mut bytes = 0;
        let fits = rest.iter().take(ROWS).take_while(|row| {
            bytes += size(row);
            bytes <= BYTES
        });
        let (now, later) = rest.split_at(fits.count().max(1).min(rest.len()));
        if skip == 0 {
            return Some(now).filter(|now| !now.is_empty());
        }
        rest = later;
    }
    None
}

fn payload_size((_, payload): &(RunId, Payload)) -> usize {
    payload.input.len() + payload.metadata.len()
}

fn bind_numbers(rows: &[(RunId, u64)], n: usize, to: &mut impl Values) -> bool {
    chunk(rows, n, |_| 0).is_some_and(|rows| {
        to.ids(rows.iter().map(|(run, _)| run.as_bytes()));
        to.ints(rows.iter().map(|(_, number)| int(*number)));
        true
    })
}

impl Texts {
    /// The statement with these parts.
    pub(crate) fn get(&mut self, key: u16) -> Arc<str> {
        let text = self.0.entry(key).or_insert_with(|| {
            let mut values = 0;
            let parts = PARTS.iter().filter(|part| key & part.bit() != 0);
            let parts: Vec<String> = parts.map(|part| part.text(&mut values)).collect();
            // Parts of a `with` that change tables are carried out whether or not anybody reads them.
            Arc::from(format!("with {} select 1", parts.join(", ")))
        });
        Arc::clone(text)
    }
}

impl Part {
    fn bit(self) -> u16 {
        1 << self as u16
    }

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
