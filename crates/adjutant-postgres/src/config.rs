//! How a store is opened.

use std::{borrow::Cow, fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use adjutant_core::{Clock, Error, Limits, Result};
use adjutant_state::DEFAULT_CHECKPOINTS_KEPT;
use sqlx::postgres::PgConnectOptions;

/// Parameters of a URL that are ours.
const OURS: [&str; 7] = [
    "schema",
    "readers",
    "acquire_timeout",
    "connect_timeout",
    "statement_timeout",
    "lock_timeout",
    "checkpoints_kept",
];

/// Parameters of a URL as other PostgreSQL clients know them.
const COMMON: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// The longest name of a schema, so that the channel's name fits too.
const SCHEMA_BYTES: usize = 50;

/// How a store is set up. Its `Debug` shows no password.
#[derive(Clone)]
pub struct PostgresConfig {
    /// Server, database, user, TLS.
    pub connect: PgConnectOptions,
    /// The schema that holds the tables, made when it is missing: letters, digits and `_`, at most 50 bytes.
    /// Stores with different schemas share nothing. Default `adjutant`.
    pub schema: String,
    /// Connections for reading, at most; opened as needed, beside one for writing and one for listening. Default 4.
    pub readers: NonZeroUsize,
    /// How long to wait for a free reading connection. Default 10 s.
    pub acquire_timeout: Duration,
    /// How long a connection may take to come about. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a statement may take before the server ends it. Default 30 s.
    pub statement_timeout: Duration,
    /// How long to wait for a lock that another node holds, before everything is tried again. Default 3 s.
    pub lock_timeout: Duration,
    /// Where the time comes from. Default `None`: from the server, so that all nodes agree.
    pub clock: Option<Arc<dyn Clock>>,
    /// What the store takes at most.
    pub limits: Limits,
    /// Checkpoints kept per run, at least 1. Default [`DEFAULT_CHECKPOINTS_KEPT`].
    pub checkpoints_kept: usize,
}

impl PostgresConfig {
    /// A store at this place, with defaults.
    #[must_use]
    pub fn at(connect: PgConnectOptions) -> Self {
        Self {
            connect,
            schema: "adjutant".to_owned(),
            readers: NonZeroUsize::MIN.saturating_add(3),
            acquire_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(3),
            clock: None,
            limits: Limits::default(),
            checkpoints_kept: DEFAULT_CHECKPOINTS_KEPT,
        }
    }

    /// Reads `postgres://user:password@host:port/database?schema=adjutant&sslmode=require`. Times are seconds, or
    /// have a unit: `500ms`, `30s`, `5min`.
    ///
    /// What the URL leaves out comes from where other clients find it: `PGHOST`, `PGUSER`, `PGPASSWORD`, `~/.pgpass`.
    ///
    /// # Errors
    /// `Invalid`, naming the parameter that is unknown or wrong.
    pub fn parse(url: &str) -> Result<Self> {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("postgres" | "postgresql")) {
            return Err(invalid("must begin with `postgres://` or `postgresql://`"));
        }
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let mut ours = Vec::new();
        let mut common = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if OURS.contains(&name) {
                ours.push((name, value));
            } else if COMMON.contains(&name) || name.starts_with("options[") {
                common.push(pair);
            } else {
                let known = [&OURS[..], &COMMON[..]].concat().join(", ");
                let problem = format!("unknown parameter `{name}`; known are {known}");
                return Err(invalid(problem));
            }
        }
        let connect = format!("{place}?{}", common.join("&"));
        let connect = connect.parse::<PgConnectOptions>();
        let connect = connect.map_err(|error| match error {
            sqlx::Error::Configuration(problem) => invalid(problem.to_string()),
            _ => invalid("is not a URL"),
        })?;
        let mut config = Self::at(connect);
        for (name, value) in ours {
            config.set(name, value)?;
        }
        config.validate()?;
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let wrong = |wanted: &str| invalid(format!("`{name}` must be {wanted}, not `{value}`"));
        let time = || duration(value).ok_or_else(|| wrong("a time such as `500ms` or `30s`"));
        match name {
            "schema" => self.schema = value.to_owned(),
            "readers" => self.readers = value.parse().map_err(|_| wrong("a number above 0"))?,
            "acquire_timeout" => self.acquire_timeout = time()?,
            "connect_timeout" => self.connect_timeout = time()?,
            "statement_timeout" => self.statement_timeout = time()?,
            "lock_timeout" => self.lock_timeout = time()?,
            _ => {
                let kept = value.parse::<NonZeroUsize>();
                self.checkpoints_kept = kept.map_err(|_| wrong("a number above 0"))?.get();
            }
        }
        Ok(())
    }

    /// Checks everything that can be checked without the server.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub(crate) fn validate(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let schema = &self.schema;
        if schema.is_empty() || schema.len() > SCHEMA_BYTES || !schema.chars().all(plain) {
            return Err(Error::Invalid {
                field: "schema",
                problem: format!(
                    "must be 1 to {SCHEMA_BYTES} letters, digits or `_`, not `{schema}`"
                ),
            });
        }
        let times = [
            ("connect_timeout", self.connect_timeout),
            ("acquire_timeout", self.acquire_timeout),
            ("statement_timeout", self.statement_timeout),
            ("lock_timeout", self.lock_timeout),
        ];
        for (field, time) in times {
            if time < Duration::from_millis(1) || time > Duration::from_hours(24) {
                let problem = format!("must lie between 1 ms and 24 h, not {time:?}");
                return Err(Error::Invalid { field, problem });
            }
        }
        Ok(())
    }

    /// Where the store is, without the password.
    pub(crate) fn location(&self) -> String {
        let connect = &self.connect;
        let host: Cow<'_, str> = match connect.get_socket() {
            Some(socket) => socket.to_string_lossy(),
            None => connect.get_host().into(),
        };
        let (user, port) = (connect.get_username(), connect.get_port());
        let database = connect.get_database().unwrap_or(user);
        format!(
            "postgres://{user}@{host}:{port}/{database}?schema={}",
            self.schema
        )
    }

    /// The channel on which nodes tell each other of their writes.
    pub(crate) fn channel(&self) -> String {
        format!("adjutant:{}", self.schema)
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("location", &self.location())
            .field("readers", &self.readers)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("clock", &self.clock)
            .field("limits", &self.limits)
            .field("checkpoints_kept", &self.checkpoints_kept)
            .finish()
    }
}

fn invalid(problem: impl Into<String>) -> Error {
    Error::Invalid {
        field: "url",
        problem: problem.into(),
    }
}

/// `500ms`, `30s`, `5min`, or seconds without a unit.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "min" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    fn problem(url: &str) -> String {
        PostgresConfig::parse(url).unwrap_err().to_string()
    }

    #[test]
    fn our_parameters_and_the_common_ones_are_taken() {
        let url = "postgresql://me:secret@db.example:5433/jobs?sslmode=disable&schema=s1&readers=7\
                   &statement_timeout=500ms&lock_timeout=2&connect_timeout=1min&application_name=x";
        let config = PostgresConfig::parse(url).unwrap();
        assert_eq!(config.schema, "s1");
        assert_eq!(config.readers.get(), 7);
        assert_eq!(config.statement_timeout, Duration::from_millis(500));
        assert_eq!(config.lock_timeout, Duration::from_secs(2));
        assert_eq!(config.connect_timeout, Duration::from_secs(60));
        assert_eq!(config.connect.get_application_name(), Some("x"));
        assert_eq!(
            config.location(),
            "postgres://me@db.example:5433/jobs?schema=s1"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(problem("postgres://h/d?shcema=x").contains("`shcema`"));
        assert!(problem("postgres://h/d?readers=0").contains("`readers`"));
        assert!(problem("postgres://h/d?lock_timeout=soon").contains("`lock_timeout`"));
        assert!(problem("postgres://h/d?schema=a-b").contains("`a-b`"));
        assert!(problem("mysql://h/d").contains("postgres://"));
    }

    #[test]
    fn no_password_is_shown() {
        let config = PostgresConfig::parse("postgres://me:secret@h/d").unwrap();
        assert!(!format!("{config:?}").contains("secret"));
        let problem = problem("postgres://me:secret@h:port/d");
        assert!(!problem.contains("secret"), "{problem}");
    }
}
