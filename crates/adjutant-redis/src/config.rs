//! How a store is opened.

use std::{fmt, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use adjutant_core::{Clock, Error, Limits, Result};
use adjutant_state::DEFAULT_CHECKPOINTS_KEPT;

/// The longest prefix of keys.
const PREFIX_BYTES: usize = 100;

/// Where the server or servers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server, or a proxy that looks like one.
    Standalone {
        /// Host and port.
        node: (String, u16),
    },
    /// One server on this machine.
    Unix {
        /// Its socket.
        path: PathBuf,
    },
    /// Redis Cluster. All keys of a store are on one of its nodes.
    Cluster {
        /// Hosts and ports of some nodes, from which the others are found.
        nodes: Vec<(String, u16)>,
    },
    /// A primary that sentinels name.
    Sentinel {
        /// Hosts and ports of the sentinels.
        nodes: Vec<(String, u16)>,
        /// The name of the primary.
        primary: String,
    },
}

/// How a store is set up. Its `Debug` shows no password.
#[derive(Clone)]
pub struct RedisConfig {
    /// Where the server or servers are.
    pub topology: Topology,
    /// Whether to speak TLS with them.
    pub tls: bool,
    /// Who we are; `None` for the server's default user.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// The database's number. Default 0; a cluster has no other.
    pub database: i64,
    /// What all keys begin with: letters, digits, `_`, `-`, `.`, at most 100 bytes. Stores with different prefixes
    /// share nothing. Default `adjutant`.
    pub prefix: String,
    /// The latest events kept per run; older ones go as new ones come. Default `None`: all.
    pub events_kept: Option<NonZeroU32>,
    /// Checkpoints kept per run, at least 1. Default [`DEFAULT_CHECKPOINTS_KEPT`].
    pub checkpoints_kept: usize,
    /// How long a connection may take to come about. Default 5 s.
    pub connect_timeout: Duration,
    /// How long an answer may take. Default 10 s.
    pub response_timeout: Duration,
    /// Where the time comes from. Default `None`: from the server, so that all nodes agree.
    pub clock: Option<Arc<dyn Clock>>,
    /// What the store takes at most.
    pub limits: Limits,
}

impl RedisConfig {
    /// A store at this place, with defaults.
    #[must_use]
    pub fn at(topology: Topology) -> Self {
        Self {
            topology,
            tls: false,
            username: None,
            password: None,
            database: 0,
            prefix: "adjutant".to_owned(),
            events_kept: None,
            checkpoints_kept: DEFAULT_CHECKPOINTS_KEPT,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(10),
            clock: None,
            limits: Limits::default(),
        }
    }

    /// Checks everything that can be checked without the server.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub(crate) fn validate(&self) -> Result<()> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if self.prefix.is_empty()
            || self.prefix.len() > PREFIX_BYTES
            || !self.prefix.chars().all(fits)
        {
            return Err(invalid(format!(
                "`prefix` must be 1 to {PREFIX_BYTES} letters, digits, `_`, `-` or `.`, not `{}`",
                self.prefix
            )));
        }
        if self.database < 0 {
            return Err(invalid("`database` must not be negative"));
        }
        if self.database != 0 && matches!(self.topology, Topology::Cluster { .. }) {
            return Err(invalid("a cluster has no database but 0"));
        }
        if self.connect_timeout.is_zero() || self.response_timeout.is_zero() {
            return Err(invalid("time-outs must be longer than zero"));
        }
        Ok(())
    }

    /// Where the store is, without secrets.
    pub(crate) fn location(&self) -> String {
        let list = |nodes: &[(String, u16)]| {
            let nodes: Vec<_> = nodes
                .iter()
                .map(|(host, port)| format!("{host}:{port}"))
                .collect();
            nodes.join(",")
        };
        let s = if self.tls { "s" } else { "" };
        let place = match &self.topology {
            Topology::Standalone { node } => {
                format!("redis{s}://{}", list(std::slice::from_ref(node)))
            }
            Topology::Unix { path } => format!("redis+unix://{}", path.display()),
            Topology::Cluster { nodes } => format!("redis{s}-cluster://{}", list(nodes)),
            Topology::Sentinel { nodes, primary } => {
                format!("redis{s}-sentinel://{}/{primary}", list(nodes))
            }
        };
        let database = match (&self.topology, self.database) {
            (Topology::Unix { .. } | Topology::Cluster { .. }, _) | (_, 0) => String::new(),
            (_, database) => format!("/{database}"),
        };
        format!("{place}{database}?prefix={}", self.prefix)
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("location", &self.location())
            .field("username", &self.username)
            .field("events_kept", &self.events_kept)
            .field("checkpoints_kept", &self.checkpoints_kept)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}

pub(crate) fn invalid(problem: impl Into<String>) -> Error {
    Error::Invalid {
        field: "store",
        problem: problem.into(),
    }
}
