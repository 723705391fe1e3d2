//! Who shares a server with whom.

use std::{
    collections::hash_map::RandomState,
    fmt::Write as _,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use adjutant_tools::Caller;
use serde::Serialize;

use crate::{
    config::{Scope, ServerConfig},
    secrets::Resolved,
};

/// Secrets are told apart by a number that means nothing outside this process.
static SALT: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What two callers must have in common to share a server: everything it is started with, the tenant, the principal, and
/// for smaller scopes the agent or the run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn new(
        server: &str,
        config: &ServerConfig,
        values: &Resolved,
        scope: Scope,
        caller: &Caller,
    ) -> Self {
        let mut text = Self::of_server(server, config, values).0;
        // Lengths and debug quotes keep parts apart, whatever is in them.
        let _ = write!(text, "{:?}{:?}{scope:?}", caller.tenant, caller.principal);
        match scope {
            Scope::Shared => {}
            Scope::Agent => {
                let _ = write!(text, "{:?}", caller.agent.to_string());
            }
            Scope::Run => {
                let _ = write!(text, "{}", caller.run);
            }
        }
        Self(text)
    }

    /// The part that does not depend on the caller.
    pub(crate) fn of_server(server: &str, config: &ServerConfig, values: &Resolved) -> Self {
        let versions: Vec<(&str, u64)> = values
            .values
            .iter()
            .map(|(name, value)| (name.as_str(), SALT.hash_one(value)))
            .collect();
        let ServerConfig {
            command,
            args,
            cwd,
            url,
            isolation,
            network,
            limits,
            oauth,
            ..
        } = config;
        Self(format!(
            "{server:?}{command:?}{args:?}{cwd:?}{url:?}{versions:?}{isolation:?}{network:?}{limits:?}{oauth:?}"
        ))
    }

    /// A short name for logs and lists.
    pub(crate) fn short(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        format!("{:012x}", hasher.finish() & 0xffff_ffff_ffff)
    }
}

/// The scope of a server that nobody chose one for: only what keeps nothing between calls is for everybody.
pub(crate) fn scope(config: &ServerConfig, modern: bool) -> Scope {
    let stateless = config.stateless.unwrap_or(modern);
    let default = if stateless {
        Scope::Shared
    } else {
        Scope::Agent
    };
    config.scope.unwrap_or(default)
}

/// A caller, for those who list servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The agent, for servers of smaller scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The run, for servers of one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

impl Owner {
    pub(crate) fn new(scope: Scope, caller: &Caller) -> Self {
        Self {
            agent: (scope != Scope::Shared).then(|| caller.agent.to_string()),
            run: (scope == Scope::Run).then(|| caller.run.to_string()),
            tenant: caller.tenant.clone(),
            principal: caller.principal.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use adjutant_core::RunId;

    use super::*;

    fn caller(agent: &str, tenant: Option<&str>, principal: Option<&str>) -> Caller {
        Caller {
            tenant: tenant.map(str::to_owned),
            principal: principal.map(str::to_owned),
            ..Caller::new(agent, RunId::new())
        }
    }

    fn key(scope: Scope, caller: &Caller) -> Key {
        let config = ServerConfig::program("x", ["y"]);
        Key::new("s", &config, &Resolved::default(), scope, caller)
    }

    #[test]
    fn tenants_and_principals_never_share_and_the_scope_says_who_else_does() {
        let one = caller("a", Some("t"), Some("p"));
        let cases = [
            (caller("a", Some("t"), Some("p")), [true, true, false]),
            (caller("b", Some("t"), Some("p")), [true, false, false]),
            (caller("a", Some("u"), Some("p")), [false; 3]),
            (caller("a", Some("t"), Some("q")), [false; 3]),
            (caller("a", Some("t"), None), [false; 3]),
            (caller("a", None, Some("p")), [false; 3]),
        ];
        let scopes = [Scope::Shared, Scope::Agent, Scope::Run];
        for (other, shares) in cases {
            for (scope, shares) in scopes.into_iter().zip(shares) {
                let same = key(scope, &one) == key(scope, &other);
                assert_eq!(same, shares, "{scope:?} {other:?}");
            }
        }
    }

    #[test]
    fn another_secret_is_another_server_and_is_not_in_the_key() {
        let with = |value: &str| {
            let values = Resolved {
                values: vec![("TOKEN".to_owned(), value.to_owned())],
                ..Resolved::default()
            };
            Key::of_server("s", &ServerConfig::default(), &values)
        };
        assert_eq!(with("s3cret"), with("s3cret"));
        assert_ne!(with("s3cret"), with("other"));
        assert!(!format!("{:?}", with("s3cret")).contains("s3cret"));
    }

    #[test]
    fn only_what_keeps_nothing_is_shared_by_default() {
        let mut config = ServerConfig::default();
        assert_eq!(scope(&config, false), Scope::Agent);
        assert_eq!(scope(&config, true), Scope::Shared);
        config.stateless = Some(false);
        assert_eq!(scope(&config, true), Scope::Agent);
        config.stateless = Some(true);
        assert_eq!(scope(&config, false), Scope::Shared);
        config.scope = Some(Scope::Run);
        assert_eq!(scope(&config, true), Scope::Run);
    }
}
