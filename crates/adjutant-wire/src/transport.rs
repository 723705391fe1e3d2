//! Where an agent finds its host: the environment variables `AGENT_WIRE` and `AGENT_WIRE_TOKEN`.
//!
//! On a socket the agent connects, says [`Hello`](crate::Hello) and is then a peer as on stdin and stdout. A Unix socket
//! carries the same lines; a WebSocket carries one message in each text message, without the newline.

use std::{fmt, path::PathBuf, str::FromStr};

/// Names the way to the host: `stdio`, `unix:PATH` or `ws://…`. Absent means `stdio`.
pub const ADDRESS_VARIABLE: &str = "AGENT_WIRE";

/// Holds the token for [`Hello`](crate::Hello) on a socket.
pub const TOKEN_VARIABLE: &str = "AGENT_WIRE_TOKEN";

/// The way to the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Address {
    /// The process's own stdin and stdout.
    #[default]
    Stdio,
    /// A Unix socket.
    Unix(PathBuf),
    /// A WebSocket: `ws://HOST:PORT/PATH`.
    WebSocket(String),
}

/// An address that this wire does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{ADDRESS_VARIABLE}` is {0:?}; it must be `stdio`, `unix:PATH` or `ws://HOST:PORT/PATH`")]
pub struct UnknownAddress(String);

impl FromStr for Address {
    type Err = UnknownAddress;

    fn from_str(text: &str) -> Result<Self, UnknownAddress> {
        // `ws:` may stand before a whole URL as `unix:` does before a path.
        let url = text
            .strip_prefix("ws:")
            .filter(|rest| rest.starts_with("ws://"));
        match text {
            "" | "stdio" => Ok(Self::Stdio),
            _ if url.is_some() => Ok(Self::WebSocket(url.unwrap_or(text).to_owned())),
            _ if text.starts_with("ws://") => Ok(Self::WebSocket(text.to_owned())),
            _ => match text.strip_prefix("unix:") {
                Some(path) if !path.is_empty() => Ok(Self::Unix(path.into())),
                _ => Err(UnknownAddress(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio => f.write_str("stdio"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::WebSocket(url) => f.write_str(url),
        }
    }
}

/// Whether two tokens are the same, in a time that does not tell how much of them is.
#[must_use]
pub fn same_token(left: &str, right: &str) -> bool {
    let pairs = left.bytes().zip(right.bytes());
    let difference = pairs.fold(0, |seen, (a, b)| seen | (a ^ b));
    left.len() == right.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_environment() {
        let addresses = [
            Address::Stdio,
            Address::Unix("/run/a b.sock".into()),
            Address::WebSocket("ws://127.0.0.1:80/x".into()),
        ];
        for address in addresses {
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        assert_eq!(
            "ws:ws://h:1/".parse(),
            Ok(Address::WebSocket("ws://h:1/".into()))
        );
        assert_eq!("".parse(), Ok(Address::Stdio));
        for wrong in ["unix:", "tcp:1", "http://x", "STDIO"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_equal_tokens_are_the_same() {
        assert!(same_token("abc", "abc"));
        for other in ["", "ab", "abd", "abcd", "bbc"] {
            assert!(!same_token("abc", other), "{other}");
        }
    }
}
