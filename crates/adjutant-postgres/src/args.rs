//! Values on their way to the server. Ids are UUIDs; many rows travel as one array per column.
//!
//! They travel as binary values of one statement, or as literals in a text with several statements, which saves
//! calls.

use std::fmt::Write;

use adjutant_core::RunId;
use sqlx::{Arguments, Encode, Postgres, Type, postgres::PgArguments, types::Uuid};

/// Takes values in, in order.
pub(crate) trait Values {
    fn int(&mut self, value: i64);
    fn ints(&mut self, values: impl Iterator<Item = i64>);
    fn maybe_ints(&mut self, values: impl Iterator<Item = Option<i64>>);
    fn ids<'v>(&mut self, values: impl Iterator<Item = &'v [u8; 16]>);
    fn maybe_ids<'v>(&mut self, values: impl Iterator<Item = Option<&'v [u8; 16]>>);
    fn texts<'v>(&mut self, values: impl Iterator<Item = &'v str>);
    fn maybe_texts<'v>(&mut self, values: impl Iterator<Item = Option<&'v str>>);
}

/// Values to bind.
#[derive(Default)]
pub(crate) struct Args(PgArguments);

impl Args {
    pub(crate) fn add<'t, T: Encode<'t, Postgres> + Type<Postgres>>(&mut self, value: T) {
        // Numbers, text, ids and arrays of them encode as long as they fit into a message; one that does not
        // is missing, and the server says so.
        let _encoded = self.0.add(value);
    }

    pub(crate) fn with<'t, T: Encode<'t, Postgres> + Type<Postgres>>(mut self, value: T) -> Self {
        self.add(value);
        self
    }

    pub(crate) fn run(run: RunId) -> Self {
        Self::default().with(uuid(run.as_bytes()))
    }

    pub(crate) fn runs(runs: &[RunId]) -> Self {
        Self::default().with(uuids(runs))
    }

    pub(crate) fn done(self) -> PgArguments {
        self.0
    }
}

impl Values for Args {
    fn int(&mut self, value: i64) {
        self.add(value);
    }

    fn ints(&mut self, values: impl Iterator<Item = i64>) {
        self.add(values.collect::<Vec<_>>());
    }

    fn maybe_ints(&mut self, values: impl Iterator<Item = Option<i64>>) {
        self.add(values.collect::<Vec<_>>());
    }

    fn ids<'v>(&mut self, values: impl Iterator<Item = &'v [u8; 16]>) {
        self.add(values.map(uuid).collect::<Vec<_>>());
    }

    fn maybe_ids<'v>(&mut self, values: impl Iterator<Item = Option<&'v [u8; 16]>>) {
        self.add(values.map(|id| id.map(uuid)).collect::<Vec<_>>());
    }

    fn texts<'v>(&mut self, values: impl Iterator<Item = &'v str>) {
        self.add(values.collect::<Vec<_>>());
    }

    fn maybe_texts<'v>(&mut self, values: impl Iterator<Item = Option<&'v str>>) {
        self.add(values.collect::<Vec<_>>());
    }
}

/// Values as a list of literals: `'{1,2}','{"a",NULL}',7`.
#[derive(Default)]
pub(crate) struct Literals(String);

impl Literals {
    pub(crate) fn text(&mut self, value: &str) {
        self.next();
        self.0.push('\'');
        self.quoted(value);
        self.0.push('\'');
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn next(&mut self) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
    }

    /// An array whose elements are written by `write`; `None` is null.
    fn array<T>(&mut self, values: impl Iterator<Item = Option<T>>, write: impl Fn(&mut Self, T)) {
        self.next();
        self.0.push_str("'{");
        for (n, value) in values.enumerate() {
            if n > 0 {
                self.0.push(',');
            }
            match value {
                Some(value) => write(self, value),
                None => self.0.push_str("NULL"),
            }
        }
        self.0.push_str("}'");
    }

    /// Text between the quotes of a literal.
    fn quoted(&mut self, text: &str) {
        let mut parts = text.split('\'');
        self.0.push_str(parts.next().unwrap_or_default());
        for part in parts {
            self.0.push_str("''");
            self.0.push_str(part);
        }
    }

    /// An element of an array of texts, within a literal.
    fn element(&mut self, text: &str) {
        self.0.push('"');
        let mut rest = text;
        while let Some(at) = rest.find(['"', '\\', '\'']) {
            let (plain, special) = rest.split_at(at);
            self.0.push_str(plain);
            self.0.push_str(match special.as_bytes().first() {
                Some(b'"') => "\\\"",
                Some(b'\\') => "\\\\",
                _ => "''",
            });
            rest = special.get(1..).unwrap_or_default();
        }
        self.0.push_str(rest);
        self.0.push('"');
    }
}

impl Values for Literals {
    fn int(&mut self, value: i64) {
        self.next();
        // Writing to a string cannot fail, here and below.
        let _written = write!(self.0, "{value}");
    }

    fn ints(&mut self, values: impl Iterator<Item = i64>) {
        self.maybe_ints(values.map(Some));
    }

    fn maybe_ints(&mut self, values: impl Iterator<Item = Option<i64>>) {
        self.array(values, |to, value| {
            let _written = write!(to.0, "{value}");
        });
    }

    fn ids<'v>(&mut self, values: impl Iterator<Item = &'v [u8; 16]>) {
        self.maybe_ids(values.map(Some));
    }

    fn maybe_ids<'v>(&mut self, values: impl Iterator<Item = Option<&'v [u8; 16]>>) {
        self.array(values, |to, id| {
            let mut digits = [0; 32];
            to.0.push_str(uuid(id).simple().encode_lower(&mut digits));
        });
    }

    fn texts<'v>(&mut self, values: impl Iterator<Item = &'v str>) {
        self.maybe_texts(values.map(Some));
    }

    fn maybe_texts<'v>(&mut self, values: impl Iterator<Item = Option<&'v str>>) {
        self.array(values, Self::element);
    }
}

pub(crate) fn uuid(bytes: &[u8; 16]) -> Uuid {
    Uuid::from_bytes(*bytes)
}

pub(crate) fn uuids(runs: &[RunId]) -> Vec<Uuid> {
    runs.iter().map(|run| uuid(run.as_bytes())).collect()
}

/// A bound on rows.
pub(crate) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A number as it is stored.
pub(crate) fn int(number: u64) -> i64 {
    number.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_quote_what_would_end_them() {
        let mut literals = Literals::default();
        literals.text("it's");
        literals.int(-7);
        literals.maybe_ints([Some(1), None].into_iter());
        literals.texts(["a\"b", "c\\d", "e'f", "", "NULL", "ä,}"].into_iter());
        literals.ids([&[0xab; 16]].into_iter());
        let wanted = r#"'it''s',-7,'{1,NULL}','{"a\"b","c\\d","e''f","","NULL","ä,}"}','{abababababababababababababababab}'"#;
        assert_eq!(literals.as_str(), wanted);
    }
}
