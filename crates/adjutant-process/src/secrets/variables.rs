//! Variables as a manifest has them, and where the secrets among them come from.

use std::{collections::BTreeMap, fmt, fs::File, io::Read, path::Path, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{EnumAccess, Error as _, VariantAccess, Visitor},
};

use super::Needles;
use crate::{
    environment::Environment,
    error::{Error, Result},
};

/// Largest file that a variable is read from.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Environment variables as a manifest has them. `Debug` shows no text, because it may be a secret all the same.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Variables(BTreeMap<String, Variable>);

/// What a manifest says of one variable.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Variable {
    /// Its value.
    Text(String),
    /// The runtime's own variable that holds its value.
    FromEnv(String),
    /// The file that holds its value, relative to the manifest's folder. A line's end at the end does not belong to it.
    FromFile(String),
}

/// The runtime's own environment, for those variables that refer to it. `Debug` shows nothing of it.
#[derive(Clone, Default)]
pub struct Secrets(Arc<BTreeMap<String, String>>);

/// Variables with their values.
pub(crate) struct Resolved {
    pub(crate) env: Environment,
    /// The values that nobody may see.
    pub(crate) needles: Needles,
}

impl Secrets {
    /// Takes a program's whole environment.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(Arc::new(variables.into_iter().collect()))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Variables {
    /// Sets a variable to a text.
    pub fn set(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.0.insert(name.into(), Variable::Text(text.into()));
    }

    /// Sets a variable.
    pub fn refer(&mut self, name: impl Into<String>, variable: Variable) {
        self.0.insert(name.into(), variable);
    }

    /// A variable's text, if the manifest has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Variable::Text(text) => Some(text),
            _ => None,
        }
    }

    /// All variables in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Variable)> {
        self.0
            .iter()
            .map(|(name, variable)| (name.as_str(), variable))
    }

    /// Looks up what is referred to.
    ///
    /// # Errors
    /// [`Error::Secret`], without the value.
    pub(crate) fn resolve(&self, dir: &Path, secrets: &Secrets) -> Result<Resolved> {
        let mut env = Environment::default();
        let mut hidden = Vec::new();
        for (name, variable) in self.iter() {
            let failed = |problem: String| Error::Secret {
                variable: name.to_owned(),
                problem,
            };
            let value = match variable {
                Variable::Text(text) => text.clone(),
                Variable::FromEnv(from) => from_env(from, secrets).map_err(failed)?,
                Variable::FromFile(file) => from_file(&dir.join(file)).map_err(failed)?,
            };
            if value.contains('\0') {
                return Err(failed("its value has a zero byte in it".to_owned()));
            }
            if !matches!(variable, Variable::Text(_)) {
                hidden.push(value.clone());
            }
            env.set(name, value);
        }
        let needles = Needles::new(&hidden);
        Ok(Resolved { env, needles })
    }
}

fn from_env(name: &str, secrets: &Secrets) -> Result<String, String> {
    let value = secrets.0.get(name).cloned();
    value.ok_or_else(|| format!("the runtime has no variable `{name}`; export it and start again"))
}

fn from_file(file: &Path) -> Result<String, String> {
    let shown = file.display();
    let mut text = String::new();
    let read = File::open(file)
        .and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(count) if count as u64 > MAX_FILE_BYTES => Err(format!(
            "{shown} is larger than {MAX_FILE_BYTES} bytes; is it the right file?"
        )),
        Ok(_) => {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
        }
        Err(error) => Err(format!("{shown} cannot be read: {error}")),
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.0).finish()
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("…"),
            Self::FromEnv(name) => write!(f, "from_env {name}"),
            Self::FromFile(file) => write!(f, "from_file {file}"),
        }
    }
}

impl Serialize for Variable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let refer = |key, value: &str| BTreeMap::from([(key, value.to_owned())]);
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::FromEnv(name) => refer("from_env", name).serialize(serializer),
            Self::FromFile(file) => refer("from_file", file).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Variable {
    /// Reads a scalar as it is written, so that `1.10` is not `1.1`, or a reference.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Variable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, `{from_env: NAME}` or `{from_file: PATH}`")
            }

            fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Variable, A::Error> {
                let (word, variant) = data.variant::<String>()?;
                match word.as_str() {
                    "from_env" => variant.newtype_variant().map(Variable::FromEnv),
                    "from_file" => variant.newtype_variant().map(Variable::FromFile),
                    _ => variant
                        .unit_variant()
                        .map(|()| Variable::Text(word))
                        .map_err(|_| A::Error::custom(SHAPE)),
                }
            }
        }

        deserializer.deserialize_enum("Variable", &[], Reader)
    }
}

/// What a variable may be.
const SHAPE: &str = "use text, `{from_env: NAME}` or `{from_file: PATH}`";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Variables {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn text_stays_as_it_is_written() {
        let variables = read("A: 1.10\nB: 08\nC: true\nD: ''\nE: \"x y\"\nF: |\n  two\n  lines\n");
        let texts: Vec<_> = "ABCDEF"
            .chars()
            .map(|name| variables.get(&name.to_string()).unwrap())
            .collect();
        assert_eq!(texts, ["1.10", "08", "true", "", "x y", "two\nlines\n"]);
    }

    #[test]
    fn references_are_read_and_written_as_such() {
        let variables = read("A: {from_env: X}\nB: {from_file: key.txt}\nC: from\n");
        let json = serde_json::to_value(&variables).unwrap();
        let expected =
            serde_json::json!({"A": {"from_env": "X"}, "B": {"from_file": "key.txt"}, "C": "from"});
        assert_eq!(json, expected);
        assert_eq!(
            serde_json::from_value::<Variables>(json).unwrap(),
            variables
        );
        let shown = format!("{variables:?}");
        assert!(
            shown.contains("from_env X") && !shown.contains("\"from\""),
            "{shown}"
        );
        for wrong in ["A: {form_env: X}", "A: [1]", "A: {from_env: X, b: 1}"] {
            assert!(
                serde_saphyr::from_str::<Variables>(wrong).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn secrets_come_from_the_environment_and_from_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "canary-2\r\n").unwrap();
        let secrets = Secrets::new([("X".to_owned(), "canary-1".to_owned())]);
        let variables = read("A: {from_env: X}\nB: {from_file: key}\nC: open");
        let resolved = variables.resolve(dir.path(), &secrets).unwrap();
        let env: Vec<_> = resolved.env.iter().collect();
        assert_eq!(env, [("A", "canary-1"), ("B", "canary-2"), ("C", "open")]);
        assert!(!format!("{secrets:?}").contains("canary"));
    }

    #[test]
    fn what_cannot_be_resolved_is_named_without_its_value() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("zero"), "canary\0x").unwrap();
        std::fs::write(dir.path().join("large"), "canary".repeat(20_000)).unwrap();
        let cases = [
            ("A: {from_env: NOPE}", "`NOPE`"),
            ("A: {from_file: nope}", "nope cannot be read"),
            ("A: {from_file: zero}", "zero byte"),
            ("A: {from_file: large}", "larger than"),
        ];
        for (yaml, part) in cases {
            let failed = read(yaml).resolve(dir.path(), &Secrets::default());
            let error = failed.err().unwrap();
            let text = format!("{error} {error:?}");
            assert!(text.contains(part) && text.contains('A'), "{text}");
            assert!(!text.contains("canary"), "{text}");
            assert!(!error.retryable() && error.kind() == "secret_not_found");
        }
    }
}
