//! Keys: where they come from, and that they are never printed.

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

/// Who knows environment and files. Only a program's `main` side reads them itself; libraries ask.
pub trait KeySource: Send + Sync {
    /// An environment variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a file; relative paths are relative to wherever the configuration is.
    ///
    /// # Errors
    /// When it cannot be read as text.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// Variables by name and no files; for tests and programs that know their keys.
impl KeySource for HashMap<String, String> {
    fn variable(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// A text that is used and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` without the secret, should it hold it.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        if self.0.len() < 4 {
            return text.to_owned();
        }
        text.replace(&*self.0, "[secret]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where a secret comes from: the text itself, `{from_env: NAME}` or `{from_file: PATH}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Form")]
pub enum SecretRef {
    /// The text itself.
    Literal(Secret),
    /// An environment variable.
    FromEnv(String),
    /// A file; white space at its end does not count.
    FromFile(PathBuf),
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a text, `{from_env: NAME}` or `{from_file: PATH}`"
)]
enum Form {
    Literal(String),
    Env(EnvForm),
    File(FileForm),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvForm {
    from_env: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    from_file: PathBuf,
}

impl From<Form> for SecretRef {
    fn from(form: Form) -> Self {
        match form {
            Form::Literal(text) => Self::Literal(Secret::new(text)),
            Form::Env(form) => Self::FromEnv(form.from_env),
            Form::File(form) => Self::FromFile(form.from_file),
        }
    }
}

impl SecretRef {
    /// Fetches the secret.
    ///
    /// # Errors
    /// With what is missing, such as ``environment variable `OPENAI_API_KEY` is not set``.
    pub fn resolve(&self, source: &dyn KeySource) -> Result<Secret, String> {
        match self {
            Self::Literal(secret) => Ok(secret.clone()),
            Self::FromEnv(name) => source
                .variable(name)
                .map(Secret::new)
                .ok_or_else(|| format!("environment variable `{name}` is not set")),
            Self::FromFile(path) => source
                .read(path)
                .map(|text| Secret::new(text.trim_end()))
                .map_err(|error| format!("file `{}` cannot be read: {error}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let reference: SecretRef = serde_json::from_str(r#""sk-very-secret""#).unwrap();
        assert!(!format!("{reference:?}").contains("very"));
        let secret = reference
            .resolve(&HashMap::<String, String>::new())
            .unwrap();
        assert_eq!(secret.expose(), "sk-very-secret");
        assert_eq!(
            secret.redact("key sk-very-secret is wrong"),
            "key [secret] is wrong"
        );
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let reference: SecretRef = serde_json::from_str(r#"{"from_env":"A_KEY"}"#).unwrap();
        let mut source = HashMap::from([("A_KEY".to_owned(), String::new())]);
        assert!(reference.resolve(&source).unwrap_err().contains("`A_KEY`"));
        source.insert("A_KEY".into(), "k".into());
        assert_eq!(reference.resolve(&source).unwrap().expose(), "k");
    }

    #[test]
    fn other_forms_are_refused() {
        assert!(serde_json::from_str::<SecretRef>(r#"{"from_vault":"x"}"#).is_err());
        assert!(serde_json::from_str::<SecretRef>(r#"{"from_env":"x","y":1}"#).is_err());
    }
}
