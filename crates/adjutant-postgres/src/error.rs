//! What PostgreSQL's and the connection's errors mean to the contracts. All of the mapping is here.

use std::{error, fmt, io};

use adjutant_core::Error;
use adjutant_engine::{Failure, again};
use sqlx::postgres::PgDatabaseError;

/// SQLSTATEs, see <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
mod code {
    pub const SERIALIZATION_FAILURE: &str = "40001";
    pub const DEADLOCK_DETECTED: &str = "40P01";
    pub const LOCK_NOT_AVAILABLE: &str = "55P03";
    pub const UNIQUE_VIOLATION: &str = "23505";
    pub const QUERY_CANCELED: &str = "57014";
    pub const READ_ONLY: &str = "25006";
    pub const IDLE_IN_TRANSACTION: &str = "25P03";
    pub const DISK_FULL: &str = "53100";
    pub const OUT_OF_MEMORY: &str = "53200";
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    pub const LIMIT_EXCEEDED: &str = "53400";
    pub const INVALID_PASSWORD: &str = "28P01";
    pub const INVALID_AUTHORIZATION: &str = "28000";
    pub const NO_DATABASE: &str = "3D000";
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    pub const NO_SCHEMA: &str = "3F000";
    pub const NO_TABLE: &str = "42P01";
    pub const NO_COLUMN: &str = "42703";
    pub const NO_STATEMENT: &str = "26000";
    pub const SAME_STATEMENT: &str = "42P05";
    pub const DATA_CORRUPTED: &str = "XX001";
    pub const INDEX_CORRUPTED: &str = "XX002";
}

/// An error with what follows from it for the connection and the transaction.
#[derive(Debug)]
pub(crate) struct Told {
    pub error: Error,
    /// Another node was in the way.
    pub conflict: bool,
    /// The connection is of no more use.
    pub lost: bool,
}

impl Told {
    /// An error that says nothing about the connection.
    pub(crate) fn broken(error: Error) -> Self {
        Self {
            error,
            conflict: false,
            lost: false,
        }
    }

    pub(crate) fn failure(&self) -> Failure {
        let error = again(&self.error);
        match self.conflict {
            true => Failure::Conflict(error),
            false => Failure::Broken(error),
        }
    }
}

/// What happened and what to do about it, before the driver's own words.
#[derive(Debug)]
struct Advice {
    advice: String,
    source: sqlx::Error,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { advice, source } = self;
        match source {
            sqlx::Error::Database(error) => {
                write!(f, "{} ({})", error.message(), code_of(source))?;
            }
            sqlx::Error::Io(error) => write!(f, "{error}")?,
            other => write!(f, "{other}")?,
        }
        if !advice.is_empty() {
            write!(f, ": {advice}")?;
        }
        Ok(())
    }
}

impl error::Error for Advice {}

fn code_of(error: &sqlx::Error) -> &str {
    database(error).map_or("", PgDatabaseError::code)
}

fn database(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// Turns an error of the driver into one of the contracts'.
pub(crate) fn from_sqlx(error: sqlx::Error, action: &'static str, location: &str) -> Told {
    let lost = is_lost(&error);
    let location = || location.to_owned();
    let mut conflict = false;
    let error = match code_of(&error) {
        code::DISK_FULL => Error::StorageFull {
            location: location(),
        },
        code::READ_ONLY => Error::ReadOnly {
            location: location(),
        },
        code::DATA_CORRUPTED | code::INDEX_CORRUPTED => Error::Corrupt {
            location: location(),
            problem: error.to_string(),
        },
        code => {
            conflict = is_conflict(&error);
            let (transient, advice) = advise(&error, code, &location());
            Error::Backend {
                action,
                transient: transient || conflict || lost,
                source: Box::new(Advice {
                    advice,
                    source: error,
                }),
            }
        }
    };
    Told {
        error,
        conflict,
        lost,
    }
}

/// A call that has taken longer than any answer may take.
pub(crate) fn timed_out(action: &'static str, location: &str) -> Told {
    let error = io::Error::new(io::ErrorKind::TimedOut, "no answer");
    from_sqlx(sqlx::Error::Io(error), action, location)
}

/// A stored value that cannot be what was written.
pub(crate) fn corrupt(location: &str, problem: impl fmt::Display) -> Error {
    Error::Corrupt {
        location: location.to_owned(),
        problem: problem.to_string(),
    }
}

/// Something about the server or the database that has to be changed there.
pub(crate) fn unfit(action: &'static str, problem: String) -> Error {
    Error::Backend {
        action,
        transient: false,
        source: problem.into(),
    }
}

/// The connection was lost on the way of a commit, and what became of that could not be found out.
pub(crate) fn unknown_outcome(error: Error) -> Error {
    match error {
        Error::Backend { source, .. } => Error::Backend {
            action: "learn whether a write has happened",
            transient: true,
            source,
        },
        other => other,
    }
}

fn is_conflict(error: &sqlx::Error) -> bool {
    // A key that is there already: another node was faster with the same run, or nobody had looked.
    matches!(
        code_of(error),
        code::SERIALIZATION_FAILURE
            | code::DEADLOCK_DETECTED
            | code::LOCK_NOT_AVAILABLE
            | code::UNIQUE_VIOLATION
    )
}

fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(_) => {
            let code = code_of(error);
            // Connection exceptions, the server ending the session, and a session that is not ours alone.
            code.starts_with("08")
                || code.starts_with("57P")
                || matches!(
                    code,
                    code::IDLE_IN_TRANSACTION | code::NO_STATEMENT | code::SAME_STATEMENT
                )
        }
        _ => false,
    }
}

/// Whether the same call may succeed later, and what an operator can do.
fn advise(error: &sqlx::Error, code: &str, location: &str) -> (bool, String) {
    let say = |transient, advice: &str| (transient, advice.to_owned());
    match (error, code) {
        (sqlx::Error::Io(_), _) => (
            true,
            format!(
                "the server at {location} cannot be reached; check that it runs, and host and port"
            ),
        ),
        (sqlx::Error::Protocol(_), _) => (
            true,
            format!(
                "what answers at {location} went away or is no PostgreSQL server; check host and port"
            ),
        ),
        (sqlx::Error::Tls(_), _) => say(
            false,
            "the server and `sslmode` do not agree about TLS; check `ssl` at the server, its certificate, and \
             `sslmode` and `sslrootcert` here",
        ),
        (_, code::QUERY_CANCELED) => say(
            true,
            "it took longer than `statement_timeout`, or somebody cancelled it",
        ),
        (_, code::LOCK_NOT_AVAILABLE) => say(
            true,
            "somebody held a lock for longer than `lock_timeout`; look in `pg_stat_activity` for who it is",
        ),
        (_, code::OUT_OF_MEMORY) => say(true, "the server has no memory left"),
        (_, code::TOO_MANY_CONNECTIONS) => say(
            true,
            "raise `max_connections` at the server, or let each node have fewer `readers`",
        ),
        (_, code::LIMIT_EXCEEDED) => say(false, "raise the limit at the server"),
        (_, code::INVALID_PASSWORD) => say(
            false,
            "check user and password in the URL, `PGPASSWORD` or `~/.pgpass`",
        ),
        (_, code::INVALID_AUTHORIZATION) => {
            say(false, "check the user, and `pg_hba.conf` at the server")
        }
        (_, code::NO_DATABASE) => say(false, "make the database first, with `createdb`"),
        (_, code::INSUFFICIENT_PRIVILEGE) => say(
            false,
            "the user may not do that; let the tables' owner open the store once, or grant `create` on the database \
             and all rights on the schema and its tables",
        ),
        (_, code::NO_STATEMENT | code::SAME_STATEMENT) => say(
            true,
            "something between here and the server shares its sessions; a pooler must pool by session",
        ),
        (_, code::NO_SCHEMA | code::NO_TABLE | code::NO_COLUMN) => say(
            false,
            "the tables are not as this program made them; were they dropped or changed?",
        ),
        _ => say(false, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adjutant_core::RetryAdvice;

    #[test]
    fn a_server_that_cannot_be_reached_is_worth_another_try() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let told = from_sqlx(sqlx::Error::Io(refused), "connect", "here");
        assert!(told.lost && !told.conflict);
        assert_ne!(told.error.retry(), RetryAdvice::Never);
    }

    #[test]
    fn a_mismatch_about_tls_is_for_people() {
        let told = from_sqlx(sqlx::Error::Tls("no".into()), "connect", "here");
        assert_eq!(told.error.retry(), RetryAdvice::Never);
        let Error::Backend { source, .. } = told.error else {
            return;
        };
        assert!(source.to_string().contains("sslmode"), "{source}");
    }
}
