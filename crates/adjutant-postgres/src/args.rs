//! Values to bind. Ids are UUIDs; many rows travel as one array per column.

use adjutant_core::RunId;
use sqlx::{Arguments, Encode, Postgres, Type, postgres::PgArguments, types::Uuid};

/// Values to bind, in order.
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
