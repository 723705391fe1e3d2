//! What a configuration cannot mean.

use std::fmt;

use adjutant_process::Variable;

use super::{Flow, Kind, OAuth, ServerConfig, ServersConfig};
use crate::names;

/// Something about a configuration that cannot be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, such as `mcpServers.files.url`.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.field, self.problem)
    }
}

impl ServersConfig {
    /// Everything that cannot be right, all at once.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, server) in &self.servers {
            let mut need = |holds: bool, field: &str, problem: &str| {
                if !holds {
                    let dot = if field.is_empty() { "" } else { "." };
                    let field = format!("mcpServers.{name}{dot}{field}");
                    let problem = problem.to_owned();
                    problems.push(Problem { field, problem });
                }
            };
            if let Err(problem) = names::check_server(name) {
                need(false, "", &problem);
            }
            server.check(&mut need);
        }
        problems
    }
}

impl ServerConfig {
    fn check(&self, need: &mut impl FnMut(bool, &str, &str)) {
        match (&self.command, &self.url) {
            (None, None) => need(false, "", "has neither `command` nor `url`"),
            (Some(_), Some(_)) => need(false, "url", "a server has either `command` or `url`"),
            (Some(command), None) => {
                need(!command.trim().is_empty(), "command", "names no program");
                need(
                    self.kind() == Kind::Stdio,
                    "type",
                    "is `stdio` for a `command`",
                );
            }
            (None, Some(url)) => {
                need(self.kind() == Kind::Http, "type", "is `http` for a `url`");
                check_url(url, need);
            }
        }
        let local = self.kind() == Kind::Stdio;
        need(
            !local || self.headers.iter().next().is_none(),
            "headers",
            "only a server with `url` has headers",
        );
        need(
            !local || self.oauth.is_none(),
            "oauth",
            "only a server with `url` takes tokens; give a program its secrets in `env`",
        );
        need(
            local || self.env.iter().next().is_none(),
            "env",
            "only a server with `command` has an environment; use `headers`",
        );
        self.check_times(need);
        if let Some(oauth) = &self.oauth {
            check_oauth(oauth, need);
        }
    }

    fn check_times(&self, need: &mut impl FnMut(bool, &str, &str)) {
        let positive = "must be longer than 0";
        let times = [
            ("start_timeout", self.start_timeout),
            ("call_timeout", self.call_timeout),
            ("max_call_time", self.max_call_time),
            ("restart.delay", self.restart.delay),
        ];
        for (field, time) in times {
            need(!time.is_zero(), field, positive);
        }
        need(
            self.call_timeout <= self.max_call_time,
            "max_call_time",
            "must not be shorter than `call_timeout`",
        );
        need(
            self.restart.delay <= self.restart.max_delay,
            "restart.max_delay",
            "must not be shorter than `restart.delay`",
        );
        if let Some(limit) = self.rate_limit {
            need(!limit.per.is_zero(), "rate_limit.per", positive);
        }
    }
}

fn check_oauth(oauth: &OAuth, need: &mut impl FnMut(bool, &str, &str)) {
    need(
        !matches!(oauth.client_secret, Some(Variable::Text(_))),
        "oauth.client_secret",
        "is not written here but referred to: `{from_env: NAME}` or `{from_file: PATH}`",
    );
    need(
        oauth.client_id.is_some() || oauth.client_secret.is_none(),
        "oauth.client_id",
        "must be there where a secret is",
    );
    need(
        oauth.flow() == Flow::AuthorizationCode || oauth.client_secret.is_some(),
        "oauth.client_secret",
        "must be there for the flow `client_credentials`",
    );
    let document = oauth.client_metadata_url.as_deref();
    need(
        document.is_none_or(|url| url.starts_with("https://")),
        "oauth.client_metadata_url",
        "begins with `https://`",
    );
}

fn check_url(url: &str, need: &mut impl FnMut(bool, &str, &str)) {
    match reqwest::Url::parse(url) {
        Ok(url) => {
            need(
                matches!(url.scheme(), "http" | "https"),
                "url",
                "begins with `https://` or `http://`",
            );
            need(
                url.username().is_empty() && url.password().is_none(),
                "url",
                "has no user and password in it; use `headers` with a reference",
            );
        }
        Err(error) => need(false, "url", &format!("is no address: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::config::{ConfigError, Scope, ToolFilter};

    fn read(server: &Value) -> Result<ServerConfig, ConfigError> {
        let config = ServersConfig::from_value(json!({ "mcpServers": { "files": server } }))?;
        Ok(config.servers["files"].clone())
    }

    #[test]
    fn the_shape_that_others_write_is_enough() {
        let text = r#"{"mcpServers": {"files": {"command": "npx", "args": ["-y", "x"], "env": {"A": "1"}}}}"#;
        let config = ServersConfig::from_json(text).unwrap();
        let files = &config.servers["files"];
        assert_eq!(
            (files.kind(), files.at_once(), files.scope),
            (Kind::Stdio, 8, None)
        );
        let http = read(&json!({ "type": "http", "url": "https://example.org/mcp" })).unwrap();
        assert_eq!(http.kind(), Kind::Http);
    }

    #[test]
    fn our_own_keys_are_read() {
        let server = read(&json!({
            "command": "x", "scope": "run", "serial": true, "call_timeout": "1m30s", "start_timeout": 5,
            "tools": {"allow": ["read_*"], "deny": ["read_secret"]}, "effects": {"write": "idempotent"},
            "rate_limit": {"calls": 10, "per": "1m"}, "restart": {"max": 1}, "isolation": "workspace",
            "limits": {"memory": "256MiB"}, "env": {"KEY": {"from_env": "SECRET"}},
        }))
        .unwrap();
        assert_eq!((server.scope, server.at_once()), (Some(Scope::Run), 1));
        assert_eq!(server.call_timeout, Duration::from_secs(90));
        assert_eq!(server.restart.max, 1);
    }

    #[test]
    fn an_error_names_the_field() {
        let cases = [
            (json!({ "comand": "x" }), "comand"),
            (
                json!({ "command": "x", "restart": {"max": "no"} }),
                "mcpServers.files.restart.max",
            ),
            (
                json!({ "command": "x", "call_timeout": "soon" }),
                "call_timeout",
            ),
            (
                json!({ "command": "x", "url": "http://a" }),
                "mcpServers.files.url",
            ),
            (json!({}), "mcpServers.files"),
            (json!({ "url": "ftp://a" }), "https://"),
            (json!({ "url": "https://u:p@a" }), "`headers`"),
            (
                json!({ "url": "https://a", "oauth": {"flow": "client_credentials"} }),
                "oauth.client_secret",
            ),
            (
                json!({ "url": "https://a", "oauth": {"client_secret": {"from_env": "A"}} }),
                "oauth.client_id",
            ),
            (
                json!({ "command": "x", "headers": {"A": "b"} }),
                "mcpServers.files.headers",
            ),
            (
                json!({ "command": "x", "call_timeout": 9, "max_call_time": 3 }),
                "max_call_time",
            ),
        ];
        for (server, expected) in cases {
            let error = read(&server).unwrap_err().to_string();
            assert!(error.contains(expected), "{server}: {error}");
        }
    }

    #[test]
    fn deny_comes_before_allow_and_a_star_stands_for_any_rest() {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let filter = ToolFilter {
            allow: set(&["read_*", "list"]),
            deny: set(&["read_secret"]),
        };
        assert!(filter.admits("read_file") && filter.admits("list"));
        assert!(!filter.admits("read_secret") && !filter.admits("write"));
        assert!(ToolFilter::default().admits("anything"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let server = read(&json!({ "command": "x", "call_timeout": "1500ms" })).unwrap();
        let again: ServerConfig =
            serde_json::from_value(serde_json::to_value(&server).unwrap()).unwrap();
        assert_eq!(again, server);
    }
}
