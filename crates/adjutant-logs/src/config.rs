//! Where logs go and how much of them is kept.

use std::{path::PathBuf, str::FromStr, time::Duration};

use crate::error::Error;

/// How logs are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// The folder for a file for each instance; none without.
    pub dir: Option<PathBuf>,
    /// The form of lines in files and on stdout.
    pub format: Format,
    /// When files are cut and forgotten.
    pub rotation: Rotation,
    /// A Fluentd that gets every line.
    pub fluentd: Option<Fluentd>,
    /// Whether every line goes to stdout.
    pub stdout: bool,
}

impl Config {
    /// Files in this folder, all else as it is by default.
    #[must_use]
    pub fn in_folder(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: Some(dir.into()),
            ..Self::default()
        }
    }
}

/// The form of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// When files are cut and forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes after which a file is cut. Default 10 MiB.
    pub max_bytes: u64,
    /// Files of one instance, the one in use included. Default 5.
    pub files: u32,
    /// A file is cut when its first line is older, and forgotten when its last one is. Default 7 days.
    pub max_age: Duration,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            max_bytes: 10 * 1024 * 1024,
            files: 5,
            max_age: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// A Fluentd, or a Fluent Bit, that takes lines by the forward protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fluentd {
    /// Where it listens.
    pub address: FluentdAddress,
    /// The tag; the instance's name is appended after a dot.
    pub tag: String,
    /// How long an acknowledgement may take before the connection is given up. Default 10 s.
    pub ack_timeout: Duration,
    /// The first wait between two attempts to connect; doubles up to sixty times as much. Default 500 ms.
    pub retry: Duration,
}

impl Fluentd {
    /// With defaults for all but the address.
    #[must_use]
    pub fn at(address: FluentdAddress) -> Self {
        Self {
            address,
            tag: "adjutant".to_owned(),
            ack_timeout: Duration::from_secs(10),
            retry: Duration::from_millis(500),
        }
    }
}

/// Where a Fluentd listens: `tcp://HOST:PORT` or `unix:///PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FluentdAddress {
    /// Host and port.
    Tcp(String),
    /// A socket's file.
    Unix(PathBuf),
}

impl FromStr for FluentdAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Address {
            text: text.to_owned(),
        };
        if let Some(path) = text.strip_prefix("unix://") {
            let path = Some(PathBuf::from(path)).filter(|path| path.is_absolute());
            return path.map(Self::Unix).ok_or_else(wrong);
        }
        let address = text.strip_prefix("tcp://").ok_or_else(wrong)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        Ok(Self::Tcp(address.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_port_or_an_absolute_file() {
        assert_eq!(
            "tcp://logs:24224".parse::<FluentdAddress>().unwrap(),
            FluentdAddress::Tcp("logs:24224".to_owned())
        );
        assert_eq!(
            "unix:///run/f.sock".parse::<FluentdAddress>().unwrap(),
            FluentdAddress::Unix("/run/f.sock".into())
        );
        for wrong in [
            "",
            "logs:1",
            "tcp://logs",
            "tcp://:1",
            "tcp://a:b",
            "unix://x",
            "http://a:1",
        ] {
            assert!(wrong.parse::<FluentdAddress>().is_err(), "{wrong}");
        }
    }
}
