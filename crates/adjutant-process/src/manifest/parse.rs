//! From YAML text to a manifest, with errors that say where and what instead.

use std::{fmt, num::NonZeroU32, time::Duration};

use adjutant_confine::Isolation;
use adjutant_core::RetryPolicy;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{Manifest, Problem};
use crate::units::duration;

/// Why a text is no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text, or one field of it, cannot be read.
    #[error("line {line}: {}{problem}", .field.as_ref().map(|field| format!("`{field}`: ")).unwrap_or_default())]
    Unreadable {
        /// Where, counted from 1.
        line: u64,
        /// The field, such as `retry.max_attempts`, where it is about one.
        field: Option<String>,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Everything can be read, but not all of it can be right.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Problem>),
}

impl ManifestError {
    /// Whether the same text may become a manifest later: never.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }
}

impl Manifest {
    /// Reads the text of an `agent.yaml`.
    ///
    /// # Errors
    /// With line, field and fix.
    pub fn from_yaml(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = read_yaml(text)?;
        manifest.validate().map_err(ManifestError::Invalid)?;
        Ok(manifest)
    }

    /// Reads the text of an `agent.yaml` of an agent that is no program: without `command`, and without what only a program
    /// has use for.
    ///
    /// # Errors
    /// With line, field and fix.
    pub fn without_program(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = read_yaml(text)?;
        let mut problems = manifest.validate().err().unwrap_or_default();
        problems.retain(|problem| problem.field != "command");
        let bare = Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            description: manifest.description.clone(),
            timeout: manifest.timeout,
            retry: manifest.retry.clone(),
            concurrency: manifest.concurrency.clone(),
            ..Self::new("", Vec::<String>::new())
        };
        if problems.is_empty() && manifest != bare {
            problems.push(Problem {
                field: "command",
                problem: "is missing, and without a program only `name`, `version`, `description`, `timeout`, `retry` and \
                          `concurrency` have a meaning here"
                    .to_owned(),
            });
        }
        if problems.is_empty() {
            Ok(manifest)
        } else {
            Err(ManifestError::Invalid(problems))
        }
    }
}

/// Reads YAML as a `T`.
///
/// # Errors
/// With line, field and fix.
pub fn read_yaml<T: DeserializeOwned>(text: &str) -> Result<T, ManifestError> {
    let mut path = None;
    serde_saphyr::with_deserializer_from_str(text, |yaml| {
        serde_path_to_error::deserialize(yaml).map_err(|error| {
            path = Some(error.path().to_string());
            error.into_inner()
        })
    })
    .map_err(|error| explain(&error, path.as_deref()))
}

fn explain(error: &serde_saphyr::Error, path: Option<&str>) -> ManifestError {
    use serde_saphyr::Error as Yaml;

    let error = error.without_snippet();
    // `.` is the document itself, and `?` a place that the tracker lost.
    let field = path.filter(|path| !matches!(*path, "." | "?"));
    let (field, problem) = match error {
        Yaml::SerdeUnknownField {
            field: unknown,
            expected,
            ..
        } => {
            let here = field.filter(|path| path.ends_with(unknown.as_str()));
            (
                Some(here.unwrap_or(unknown)),
                unknown_key(unknown, expected),
            )
        }
        Yaml::SerdeMissingField { field: missing, .. } => {
            let within = field.map_or(String::new(), |field| format!(" in `{field}`"));
            (Some(*missing), format!("is missing{within}; add it"))
        }
        Yaml::SerdeUnknownVariant {
            variant, expected, ..
        } => {
            let problem = format!("`{variant}` is not known; use {}", listed(expected));
            (field, problem)
        }
        other => (field, plain_message(other)),
    };
    ManifestError::Unreadable {
        line: error
            .location()
            .map_or(1, |location| location.line().max(1)),
        field: field.map(str::to_owned),
        problem,
    }
}

/// The error's own words without its own location, which is told once.
fn plain_message(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::{DefaultMessageFormatter, MessageFormatter};
    DefaultMessageFormatter.format_message(error).into_owned()
}

fn unknown_key(unknown: &str, known: &[&str]) -> String {
    let distance = |candidate: &str| edit_distance(unknown, candidate);
    let nearest = known.iter().min_by_key(|candidate| distance(candidate));
    let guess = nearest
        .filter(|candidate| distance(candidate) <= 1 + unknown.len() / 4)
        .map_or(String::new(), |candidate| {
            format!("did you mean `{candidate}`? ")
        });
    format!("is no known key; {guess}Known keys: {}", known.join(", "))
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" or ")
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let up = *cell;
            let best = (diagonal + usize::from(x != y)).min(up + 1).min(left + 1);
            (diagonal, left, *cell) = (up, best, best);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// A profile by its name, or a profile with what belongs to it.
pub(crate) fn isolation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Isolation, D::Error> {
    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = Isolation;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a profile such as `workspace`, or `profile:` with `work:`, `read:` and `write:` below")
        }

        fn visit_str<E: de::Error>(self, name: &str) -> Result<Isolation, E> {
            name.parse().map(Isolation::of).map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Isolation, A::Error> {
            Isolation::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_any(Either)
}

/// The retry policy with durations as a manifest writes them.
pub(super) fn retry<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RetryPolicy, D::Error> {
    #[derive(Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Retry {
        max_attempts: NonZeroU32,
        backoff_base: f64,
        #[serde(with = "duration")]
        max_delay: Duration,
        jitter: f64,
    }

    impl Default for Retry {
        fn default() -> Self {
            let RetryPolicy {
                max_attempts,
                backoff_base,
                max_delay,
                jitter,
            } = RetryPolicy::default();
            Self {
                max_attempts,
                backoff_base,
                max_delay,
                jitter,
            }
        }
    }

    let Retry {
        max_attempts,
        backoff_base,
        max_delay,
        jitter,
    } = Retry::deserialize(deserializer)?;
    Ok(RetryPolicy {
        max_attempts,
        backoff_base,
        max_delay,
        jitter,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ByteSize, Protocol};

    fn refused(text: &str) -> String {
        Manifest::from_yaml(text).expect_err(text).to_string()
    }

    #[test]
    fn every_key_is_read() {
        let manifest = Manifest::from_yaml(
            r#"
name: triage
version: 1.2.0
description: Reads logs.
command: [python3, agent.py]
build: [make, -s]
protocol: exec
env: {LEVEL: debug, PORT: 8080}
timeout: 5m
start_timeout: 2.5
stop_grace: 1s
heartbeat: 500ms
retry: {max_attempts: 5, backoff_base: 1.5, max_delay: 1m, jitter: 0}
max_input_bytes: 64KiB
max_output_bytes: 4096
concurrency: {key: gpu, limit: 2}
"#,
        )
        .unwrap();
        assert_eq!(
            manifest.build.as_deref(),
            Some(&["make".to_owned(), "-s".to_owned()][..])
        );
        assert_eq!(manifest.protocol, Protocol::Exec);
        assert_eq!(manifest.env.get("PORT"), Some("8080"));
        assert_eq!(manifest.timeout, Some(Duration::from_secs(300)));
        assert_eq!(manifest.start_timeout, Duration::from_millis(2500));
        assert_eq!(manifest.heartbeat, Duration::from_millis(500));
        assert_eq!(manifest.retry.max_attempts.get(), 5);
        assert_eq!(manifest.retry.max_delay, Duration::from_secs(60));
        assert_eq!(manifest.max_input_bytes, ByteSize(65_536));
        assert_eq!(manifest.max_output_bytes, ByteSize(4096));
        assert_eq!(manifest.concurrency.unwrap().limit.get(), 2);
    }

    #[test]
    fn name_and_command_are_enough() {
        let manifest = Manifest::from_yaml("name: a\ncommand: [x]").unwrap();
        assert_eq!(manifest, Manifest::new("a", ["x"]));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_the_nearest_key_and_all_keys() {
        let error = refused("name: a\ncommand: [x]\nstart_timout: 3s\n");
        assert!(
            error.starts_with("line 3: `start_timout`: is no known key"),
            "{error}"
        );
        assert!(error.contains("did you mean `start_timeout`?"), "{error}");
        assert!(error.contains("Known keys: name, version"), "{error}");
        assert!(!refused("name: a\ncommand: [x]\nzzzzzzzz: 1").contains("did you mean"));
    }

    #[test]
    fn an_unknown_key_in_a_section_is_named_with_its_path() {
        let error = refused("name: a\ncommand: [x]\nretry:\n  attempts: 3\n");
        assert!(error.starts_with("line 4: `retry.attempts`"), "{error}");
        assert!(error.contains("max_attempts"), "{error}");
    }

    #[test]
    fn errors_name_line_field_and_fix() {
        let cases = [
            (
                "name: a\ncommand: [x]\ntimeout: soon",
                "line 3: `timeout`: ",
                "`5m`",
            ),
            (
                "name: a\ncommand: [x]\nretry:\n  max_delay: 1 year",
                "line 4: `retry.max_delay`: ",
                "`5m`",
            ),
            (
                "name: a\ncommand: [x]\nmax_input_bytes: lots",
                "line 3: `max_input_bytes`: ",
                "`1MiB`",
            ),
            (
                "name: a\ncommand: [x]\nprotocol: grpc",
                "line 3: `protocol`: ",
                "use `wire` or `exec`",
            ),
            ("command: [a]", "line 1: `name`: is missing", "add it"),
            ("name: a", "`command`: name a program", "`model`"),
            (
                "name: a\ncommand: run me",
                "line 2: `command`: ",
                "sequence",
            ),
            ("name: a\ncommand: [x", "line ", ""),
            (
                "name: a b\ncommand: []",
                "`name`: use ",
                "; `command`: name a program",
            ),
        ];
        for (text, start, part) in cases {
            let error = refused(text);
            assert!(
                error.starts_with(start) && error.contains(part),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn a_manifest_survives_a_round_trip() {
        let text = "name: a\ncommand: [x]\ntimeout: 90s\nheartbeat: 250ms\nenv: {A: b}";
        let manifest = Manifest::from_yaml(text).unwrap();
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    }

    #[test]
    fn the_reference_page_shows_a_valid_manifest_with_every_key() {
        const PAGE: &str = include_str!("../../../../docs/reference/agent-manifest.md");
        let example = PAGE.split("```").nth(1).unwrap();
        let manifest = Manifest::from_yaml(example.strip_prefix("yaml").unwrap()).unwrap();
        let keys = serde_json::to_value(&manifest).unwrap();
        for (key, value) in keys.as_object().unwrap() {
            let in_table = match value.as_object().filter(|_| key != "env") {
                None => vec![format!("| `{key}` |")],
                Some(section) => section
                    .keys()
                    .map(|sub| format!("| `{key}.{sub}` |"))
                    .collect(),
            };
            for row in in_table {
                assert!(PAGE.contains(&row), "the table has no row {row}");
            }
        }
        let error = Manifest::from_yaml("zzz: 1").unwrap_err().to_string();
        let (_, known) = error.split_once("Known keys: ").unwrap();
        assert_eq!(known.split(", ").count(), keys.as_object().unwrap().len());
    }

    #[test]
    fn the_distance_counts_single_edits() {
        let cases = [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("comand", "command", 1),
        ];
        for (a, b, distance) in cases {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn isolation_is_a_profile_or_a_profile_with_more() {
        let read = |text: &str| Manifest::from_yaml(&format!("name: a\ncommand: [x]\n{text}"));
        let short = read("isolation: restricted").unwrap().isolation();
        assert_eq!(short, Isolation::of(Profile::Restricted));
        let long = read("isolation: {profile: workspace, work: out}\nnetwork: none").unwrap();
        assert_eq!(long.isolation().work, Some("out".into()));
        assert_eq!(long.isolation().network(), Network::None);
        for (text, expected) in [
            ("isolation: closed", "`restricted`"),
            ("isolation: {profil: open}", "did you mean `profile`?"),
            ("network: {bandwidth: 1MiB}", "`network`"),
            ("network: none", "choose `isolation: workspace`"),
            ("isolation: isolated\nprotocol: http", "add `network: host`"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn without_a_program_only_what_concerns_runs_has_a_meaning() {
        let bare = "name: a\ntimeout: 5m\nretry: {max_attempts: 2}\n";
        assert_eq!(Manifest::without_program(bare).unwrap().name, "a");
        let error = Manifest::without_program("name: a\nheartbeat: 3s\n").unwrap_err();
        assert!(
            error.to_string().contains("`command`: is missing"),
            "{error}"
        );
    }

    use adjutant_confine::{Network, Profile};
}
