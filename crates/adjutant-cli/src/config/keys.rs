//! Every setting: its name, kind, default, and what it means. The reference page is checked against this table.

use adjutant::logs::FluentdAddress;

/// What a setting's text must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Duration,
    Size,
    Count,
    Number,
    Choice(&'static [&'static str]),
    /// Some of these, with commas between them.
    Choices(&'static [&'static str]),
    /// The address of a Fluentd, or nothing.
    Fluentd,
}

impl Kind {
    /// What goes into the reference page.
    #[cfg(test)]
    pub fn describe(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Duration => "duration".to_owned(),
            Self::Size => "size".to_owned(),
            Self::Count => "whole number from 1".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Choice(choices) => choices.join(", "),
            Self::Choices(choices) => format!("list of {}", choices.join(", ")),
            Self::Fluentd => "URL".to_owned(),
        }
    }

    /// Whether the text is of this kind.
    pub fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Text => Ok(()),
            Self::Duration => crate::units::parse_duration(text).map(drop),
            Self::Size => crate::units::parse_size(text).map(drop),
            Self::Count => match text.parse::<u32>() {
                Ok(1..) => Ok(()),
                _ => Err(format!("`{text}` is not a whole number from 1")),
            },
            Self::Number => match text.parse::<f64>() {
                Ok(number) if number.is_finite() && number >= 0.0 => Ok(()),
                _ => Err(format!("`{text}` is not a number from 0")),
            },
            Self::Choices(choices) => {
                let unknown = text
                    .split(',')
                    .map(str::trim)
                    .find(|name| !choices.contains(name));
                match unknown {
                    None => Ok(()),
                    Some(name) => Err(format!("`{name}` is none of {}", choices.join(", "))),
                }
            }
            Self::Fluentd if text.is_empty() => Ok(()),
            Self::Fluentd => match text.parse::<FluentdAddress>() {
                Ok(_) => Ok(()),
                Err(_) => Err(format!(
                    "`{text}` is neither tcp://HOST:PORT nor unix:///PATH"
                )),
            },
            Self::Choice(choices) if choices.contains(&text) => Ok(()),
            Self::Choice(choices) => Err(format!("`{text}` is none of {}", choices.join(", "))),
        }
    }
}

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// `section.name`.
    pub name: &'static str,
    pub kind: Kind,
    /// In the form in which a user would write it.
    pub default: &'static str,
    pub about: &'static str,
    /// Environment variables of other names that mean the same.
    pub aliases: &'static [&'static str],
}

impl Key {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!(
            "ADJUTANT_{}",
            self.name.replace('.', "__").to_ascii_uppercase()
        )
    }
}

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    aliases: &'static [&'static str],
    about: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default,
        about,
        aliases,
    }
}

/// The store's URL when nothing else is said.
pub const PROJECT_STORE: &str = "sqlite:.adjutant/adjutant.db";

/// All settings, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    key(
        "store.url",
        Kind::Text,
        PROJECT_STORE,
        &["ADJUTANT_STORE"],
        "Where runs are kept: `sqlite:PATH`, `postgres://…`, `redis://…` or `memory:`. Relative paths start at the project's folder.",
    ),
    key(
        "store.state_url",
        Kind::Text,
        "",
        &[],
        "Another store for journals and checkpoints, which then holds nothing else.",
    ),
    key(
        "store.events_url",
        Kind::Text,
        "",
        &[],
        "Another store for events, which then holds nothing else, or that of `store.state_url`.",
    ),
    key(
        "store.password_file",
        Kind::Text,
        "",
        &[],
        "A file with the password for the store's server, used when the URL has none.",
    ),
    key(
        "store.synchronous",
        Kind::Choice(&["full", "normal", "off"]),
        "full",
        &[],
        "What an acknowledged write to SQLite survives: `full` a power cut, `normal` and `off` a crash of the process.",
    ),
    key(
        "store.busy_timeout",
        Kind::Duration,
        "5s",
        &[],
        "How long to wait for another process that writes to the same SQLite file.",
    ),
    key(
        "runner.concurrency",
        Kind::Count,
        "8",
        &[],
        "Runs that one worker drives at the same time.",
    ),
    key(
        "runner.max_instances",
        Kind::Count,
        "10000",
        &[],
        "Most processes of all agents together that one worker has at the same time; `max_instances` in a manifest is for one agent.",
    ),
    key(
        "runner.run_timeout",
        Kind::Duration,
        "5m",
        &["AGENT_RUNTIME_RUN_TIMEOUT_SECONDS"],
        "Longest time for one execution of a run that names none itself.",
    ),
    key(
        "runner.heartbeat_interval",
        Kind::Duration,
        "2s",
        &["AGENT_RUNTIME_HEARTBEAT_INTERVAL_SECONDS"],
        "Time between signs of life; a cancellation reaches the agent within one. At most half of `lease_ttl`.",
    ),
    key(
        "runner.lease_ttl",
        Kind::Duration,
        "15s",
        &["AGENT_RUNTIME_LEASE_TTL_SECONDS"],
        "Silence after which a run is taken from a worker and given to another one.",
    ),
    key(
        "runner.max_attempts",
        Kind::Count,
        "3",
        &["AGENT_RUNTIME_MAX_RETRIES"],
        "Attempts in all, the first included.",
    ),
    key(
        "runner.retry_backoff_base",
        Kind::Number,
        "2",
        &["AGENT_RUNTIME_RETRY_BACKOFF_BASE"],
        "Attempt n + 1 begins this number to the power of n seconds after attempt n failed.",
    ),
    key(
        "runner.retry_backoff_max",
        Kind::Duration,
        "5m",
        &["AGENT_RUNTIME_RETRY_BACKOFF_MAX"],
        "Longest time between two attempts.",
    ),
    key(
        "runner.cancel_grace",
        Kind::Duration,
        "10s",
        &[],
        "How long a cancelled run may tidy up.",
    ),
    key(
        "runner.drain_grace",
        Kind::Duration,
        "30s",
        &[],
        "How long a stopping worker waits for its runs before it gives them back; `agent run` waits 3s at most.",
    ),
    key("limits.input", Kind::Size, "1MiB", &[], "A run's input."),
    key("limits.output", Kind::Size, "4MiB", &[], "A run's result."),
    key("limits.step", Kind::Size, "4MiB", &[], "A step's result."),
    key(
        "limits.checkpoint",
        Kind::Size,
        "16MiB",
        &[],
        "A checkpoint.",
    ),
    key(
        "limits.event",
        Kind::Size,
        "256KiB",
        &[],
        "An event's payload.",
    ),
    key(
        "limits.signal",
        Kind::Size,
        "256KiB",
        &[],
        "A signal's payload.",
    ),
    key(
        "log.level",
        Kind::Choice(&["off", "error", "warn", "info", "debug", "trace"]),
        "warn",
        &["AGENT_LOG_LEVEL"],
        "What the runtime logs to stderr; `-v` raises it, RUST_LOG overrides it.",
    ),
    key(
        "log.format",
        Kind::Choice(&["text", "json"]),
        "text",
        &[],
        "How it logs.",
    ),
    key(
        "logs.to",
        Kind::Choices(&["file", "stdout", "fluentd"]),
        "file",
        &[],
        "Where the lines go that agents log: files in `.adjutant/logs/`, which `agent logs` reads, the worker's stdout, a Fluentd.",
    ),
    key(
        "logs.format",
        Kind::Choice(&["json", "text"]),
        "json",
        &[],
        "The form of these lines in files and on stdout.",
    ),
    key(
        "logs.max_size",
        Kind::Size,
        "10MiB",
        &[],
        "Size at which the file of an instance is cut and a new one begun.",
    ),
    key(
        "logs.max_files",
        Kind::Count,
        "5",
        &[],
        "Files of one instance, the one in use included; the oldest goes first.",
    ),
    key(
        "logs.max_age",
        Kind::Duration,
        "7d",
        &[],
        "A file is cut when its first line is older, and removed when its last one is.",
    ),
    key(
        "logs.fluentd_url",
        Kind::Fluentd,
        "",
        &[],
        "Where a Fluentd or Fluent Bit takes lines by the forward protocol: `tcp://HOST:PORT` or `unix:///PATH`.",
    ),
    key(
        "logs.fluentd_tag",
        Kind::Text,
        "adjutant",
        &[],
        "The first part of their tag; the name of the instance follows after a dot.",
    ),
];

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The candidate that was probably meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let ranked = candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate));
    ranked
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= candidate.len() / 2)
        .map(|(_, candidate)| candidate)
}

/// Edits that turn one text into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_of_their_kind() {
        for key in KEYS {
            assert_eq!(key.kind.check(key.default), Ok(()), "{}", key.name);
        }
    }

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        let names = || KEYS.iter().map(|key| key.name);
        assert_eq!(
            nearest("runner.concurency", names()),
            Some("runner.concurrency")
        );
        assert_eq!(nearest("store.ulr", names()), Some("store.url"));
        assert_eq!(nearest("zzzzzzzzzzzzzzzzzzzzzzzzzz", names()), None);
    }

    #[test]
    fn the_reference_page_tells_of_every_setting() {
        let page = include_str!("../../../../docs/reference/config.md");
        for key in KEYS {
            let default = match key.default {
                "" => "none".to_owned(),
                default => format!("`{default}`"),
            };
            let (kind, about) = (key.kind.describe(), key.about);
            let row = format!("| `{}` | {kind} | {default} | {about} |", key.name);
            assert!(page.contains(&row), "docs/reference/config.md lacks: {row}");
        }
    }
}
