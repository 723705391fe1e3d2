//! Environment variables of a child process.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// What a child may inherit: where programs and homes are, and how to write dates and letters. Everything else, API
/// keys above all, has to be named in the manifest, so that one agent's secrets are not every agent's.
const INHERITED: &[&str] = &["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];

/// Locale settings come in many names.
const INHERITED_PREFIX: &str = "LC_";

/// What the names of secrets end in.
const SECRET_ENDINGS: &[&str] = &["KEY", "TOKEN", "SECRET", "PASSWORD"];

/// Variables by name. `Debug` shows the names only, because values may be secrets.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The part of a program's own environment that its children inherit: `PATH`, `HOME`, `USER`, `LANG`, `LC_*`,
    /// `TZ` and `TMPDIR`.
    #[must_use]
    pub fn inherited(all: impl IntoIterator<Item = (String, String)>) -> Self {
        let passes = |name: &str| INHERITED.contains(&name) || name.starts_with(INHERITED_PREFIX);
        all.into_iter().filter(|(name, _)| passes(name)).collect()
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// A variable's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All variables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The values that are secrets by their names: what ends in `KEY`, `TOKEN`, `SECRET` or `PASSWORD`.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let is_secret = |name: &str| SECRET_ENDINGS.iter().any(|end| name.ends_with(end));
        let secrets = self.iter().filter(|(name, _)| is_secret(name));
        secrets.map(|(_, value)| value.to_owned()).collect()
    }

    /// These variables, overridden and completed by `others`.
    #[must_use]
    pub fn with(mut self, others: &Self) -> Self {
        self.0.extend(others.0.clone());
        self
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        variables.iter().map(own).collect()
    }

    #[test]
    fn secrets_are_not_inherited() {
        let all = [
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("OPENAI_API_KEY", "k"),
            ("LD_PRELOAD", "x"),
        ];
        let own = all.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            Environment::inherited(own),
            environment(&[("LC_ALL", "C"), ("PATH", "/bin")])
        );
    }

    #[test]
    fn debug_output_shows_no_values() {
        let shown = format!("{:?}", environment(&[("TOKEN", "s3cret")]));
        assert_eq!(shown, r#"{"TOKEN"}"#);
    }

    #[test]
    fn later_variables_override_earlier_ones() {
        let merged = environment(&[("A", "1"), ("B", "1")]).with(&environment(&[("B", "2")]));
        assert_eq!(merged, environment(&[("A", "1"), ("B", "2")]));
    }
}
