//! The tables and how they come to be, and what the server must be like.

use adjutant_core::{Error, Result};
use sqlx::postgres::PgRow;

use crate::{
    config::PostgresConfig,
    db::Db,
    error::{Told, unfit},
    record,
};

/// The newest version that this program knows: one per file in `schema/`.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

const MIGRATIONS: [&str; 2] = [
    include_str!("../schema/0001_init.sql"),
    include_str!("../schema/0002_ledger.sql"),
];

/// The oldest server that is supported, as `server_version_num` tells it.
const OLDEST_SERVER: i64 = 130_000;

const ACTION: &str = "open the store";

/// What matters of the server's settings.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// As `server_version_num`.
    version: i64,
    encoding: String,
    /// A replica, or told to take no writes.
    read_only: bool,
    /// Settings that decide what an acknowledged write survives.
    pub fsync: bool,
    pub full_page_writes: bool,
    pub synchronous_commit: String,
}

impl Server {
    pub(crate) async fn ask(db: &mut Db) -> Result<Self, Told> {
        let rows = db
            .text(
                "select current_setting('server_version_num')::bigint, \
                 current_setting('server_encoding'), \
                 case when pg_is_in_recovery() or current_setting('transaction_read_only') = 'on' \
                 then 1 else 0 end, \
                 current_setting('fsync'), current_setting('full_page_writes'), \
                 current_setting('synchronous_commit')",
            )
            .await?;
        let location = &db.location;
        let read = |row: &PgRow| -> Result<Self> {
            let on = |column| Ok(record::get::<&str>(row, column, location)? == "on");
            Ok(Self {
                version: record::get(row, 0, location)?,
                encoding: record::get(row, 1, location)?,
                read_only: record::get::<i64>(row, 2, location)? != 0,
                fsync: on(3)?,
                full_page_writes: on(4)?,
                synchronous_commit: record::get(row, 5, location)?,
            })
        };
        let row = rows.first().ok_or(Error::Closed).map_err(Told::broken)?;
        read(row).map_err(Told::broken)
    }

    /// Refuses a server that cannot hold a store.
    ///
    /// # Errors
    /// `ReadOnly`, or `Backend` saying what is needed.
    pub(crate) fn validate(&self, location: &str) -> Result<()> {
        if self.version < OLDEST_SERVER {
            let (found, wanted) = (self.version / 10_000, OLDEST_SERVER / 10_000);
            let problem = format!("the server is PostgreSQL {found}; {wanted} or newer is needed");
            return Err(unfit(ACTION, problem));
        }
        if self.encoding != "UTF8" {
            let problem = format!(
                "the database's encoding is {}; make one with `createdb --encoding=UTF8 --template=template0`",
                self.encoding
            );
            return Err(unfit(ACTION, problem));
        }
        if self.read_only {
            let location = location.to_owned();
            return Err(Error::ReadOnly { location });
        }
        Ok(())
    }

    /// What an acknowledged write survives.
    pub(crate) fn durability(&self) -> String {
        let weak = self.weaknesses();
        match (&*self.synchronous_commit, weak.is_empty()) {
            (_, false) => format!(
                "a crash of this process; the server has {}",
                weak.join(", ")
            ),
            ("remote_apply" | "on" | "remote_write", true) => {
                "a loss of power of the server, and of its synchronous replicas if it has some"
                    .to_owned()
            }
            (_, true) => "a loss of power of the server".to_owned(),
        }
    }

    /// Settings with which acknowledged writes can be lost.
    pub(crate) fn weaknesses(&self) -> Vec<String> {
        let mut weak = Vec::new();
        if !self.fsync {
            weak.push("fsync = off".to_owned());
        }
        if !self.full_page_writes {
            weak.push("full_page_writes = off".to_owned());
        }
        if self.synchronous_commit == "off" {
            weak.push("synchronous_commit = off".to_owned());
        }
        weak
    }
}

/// Brings the schema to [`VERSION`]. Nodes that start at once wait for the first one and find it done.
pub(crate) async fn migrate(db: &mut Db, config: &PostgresConfig) -> Result<()> {
    let tell = |told: Told| told.error;
    if version(db, config).await? == Some(VERSION) {
        return Ok(());
    }
    let schema = &config.schema;
    let begin = format!(
        "begin; select pg_advisory_xact_lock(hashtextextended('adjutant:schema:{schema}', 0))"
    );
    db.text(begin).await.map_err(tell)?;
    let done = upgrade(db, config).await;
    let end = if done.is_ok() { "commit" } else { "rollback" };
    let ended = db.text(end).await.map_err(tell);
    done.and(ended.map(|_| ()))
}

async fn upgrade(db: &mut Db, config: &PostgresConfig) -> Result<()> {
    let tell = |told: Told| told.error;
    let schema = &config.schema;
    let found = version(db, config).await?;
    if found.is_none() {
        // Whether it may be made is asked even if it is there, so look first.
        let there = format!("select 1 from pg_namespace where nspname = '{schema}'");
        if db.text(there).await.map_err(tell)?.is_empty() {
            let make = format!("create schema \"{schema}\"");
            db.text(make).await.map_err(tell)?;
        }
        let versions = "create table schema_versions (\
             version bigint not null primary key, applied_at timestamptz not null default now())";
        db.text(versions).await.map_err(tell)?;
    }
    for (number, migration) in (1..).zip(MIGRATIONS) {
        if found.is_none_or(|found| found < number) {
            let note = format!("insert into schema_versions (version) values ({number})");
            db.text(format!("{migration}; {note}"))
                .await
                .map_err(tell)?;
        }
    }
    Ok(())
}

/// The schema's version; `None` for one without tables.
///
/// # Errors
/// `SchemaTooNew`, or what keeps it from being read.
async fn version(db: &mut Db, config: &PostgresConfig) -> Result<Option<i64>> {
    let schema = &config.schema;
    let there = format!(
        "select 1 from pg_class as c join pg_namespace as n on n.oid = c.relnamespace \
         where n.nspname = '{schema}' and c.relname = 'schema_versions'"
    );
    if db.text(there).await.map_err(|told| told.error)?.is_empty() {
        return Ok(None);
    }
    // By its full name: one that may not be looked into is passed over by the search path.
    let newest = format!("select max(version) from \"{schema}\".schema_versions");
    let rows = db.text(newest).await.map_err(|told| told.error)?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    match record::get::<Option<i64>>(row, 0, &db.location)? {
        Some(found) if found > VERSION => Err(Error::SchemaTooNew {
            found,
            known: VERSION,
        }),
        found => Ok(found),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    fn server() -> Server {
        Server {
            version: OLDEST_SERVER,
            encoding: "UTF8".to_owned(),
            read_only: false,
            fsync: true,
            full_page_writes: true,
            synchronous_commit: "on".to_owned(),
        }
    }

    #[test]
    fn a_server_that_does_not_do_is_told_why() {
        assert!(server().validate("x").is_ok());
        let old = Server {
            version: 120_022,
            ..server()
        };
        let Error::Backend { source, .. } = old.validate("x").unwrap_err() else {
            unreachable_in_tests()
        };
        assert!(source.to_string().contains("PostgreSQL 12; 13 or newer"));
        let replica = Server {
            read_only: true,
            ..server()
        };
        assert!(matches!(replica.validate("x"), Err(Error::ReadOnly { .. })));
        let latin = Server {
            encoding: "LATIN1".to_owned(),
            ..server()
        };
        assert!(latin.validate("x").is_err());
    }

    fn unreachable_in_tests() -> ! {
        std::process::abort()
    }

    #[test]
    fn durability_is_what_the_settings_give() {
        assert!(server().durability().contains("loss of power"));
        let fast = Server {
            fsync: false,
            ..server()
        };
        assert!(fast.durability().contains("fsync = off"));
    }
}
