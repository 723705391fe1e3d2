//! From a URL to a configuration.

use std::{num::NonZeroU32, time::Duration};

use adjutant_core::Result;

use crate::config::{RedisConfig, Topology, invalid};

/// Parameters that every form of URL takes.
const KNOWN: &str = "prefix, shards, events_kept, checkpoints_kept, connect_timeout, \
    response_timeout, and on a unix socket db, user, pass";

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Standalone,
    Unix,
    Cluster,
    Sentinel,
}

impl RedisConfig {
    /// Reads one of
    ///
    /// - `redis://user:password@host:port/database`
    /// - `redis+unix:///path/to/socket?db=0&user=…&pass=…`, also as `unix:///path/to/socket`
    /// - `redis-cluster://user:password@host:port,host:port`
    /// - `redis-sentinel://user:password@host:port,host:port/primary/database`
    ///
    /// each with `rediss` in place of `redis` for TLS, and with parameters behind a `?`: `prefix=adjutant`,
    /// `events_kept=1000`, `checkpoints_kept=10`, `connect_timeout=5s`, `response_timeout=500ms`. Reserved characters
    /// of a password are written as `%40`.
    ///
    /// # Errors
    /// `Invalid`, naming the parameter that is unknown or wrong.
    pub fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
        let (form, tls) = form(scheme).ok_or_else(|| {
            invalid("must begin with `redis://`, `rediss://`, `redis+unix://`, `redis-cluster://` or `redis-sentinel://`")
        })?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (topology, user, database) = match form {
            Form::Unix => (
                Topology::Unix {
                    path: decoded(place)?.into(),
                },
                None,
                None,
            ),
            _ => network(form, place)?,
        };
        if matches!(&topology, Topology::Unix { path } if path.as_os_str().is_empty()) {
            return Err(invalid("a unix socket needs a path"));
        }
        let mut config = Self {
            tls,
            ..Self::at(topology)
        };
        if let Some(user) = user {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            config.username = Some(decoded(name)?).filter(|name| !name.is_empty());
            config.password = Some(decoded(password)?).filter(|password| !password.is_empty());
        }
        if let Some(database) = database {
            config.set("db", database)?;
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if matches!(name, "db" | "user" | "pass") && form != Form::Unix {
                return Err(unknown(name));
            }
            config.set(name, &decoded(value)?)?;
        }
        config.validate()?;
        Ok(config)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let wrong = |wanted: &str| invalid(format!("`{name}` must be {wanted}, not `{value}`"));
        let time = || duration(value).ok_or_else(|| wrong("a time such as `500ms` or `5s`"));
        let count = || {
            value
                .parse::<NonZeroU32>()
                .map_err(|_| wrong("a number above 0"))
        };
        match name {
            "prefix" => self.prefix = value.to_owned(),
            "shards" if count()?.get() == 1 => {}
            "shards" => {
                return Err(invalid(
                    "`shards` above 1 is not supported: one store is on one node; give each store its own `prefix` \
                     to spread several over a cluster",
                ));
            }
            "events_kept" => self.events_kept = Some(count()?),
            "checkpoints_kept" => {
                self.checkpoints_kept = usize::try_from(count()?.get()).unwrap_or(usize::MAX);
            }
            "connect_timeout" => self.connect_timeout = time()?,
            "response_timeout" => self.response_timeout = time()?,
            "db" => {
                self.database = value
                    .parse()
                    .map_err(|_| wrong("the number of a database"))?;
            }
            "user" => self.username = Some(value.to_owned()),
            "pass" => self.password = Some(value.to_owned()),
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

fn unknown(name: &str) -> adjutant_core::Error {
    invalid(format!("unknown parameter `{name}`; known are {KNOWN}"))
}

fn form(scheme: &str) -> Option<(Form, bool)> {
    let (plain, tls) = match scheme.strip_prefix("rediss") {
        Some(rest) => (rest, true),
        None => (scheme.strip_prefix("redis").unwrap_or(scheme), false),
    };
    Some(match plain {
        "" if !scheme.is_empty() => (Form::Standalone, tls),
        "+unix" | "unix" if !tls => (Form::Unix, false),
        "-cluster" | "+cluster" => (Form::Cluster, tls),
        "-sentinel" | "+sentinel" => (Form::Sentinel, tls),
        _ => return None,
    })
}

type Place<'a> = (Topology, Option<&'a str>, Option<&'a str>);

/// Reads `user:password@host:port,…/path`.
fn network(form: Form, place: &str) -> Result<Place<'_>> {
    let (user, place) = match place.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, place),
    };
    let (nodes, path) = place.split_once('/').unwrap_or((place, ""));
    let port = match form {
        Form::Sentinel => SENTINEL_PORT,
        _ => REDIS_PORT,
    };
    let mut nodes = nodes
        .split(',')
        .map(|node| address(node, port))
        .collect::<Result<Vec<_>>>()?;
    let some = |text| Some(text).filter(|text: &&str| !text.is_empty());
    Ok(match form {
        Form::Cluster => (Topology::Cluster { nodes }, user, some(path)),
        Form::Sentinel => {
            let (primary, database) = path.split_once('/').unwrap_or((path, ""));
            if primary.is_empty() {
                return Err(invalid(
                    "a sentinel URL ends with the primary's name: `redis-sentinel://host/primary`",
                ));
            }
            let primary = decoded(primary)?;
            (Topology::Sentinel { nodes, primary }, user, some(database))
        }
        _ if nodes.len() > 1 => {
            return Err(invalid(
                "several hosts need `redis-cluster://` or `redis-sentinel://`",
            ));
        }
        _ => (
            Topology::Standalone {
                node: nodes.remove(0),
            },
            user,
            some(path),
        ),
    })
}

/// Reads `host`, `host:port`, `[::1]:port`.
fn address(text: &str, port: u16) -> Result<(String, u16)> {
    let (host, given) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err(invalid("the host is missing"));
    }
    let port = match given {
        Some(port) => port
            .parse()
            .map_err(|_| invalid(format!("`{port}` is no port")))?,
        None => port,
    };
    Ok((host.to_owned(), port))
}

/// Reads a number of seconds, or one with a unit.
fn duration(text: &str) -> Option<Duration> {
    let (number, scale) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1)
    } else if let Some(number) = text.strip_suffix("min") {
        (number, 60_000)
    } else {
        (text.strip_suffix('s').unwrap_or(text), 1000)
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(scale).map(Duration::from_millis)
}

/// Replaces `%40` and the like.
fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(
            code.ok_or_else(|| invalid("a `%` that two hex digits do not follow; write `%25`"))?,
        );
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| invalid("is not UTF-8"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use super::*;

    fn location(url: &str) -> String {
        RedisConfig::parse(url).unwrap().location()
    }

    #[test]
    fn every_form_is_read() {
        for (url, wanted) in [
            (
                "redis://localhost",
                "redis://localhost:6379?prefix=adjutant",
            ),
            ("redis://h:1/3?prefix=p", "redis://h:1/3?prefix=p"),
            ("rediss://[::1]:7", "rediss://::1:7?prefix=adjutant"),
            (
                "redis+unix:///tmp/a%20b",
                "redis+unix:///tmp/a b?prefix=adjutant",
            ),
            ("unix:/tmp/s?db=2", "redis+unix:///tmp/s?prefix=adjutant"),
            (
                "redis-cluster://a,b:2",
                "redis-cluster://a:6379,b:2?prefix=adjutant",
            ),
            (
                "rediss-sentinel://a/main/1",
                "rediss-sentinel://a:26379/main/1?prefix=adjutant",
            ),
        ] {
            assert_eq!(location(url), wanted);
        }
    }

    #[test]
    fn secrets_are_read_and_never_shown() {
        let config = RedisConfig::parse("redis://me:p%40ss@h").unwrap();
        assert_eq!(config.username.as_deref(), Some("me"));
        assert_eq!(config.password.as_deref(), Some("p@ss"));
        assert!(!format!("{config:?}").contains("p@ss"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, part) in [
            ("postgres://h", "redis://"),
            ("redis://h?prefx=a", "unknown parameter `prefx`"),
            ("redis://h?prefix=a{b}", "`prefix`"),
            ("redis://h?shards=0", "`shards`"),
            ("redis://h?shards=4", "`shards` above 1"),
            ("redis://h?connect_timeout=soon", "`connect_timeout`"),
            ("redis://h:port", "no port"),
            ("redis://h/one", "`db`"),
            ("redis://a,b", "redis-cluster"),
            ("redis://", "host"),
            ("redis-sentinel://h", "primary"),
            ("redis-cluster://h/1", "database"),
            ("redis+unix://", "path"),
        ] {
            let error = RedisConfig::parse(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }
}
