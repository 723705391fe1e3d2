//! What the server's and the connection's errors mean to the contracts. All of the mapping is here.

use std::{error, fmt, io};

use crate::link::CLOSED;
use adjutant_core::Error;
use adjutant_engine::{Failure, again};
use redis::{ErrorKind, RedisError, ServerErrorKind as Server};

/// An error with what follows from it for the connection.
#[derive(Debug)]
pub(crate) struct Told {
    pub error: Error,
    /// The connection is of no more use.
    pub lost: bool,
    /// The server may be itself again in a moment.
    pub may_help: bool,
}

impl Told {
    /// An answer that makes no sense.
    pub(crate) fn odd(error: Error) -> Self {
        Self {
            error,
            lost: false,
            may_help: false,
        }
    }

    pub(crate) fn failure(&self) -> Failure {
        Failure::Broken(again(&self.error))
    }
}

impl From<Told> for Error {
    fn from(told: Told) -> Self {
        told.error
    }
}

/// What happened and what to do about it.
#[derive(Debug)]
struct Advice {
    advice: &'static str,
    source: RedisError,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        if !self.advice.is_empty() {
            write!(f, ": {}", self.advice)?;
        }
        Ok(())
    }
}

impl error::Error for Advice {}

/// Turns an error of the driver into one of the contracts'.
pub(crate) fn from_redis(error: RedisError, action: &'static str, location: &str) -> Told {
    let lost = is_lost(&error);
    let (transient, advice) = advise(&error, location);
    let may_help = lost && transient || passes(&error);
    let error = match code(&error) {
        "OOM" => Error::StorageFull {
            location: location.to_owned(),
        },
        "WRONGTYPE" => corrupt(location, &error),
        _ if error.kind() == ErrorKind::Client && error.to_string().contains(CLOSED) => {
            Error::Closed
        }
        _ => Error::Backend {
            action,
            transient,
            source: Box::new(Advice {
                advice,
                source: error,
            }),
        },
    };
    Told {
        error,
        lost,
        may_help,
    }
}

/// A stored value that cannot be what was written.
pub(crate) fn corrupt(location: &str, problem: impl fmt::Display) -> Error {
    Error::Corrupt {
        location: location.to_owned(),
        problem: problem.to_string(),
    }
}

/// A server that cannot be used as it is set up.
pub(crate) fn unfit(problem: String) -> Error {
    Error::Backend {
        action: "open the store",
        transient: false,
        source: problem.into(),
    }
}

fn code(error: &RedisError) -> &str {
    // A script's error may hide the first one's code in its text.
    let detail = error.detail().unwrap_or("");
    for hidden in ["OOM", "WRONGTYPE", "READONLY", "MISCONF", "NOPERM"] {
        if detail.starts_with(hidden) || error.code() == Some(hidden) {
            return hidden;
        }
    }
    error.code().unwrap_or("")
}

/// Whether the connection has to be made anew: it is broken, late, or leads to the wrong server.
fn is_lost(error: &RedisError) -> bool {
    let wrong_server = code(error) == "READONLY";
    wrong_server || error.is_io_error() || error.is_timeout() || error.is_unrecoverable_error()
}

/// Whether it is over in a moment: while another server takes over, or this one starts.
fn passes(error: &RedisError) -> bool {
    use Server::{BusyLoading, ClusterDown, MasterDown, TryAgain};
    matches!(
        error.kind(),
        ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | TryAgain)
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::ClusterConnectionNotFound
    )
}

/// Whether the same may succeed later, and what to do.
fn advise(error: &RedisError, location: &str) -> (bool, &'static str) {
    match code(error) {
        "NOAUTH" => return (false, NEEDS_PASSWORD),
        "WRONGPASS" => return (false, WRONG_PASSWORD),
        "NOPERM" => return (false, NEEDS_RIGHTS),
        "READONLY" => return (true, IS_REPLICA),
        "MISCONF" => {
            return (
                true,
                "the server cannot write to its disk; make room or see its log",
            );
        }
        "NOREPLICAS" => return (true, "too few replicas follow; see `min-replicas-to-write`"),
        "BUSY" => return (true, "another program's script holds up the server"),
        "DENIED" => {
            return (
                false,
                "the server takes remote connections only with a password; set `requirepass`",
            );
        }
        _ => {}
    }
    if error
        .to_string()
        .contains("The user executing the script can't")
    {
        return (false, NEEDS_RIGHTS);
    }
    match error.kind() {
        ErrorKind::Server(Server::Moved | Server::Ask) if !location.contains("-cluster://") => (
            false,
            "the server is part of a cluster; use `redis-cluster://`",
        ),
        ErrorKind::Server(
            Server::Moved
            | Server::Ask
            | Server::BusyLoading
            | Server::TryAgain
            | Server::ClusterDown
            | Server::MasterDown,
        ) => (true, "the server is not ready yet"),
        ErrorKind::AuthenticationFailed if error.to_string().contains("NOAUTH") => {
            (false, NEEDS_PASSWORD)
        }
        ErrorKind::AuthenticationFailed => (false, WRONG_PASSWORD),
        ErrorKind::MasterNameNotFoundBySentinel => (
            true,
            "no sentinel can be reached, or none knows a primary of this name",
        ),
        ErrorKind::ClusterConnectionNotFound => (true, NOT_THERE),
        ErrorKind::Parse => (
            true,
            "what answers there does not speak Redis's protocol, or expects TLS: use `rediss://`",
        ),
        ErrorKind::Io if error.is_timeout() && location.starts_with("rediss") => (
            true,
            "no answer in time; the server may not speak TLS here: use `redis://`, or its TLS port",
        ),
        ErrorKind::Io if error.is_timeout() => (
            true,
            "no answer in time; is the server stopped, or the network slow?",
        ),
        ErrorKind::Io => (true, of_io(error, location)),
        ErrorKind::Server(Server::ResponseError)
            if error.to_string().contains("max number of clients") =>
        {
            (
                true,
                "raise `maxclients`, or find who holds so many connections",
            )
        }
        _ => (is_lost(error), ""),
    }
}

fn of_io(error: &RedisError, location: &str) -> &'static str {
    let mut source = error::Error::source(error);
    let mut kind = None;
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            kind = Some(io.kind());
        }
        source = inner.source();
    }
    let tls = location.starts_with("rediss");
    let text = error.to_string();
    match kind {
        Some(io::ErrorKind::PermissionDenied) => {
            "this user may not open the socket; see `unixsocketperm`"
        }
        _ if tls && text.contains("certificate") => {
            "the server's certificate is not trusted here; add its issuer to this machine's certificates"
        }
        Some(io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) if tls => {
            "the server may not speak TLS here; use `redis://`, or its TLS port"
        }
        Some(
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe,
        ) => "the connection was closed; if the server expects TLS, use `rediss://`",
        _ => NOT_THERE,
    }
}

const NOT_THERE: &str = "is the server running there? Check host and port, or the socket's path";
const NEEDS_PASSWORD: &str =
    "the server asks for a password; write it in the URL: `redis://:PASSWORD@host`";
const WRONG_PASSWORD: &str =
    "check user and password in the store's URL; reserved characters are written as `%40`";
const NEEDS_RIGHTS: &str =
    "the user lacks rights; `docs/guide/redis.md` has the `ACL SETUSER` that gives them";
const IS_REPLICA: &str =
    "this server is a replica; use the primary's address, or `redis-sentinel://`";
