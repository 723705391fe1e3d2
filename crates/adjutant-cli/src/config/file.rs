//! The configuration file as sections of texts, each with its line.

use std::{fmt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_saphyr::{DefaultMessageFormatter, MessageFormatter, Spanned};

/// A map in the order in which it was written.
struct Pairs<V>(Vec<(Spanned<String>, V)>);

/// One setting's value as text, whatever YAML takes it for.
struct Scalar(String);

/// One line of the file that sets something.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// `section.name`.
    pub name: String,
    pub value: String,
    pub line: u64,
}

/// Reads the file's text.
///
/// # Errors
/// The line, where there is one, and what is wrong there.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, String> {
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(Vec::new());
    }
    let sections: Pairs<Option<Pairs<Spanned<Scalar>>>> =
        serde_saphyr::from_str(text).map_err(|error| {
            let error = error.without_snippet();
            let problem = DefaultMessageFormatter.format_message(error);
            let line = error.location().map_or(1, |at| at.line().max(1));
            format!("{}:{line}: {problem}", path.display())
        })?;
    let mut entries = Vec::new();
    for (section, settings) in sections.0 {
        let Some(settings) = settings else { continue };
        for (name, value) in settings.0 {
            entries.push(Entry {
                name: format!("{}.{}", section.value, name.value),
                value: value.value.0,
                line: name.referenced.line(),
            });
        }
    }
    Ok(entries)
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<V>(std::marker::PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for InOrder<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "sections of settings, such as `runner:` with `concurrency: 4` below it",
                )
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;
        impl Visitor<'_> for AnyText {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                // `synchronous: off` is a boolean in older YAML.
                Ok(Scalar(if value { "on" } else { "off" }.to_owned()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(AnyText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(String, String, u64)> {
        let entries = parse(Path::new("adjutant.yaml"), text).unwrap();
        entries
            .into_iter()
            .map(|entry| (entry.name, entry.value, entry.line))
            .collect()
    }

    #[test]
    fn every_value_is_a_text_with_its_line() {
        let text = "# mine\nrunner:\n  concurrency: 4\n  lease_ttl: 20s\n\nstore:\n  synchronous: off\nlog:\n";
        assert_eq!(
            entries(text),
            [
                ("runner.concurrency".to_owned(), "4".to_owned(), 3),
                ("runner.lease_ttl".to_owned(), "20s".to_owned(), 4),
                ("store.synchronous".to_owned(), "off".to_owned(), 7),
            ]
        );
        assert_eq!(entries("# nothing yet\n"), []);
    }

    #[test]
    fn text_that_is_no_yaml_is_refused_with_its_line() {
        let error = parse(Path::new("adjutant.yaml"), "runner:\n  a: [1\n").unwrap_err();
        assert!(error.starts_with("adjutant.yaml:"), "{error}");
    }
}
