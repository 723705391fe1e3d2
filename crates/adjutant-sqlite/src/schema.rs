//! The tables and how they come to be.

use std::path::Path;

use adjutant_core::{Error, Result};
use sqlx::{
    Connection, SqlSafeStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::error::from_sqlx;

/// The newest version that this program knows. One more per file in `schema/`.
pub(crate) const VERSION: i64 = 2;

fn migrator() -> Migrator {
    let migration = |version, name: &'static str, text: &'static str| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            text.into_sql_str(),
            false,
        )
    };
    Migrator::with_migrations(vec![
        migration(1, "init", include_str!("../schema/0001_init.sql")),
        migration(2, "ledger", include_str!("../schema/0002_ledger.sql")),
    ])
}

/// Brings the file to [`VERSION`]. Several processes may do so at once: the first one that gets the
/// write lock does it, the others find it done.
pub(crate) async fn migrate(conn: &mut SqliteConnection, path: &Path) -> Result<()> {
    let action = "prepare the schema";
    if version(conn, path).await? == Some(VERSION) {
        return Ok(());
    }
    let begun = conn.begin_with("begin immediate").await;
    let mut tx = begun.map_err(|error| from_sqlx(error, action, path))?;
    if version(&mut tx, path).await? != Some(VERSION) {
        // `run` would make this future bound to one thread: its connection is not general enough for `Send`.
        let done = migrator().run_direct(None, &mut *tx, false).await;
        done.map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error)
            | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => {
                from_sqlx(error, action, path)
            }
            other => Error::Backend {
                action,
                transient: false,
                source: Box::new(other),
            },
        })?;
    }
    let done = tx.commit().await;
    done.map_err(|error| from_sqlx(error, action, path))
}

/// The file's version; `None` for a file without tables.
///
/// # Errors
/// `SchemaTooNew`, or what keeps it from being read.
pub(crate) async fn version(conn: &mut SqliteConnection, path: &Path) -> Result<Option<i64>> {
    let failed = |error| from_sqlx(error, "read the schema's version", path);
    let tables: i64 =
        sqlx::query_scalar("select count(*) from sqlite_schema where name = '_sqlx_migrations'")
            .fetch_one(&mut *conn)
            .await
            .map_err(failed)?;
    if tables == 0 {
        return Ok(None);
    }
    let found: Option<i64> = sqlx::query_scalar("select max(version) from _sqlx_migrations")
        .fetch_one(conn)
        .await
        .map_err(failed)?;
    match found {
        Some(found) if found > VERSION => Err(Error::SchemaTooNew {
            found,
            known: VERSION,
        }),
        found => Ok(found),
    }
}
