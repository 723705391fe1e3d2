//! What kind of server it is, and whether it can be relied on.

use adjutant_core::{Error, Result};

use crate::{
    error::{Told, unfit},
    keys::SCHEMA,
    link::Link,
    reply,
    words::Words,
};

/// The oldest version with all commands that are used.
const OLDEST: (u32, u32) = (6, 2);

const ACTION: &str = "open the store";

/// The server's settings, as far as it tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Server {
    version: String,
    /// Whether it keeps a log of writes.
    aof: bool,
    /// `always`, `everysec` or `no`; nothing if it does not tell.
    fsync: Option<String>,
    /// Bytes; 0 for no limit.
    maxmemory: u64,
    /// What happens when memory is full.
    policy: String,
    is_replica: bool,
}

impl Server {
    /// Asks the server.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn ask(link: &Link) -> Result<Self, Told> {
        let answer = link.ask(&[b"INFO"], ACTION).await?;
        let odd = |problem| Told::odd(link.odd(problem));
        let info = reply::bytes(answer).map_err(odd)?;
        let mut server = Self::of(&String::from_utf8_lossy(&info));
        // Services that manage a server do not always let their users ask.
        if let Ok(answer) = link.ask(&[b"CONFIG", b"GET", b"appendfsync"], ACTION).await {
            let values = reply::list(answer).map_err(odd)?;
            let fsync = values.into_iter().nth(1).map(reply::bytes).transpose();
            let fsync = fsync.map_err(odd)?;
            server.fsync = fsync.map(|text| String::from_utf8_lossy(&text).into_owned());
        }
        Ok(server)
    }

    /// Reads what `INFO` answers.
    fn of(info: &str) -> Self {
        let value = |name: &str| {
            let mut lines = info.lines();
            lines
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or("")
        };
        Self {
            version: value("redis_version").to_owned(),
            aof: value("aof_enabled") == "1",
            fsync: None,
            maxmemory: value("maxmemory").parse().unwrap_or(0),
            policy: value("maxmemory_policy").to_owned(),
            is_replica: value("role") == "slave",
        }
    }

    /// Refuses servers that cannot work, or would lose runs without a word.
    ///
    /// # Errors
    /// `Backend` saying what to change.
    pub(crate) fn validate(&self) -> Result<()> {
        if let Some(found) = number(&self.version)
            && found < OLDEST
        {
            let (major, minor) = OLDEST;
            return Err(unfit(format!(
                "the server is Redis {}; it takes {major}.{minor} or newer",
                self.version
            )));
        }
        if self.evicts() {
            return Err(unfit(format!(
                "the server throws runs away when its memory is full: set `maxmemory-policy` to `noeviction`, it is `{}`",
                self.policy
            )));
        }
        Ok(())
    }

    /// Whether it drops keys that do not expire. Of those that do, the store has none that it could not do without.
    fn evicts(&self) -> bool {
        self.maxmemory > 0 && self.policy.starts_with("allkeys")
    }

    /// Settings with which acknowledged writes can be lost, and what can.
    pub(crate) fn weaknesses(&self) -> Vec<String> {
        let mut weak = Vec::new();
        match (self.aof, self.fsync.as_deref()) {
            (false, _) => weak.push(
                "appendonly = no: everything since the last snapshot is lost when the server ends"
                    .to_owned(),
            ),
            (true, Some("everysec")) => weak.push(
                "appendfsync = everysec: the last second or two of writes are lost with the power"
                    .to_owned(),
            ),
            (true, Some("no")) => weak.push(
                "appendfsync = no: the last half minute of writes or so is lost with the power"
                    .to_owned(),
            ),
            (true, _) => {}
        }
        weak
    }

    /// What an acknowledged write survives.
    pub(crate) fn durability(&self) -> String {
        match (self.aof, self.fsync.as_deref()) {
            (false, _) => "a crash of this process, not the end of the server".to_owned(),
            (true, Some("always")) => {
                "a loss of power of the server, not its failover to a replica".to_owned()
            }
            (true, Some("everysec")) => {
                "a crash of the server; a loss of power but for the last second or two".to_owned()
            }
            (true, Some("no")) => {
                "a crash of the server; a loss of power but for the last half minute".to_owned()
            }
            (true, _) => "a crash of the server; it does not tell how often it syncs".to_owned(),
        }
    }
}

fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Looks whether the store can be used as it is, and makes it if there is none.
///
/// # Errors
/// What keeps it from being used, and what to do.
pub(crate) async fn open(link: &Link) -> Result<Server> {
    let server = Server::ask(link).await?;
    server.validate()?;
    if server.is_replica {
        return Err(Error::ReadOnly {
            location: format!(
                "{}, a replica; use the primary's address, or `redis-sentinel://`",
                link.location()
            ),
        });
    }
    let probe = &crate::script::PROBE;
    link.run(probe, &Words::default(), ACTION).await?;
    let key = link.keys().of("schema", "");
    let known = SCHEMA.to_string();
    link.ask(&[b"SET", &key, known.as_bytes(), b"NX"], ACTION)
        .await?;
    let found = link.ask(&[b"GET", &key], ACTION).await?;
    let found = reply::number(&found).map_err(|problem| link.odd(problem))?;
    if found > SCHEMA {
        return Err(Error::SchemaTooNew {
            found,
            known: SCHEMA,
        });
    }
    Ok(server)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    fn server(version: &str) -> Server {
        Server::of(&format!(
            "# Server\r\nredis_version:{version}\r\nrole:master\r\naof_enabled:1\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"
        ))
    }

    #[test]
    fn old_servers_are_refused_and_unknown_versions_are_not() {
        for (version, fits) in [
            ("2.8.19", false),
            ("6.0.16", false),
            ("6.2.0", true),
            ("7.0.15", true),
            ("10.0.1", true),
            ("", true),
            ("valkey", true),
        ] {
            let checked = server(version).validate();
            assert_eq!(checked.is_ok(), fits, "{version}");
            if let Err(error) = checked {
                let text = std::error::Error::source(&error).unwrap().to_string();
                assert!(text.contains(version) && text.contains("6.2"), "{text}");
                assert_eq!(error.retry(), adjutant_core::RetryAdvice::Never);
            }
        }
    }

    #[test]
    fn servers_that_throw_runs_away_are_refused() {
        for (maxmemory, policy, fits) in [
            (0, "allkeys-lru", true),
            (1, "allkeys-lru", false),
            (1, "allkeys-random", false),
            (1, "volatile-ttl", true),
            (1, "noeviction", true),
        ] {
            let server = Server {
                maxmemory,
                policy: policy.to_owned(),
                ..server("7.0.0")
            };
            assert_eq!(server.validate().is_ok(), fits, "{maxmemory} {policy}");
        }
    }

    #[test]
    fn durability_is_what_the_settings_give() {
        let with = |aof, fsync: &str| Server {
            aof,
            fsync: Some(fsync.to_owned()),
            ..server("7.0.0")
        };
        assert!(with(true, "always").weaknesses().is_empty());
        for weak in [
            with(false, "always"),
            with(true, "everysec"),
            with(true, "no"),
        ] {
            assert_eq!(weak.weaknesses().len(), 1);
        }
        assert!(
            with(false, "always")
                .durability()
                .contains("not the end of the server")
        );
    }
}
