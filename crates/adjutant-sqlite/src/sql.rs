//! Statements over many rows at once, in a few fixed widths so that each is prepared once and kept.

use std::sync::{Arc, LazyLock};

use adjutant_core::RunId;
use sqlx::{Arguments, sqlite::SqliteArguments};

/// How many rows a statement takes. Unused rows are bound to null and left out by the statement itself.
pub(crate) const WIDTHS: [usize; 4] = [1, 4, 16, 64];

/// The most rows that one statement takes.
pub(crate) const WIDEST: usize = WIDTHS[WIDTHS.len() - 1];

/// The index of the smallest width that takes `rows`.
pub(crate) fn width_for(rows: usize) -> usize {
    WIDTHS
        .iter()
        .position(|width| *width >= rows)
        .unwrap_or(WIDTHS.len() - 1)
}

/// One text per width.
pub(crate) type Texts = LazyLock<[Arc<str>; WIDTHS.len()]>;

/// `head (?, ?), (?, ?), … tail` with `columns` values per row.
pub(crate) fn rows(head: &str, columns: usize, tail: &str) -> [Arc<str>; WIDTHS.len()] {
    let row = format!("({})", vec!["?"; columns].join(","));
    WIDTHS.map(|width| {
        Arc::from(format!(
            "{head}{}{tail}",
            vec![row.as_str(); width].join(",")
        ))
    })
}

/// `select columns from table`, named `t`, where `key` is one of the values: without the scratch table
/// that a list after `in` needs.
pub(crate) fn find(columns: &str, table: &str, key: &str, tail: &str) -> [Arc<str>; WIDTHS.len()] {
    rows(
        &format!("select {columns} from (values "),
        1,
        &format!(") as v cross join {table} as t on t.{key} = v.column1{tail}"),
    )
}

/// `head ?, ?, … tail`: a list of single values.
pub(crate) fn list(head: &str, tail: &str) -> [Arc<str>; WIDTHS.len()] {
    WIDTHS.map(|width| Arc::from(format!("{head}{}{tail}", vec!["?"; width].join(","))))
}

/// `insert into table (columns) select * from (values …) where column1 is not null`.
pub(crate) fn insert(table: &str, columns: &str, tail: &str) -> [Arc<str>; WIDTHS.len()] {
    rows(
        &format!("insert into {table} ({columns}) select * from (values "),
        columns.split(',').count(),
        &format!(") where column1 is not null{tail}"),
    )
}

/// Values to bind, in order.
#[derive(Default)]
pub(crate) struct Args(SqliteArguments);

impl Args {
    pub(crate) fn int(&mut self, value: i64) {
        self.add(value);
    }

    pub(crate) fn count(&mut self, value: u64) {
        self.add(value.cast_signed());
    }

    pub(crate) fn maybe_int(&mut self, value: Option<i64>) {
        self.add(value);
    }

    pub(crate) fn blob(&mut self, value: &[u8]) {
        self.add(value);
    }

    pub(crate) fn maybe_blob(&mut self, value: Option<&[u8]>) {
        self.add(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.add(value);
    }

    pub(crate) fn maybe_text(&mut self, value: Option<&str>) {
        self.add(value);
    }

    pub(crate) fn nulls(&mut self, count: usize) {
        for _ in 0..count {
            self.add(None::<i64>);
        }
    }

    pub(crate) fn into_inner(self) -> SqliteArguments {
        self.0
    }

    fn add<'t, T: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(&mut self, value: T) {
        // Numbers, text and bytes always encode.
        let _encoded = self.0.add(value);
    }
}

/// Ids to bind, with nulls up to the width.
pub(crate) fn id_args(ids: &[RunId], width: usize) -> Args {
    let mut args = Args::default();
    for id in ids {
        args.blob(id.as_bytes());
    }
    args.nulls(WIDTHS[width] - ids.len());
    args
}
