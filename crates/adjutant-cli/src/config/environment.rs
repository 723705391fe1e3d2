//! Settings from environment variables.

use super::keys::{self, KEYS, Key};

/// Variables with our prefix that are no settings.
const OTHER_VARIABLES: &[&str] = &["ADJUTANT_CONFIG"];

/// One variable that sets something.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub key: &'static str,
    pub variable: String,
    pub value: String,
}

/// Picks the settings out of the environment; a variable of our prefix that sets nothing is a problem.
pub fn read(variables: impl Iterator<Item = (String, String)>) -> (Vec<Found>, Vec<String>) {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    // Our own names come last, so that they win over the aliases.
    let mut own = Vec::new();
    for (variable, value) in variables {
        if value.is_empty() {
            continue;
        }
        if let Some(key) = KEYS.iter().find(|key| key.variable() == variable) {
            own.push(setting(key, variable, value));
        } else if let Some(key) = alias(&variable) {
            found.push(setting(key, variable, value));
        } else if variable == "AGENT_RUNTIME_SQLITE_PATH" {
            let value = format!("sqlite:{value}");
            found.push(Found {
                key: "store.url",
                variable,
                value,
            });
        } else if variable == "AGENT_RUNTIME_REDIS_URL" {
            found.push(Found {
                key: "store.url",
                variable,
                value,
            });
        } else if variable == "AGENT_RUNTIME_QUEUE_BACKEND" {
            match value.as_str() {
                "memory" => found.insert(
                    0,
                    Found {
                        key: "store.url",
                        variable,
                        value: "memory:".to_owned(),
                    },
                ),
                "sqlite" | "redis" => {}
                other => problems.push(format!(
                    "{variable}: `{other}` is not known; memory, sqlite and redis are"
                )),
            }
        } else if variable.starts_with("ADJUTANT_") && !OTHER_VARIABLES.contains(&variable.as_str())
        {
            problems.push(unknown(&variable));
        }
    }
    found.extend(own);
    (found, problems)
}

fn setting(key: &Key, variable: String, value: String) -> Found {
    Found {
        key: key.name,
        variable,
        value,
    }
}

fn alias(variable: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.aliases.contains(&variable))
}

fn unknown(variable: &str) -> String {
    let known: Vec<String> = KEYS.iter().map(Key::variable).collect();
    match keys::nearest(variable, known.iter().map(String::as_str)) {
        Some(near) => {
            format!("the environment variable {variable} sets nothing; did you mean {near}?")
        }
        None => format!("the environment variable {variable} sets nothing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_pairs(pairs: &[(&str, &str)]) -> (Vec<(&'static str, String)>, Vec<String>) {
        let (found, problems) = read(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let found = found
            .into_iter()
            .map(|found| (found.key, found.value))
            .collect();
        (found, problems)
    }

    #[test]
    fn own_names_come_after_aliases() {
        let (found, problems) = read_pairs(&[
            ("ADJUTANT_RUNNER__LEASE_TTL", "20s"),
            ("AGENT_RUNTIME_LEASE_TTL_SECONDS", "60"),
            ("AGENT_RUNTIME_SQLITE_PATH", "a.db"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            found,
            [
                ("runner.lease_ttl", "60".to_owned()),
                ("store.url", "sqlite:a.db".to_owned()),
                ("runner.lease_ttl", "20s".to_owned()),
            ]
        );
    }

    #[test]
    fn a_variable_that_sets_nothing_is_a_problem_that_names_the_nearest() {
        let (_, problems) = read_pairs(&[
            ("ADJUTANT_RUNNER__LEASE_TLL", "20s"),
            ("ADJUTANT_CONFIG", "x"),
        ]);
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].contains("did you mean ADJUTANT_RUNNER__LEASE_TTL?"),
            "{problems:?}"
        );
    }
}
