//! Variables and headers with their values.

use std::{fs::File, io::Read, path::Path};

use adjutant_process::{Variable, Variables};

use crate::locate::Lookup;

/// Largest file that a value is read from.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Shorter values are in every other word, and no secrets.
const MIN_SECRET_BYTES: usize = 4;

/// What is shown instead of a secret.
const MASK: &str = "***";

/// Values by name, and those among them that nobody may see.
#[derive(Clone, Default)]
pub(crate) struct Resolved {
    pub(crate) values: Vec<(String, String)>,
    pub(crate) hidden: Hidden,
}

/// Values that nobody may see.
#[derive(Clone, Default)]
pub(crate) struct Hidden(Vec<String>);

impl Hidden {
    fn add(&mut self, value: &str) {
        if value.len() >= MIN_SECRET_BYTES {
            self.0.push(value.to_owned());
            // The longest first, for one may begin with another.
            self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }

    /// The text without secrets.
    pub(crate) fn mask(&self, text: &str) -> String {
        let mask = |text: String, secret: &String| text.replace(secret, MASK);
        self.0.iter().fold(text.to_owned(), mask)
    }
}

/// Looks up what is referred to. The error names the variable and never the value.
pub(crate) fn resolve(
    field: &str,
    variables: &Variables,
    dir: &Path,
    lookup: &Lookup,
) -> Result<Resolved, String> {
    let mut resolved = Resolved::default();
    for (name, variable) in variables.iter() {
        let failed = |problem: String| format!("`{field}.{name}`: {problem}");
        let (value, secret) = value(variable, dir, lookup).map_err(failed)?;
        if value.contains(['\0', '\n']) && field == "headers" || value.contains('\0') {
            return Err(failed(
                "its value has bytes in it that may not be there".into(),
            ));
        }
        if secret {
            resolved.hidden.add(&value);
        }
        resolved.values.push((name.to_owned(), value));
    }
    Ok(resolved)
}

/// A value, and whether nobody may see it.
pub(crate) fn value(
    variable: &Variable,
    dir: &Path,
    lookup: &Lookup,
) -> Result<(String, bool), String> {
    match variable {
        Variable::Text(text) => expand(text, lookup),
        Variable::FromEnv(name) => Ok((from_env(name, lookup)?, true)),
        Variable::FromFile(file) => Ok((from_file(&dir.join(file))?, true)),
        _ => Err("refers to what is not known here".into()),
    }
}

fn from_env(name: &str, lookup: &Lookup) -> Result<String, String> {
    let missing = || format!("the runtime has no variable `{name}`; export it and start again");
    lookup(name).ok_or_else(missing)
}

/// Replaces `${NAME}` and `${NAME:-default}`, as other programs do.
pub(crate) fn expand(text: &str, lookup: &Lookup) -> Result<(String, bool), String> {
    let mut expanded = String::new();
    let mut secret = false;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, tail) = after
            .split_once('}')
            .ok_or_else(|| "`${` has no `}`".to_owned())?;
        expanded.push_str(before);
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        match (lookup(name), default) {
            (Some(value), _) => {
                expanded.push_str(&value);
                secret = true;
            }
            (None, Some(default)) => expanded.push_str(default),
            (None, None) => return from_env(name, lookup).map(|value| (value, true)),
        }
        rest = tail;
    }
    expanded.push_str(rest);
    Ok((expanded, secret))
}

fn from_file(file: &Path) -> Result<String, String> {
    let shown = file.display();
    let mut text = String::new();
    let read = File::open(file)
        .and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(count) if count as u64 > MAX_FILE_BYTES => {
            Err(format!("{shown} is larger than {MAX_FILE_BYTES} bytes"))
        }
        Ok(_) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(format!("{shown} cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn resolved(variables: Value, dir: &Path) -> Result<Resolved, String> {
        let lookup: Lookup = Arc::new(|name| (name == "TOKEN").then(|| "s3cret".to_owned()));
        let variables: Variables = serde_json::from_value(variables).unwrap();
        resolve("env", &variables, dir, &lookup)
    }

    #[test]
    fn references_are_followed_and_masked_and_text_is_neither() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "from-file\n").unwrap();
        let variables = json!({
            "A": {"from_env": "TOKEN"}, "B": {"from_file": "key"}, "C": "Bearer ${TOKEN}", "D": "${NONE:-plain}",
        });
        let resolved = resolved(variables, dir.path()).unwrap();
        let values: Vec<&str> = resolved.values.iter().map(|(_, v)| v.as_str()).collect();
        assert_eq!(values, ["s3cret", "from-file", "Bearer s3cret", "plain"]);
        assert_eq!(
            resolved.hidden.mask("s3cret and from-file, plain"),
            "*** and ***, plain"
        );
    }

    #[test]
    fn a_missing_secret_names_its_variable() {
        for variables in [
            json!({ "A": {"from_env": "NONE"} }),
            json!({ "A": "x ${NONE}" }),
            json!({ "A": {"from_file": "/nowhere"} }),
        ] {
            let error = resolved(variables, Path::new("/")).err().unwrap();
            assert!(error.starts_with("`env.A`: "), "{error}");
        }
    }
}
