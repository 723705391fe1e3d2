//! Which servers there are and how they are treated: the `mcpServers` map that other programs read too, and our own keys.

mod check;
mod read;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    time::Duration,
};

use adjutant_confine::{Isolation, Network};
use adjutant_core::Effect;
use adjutant_process::{Limits, Variables};
use serde::{Deserialize, Serialize};

use self::read::{isolation, maybe_time, time};
pub use self::{check::Problem, read::ConfigError};
use crate::{locate::Lookup, secrets::expand};

/// Servers by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServersConfig {
    /// The servers, as other programs have them: `{"mcpServers": {"files": {"command": "…"}}}`.
    #[serde(rename = "mcpServers", alias = "mcp_servers")]
    pub servers: BTreeMap<String, ServerConfig>,
}

/// One server: a program (`command`) or an address (`url`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// `stdio` or `http`; follows from `command` or `url` where absent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment, besides the few variables that every process has: text (where `${NAME}` is a variable of the
    /// runtime's own), `{from_env: NAME}` or `{from_file: PATH}`.
    pub env: Variables,
    /// The folder it runs in. Default: the configuration's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// The address of a server of the streamable HTTP transport.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Headers of each request to it; like `env`.
    pub headers: Variables,
    /// Not to be used at all. Default false.
    pub disabled: bool,
    /// Whether runs go without its tools while it does not come up; else they fail and are tried again. Default false.
    pub optional: bool,
    /// Who shares one process or connection. Default: `shared` where the server keeps nothing between calls (it speaks the
    /// stateless revision, or `stateless` says so), else `agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Whether it keeps nothing between calls. Default: by the protocol revision it speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stateless: Option<bool>,
    /// Whether it takes one call at a time. Default false.
    pub serial: bool,
    /// Calls at a time. Default 8.
    pub concurrency: NonZeroU32,
    /// Calls that may wait for their turn; one more is told to come back later. Default 256.
    pub queue: u32,
    /// Longest time from the start of the program to its list of tools. Default 30 s.
    #[serde(with = "time")]
    pub start_timeout: Duration,
    /// Longest time without an answer or a notice of progress. Default 60 s.
    #[serde(with = "time")]
    pub call_timeout: Duration,
    /// Longest time for a call, however much progress it makes. Default 10 min.
    #[serde(with = "time")]
    pub max_call_time: Duration,
    /// Which of its tools may be seen and called. Default all.
    pub tools: ToolFilter,
    /// What its tools do to the world, by their own names, where its annotations are not to be believed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub effects: BTreeMap<String, Effect>,
    /// Whether to believe the annotations. Default true.
    pub trust_annotations: bool,
    /// Calls in a time. Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// How long it is kept when nobody uses it. Default 5 min.
    #[serde(with = "time")]
    pub idle_shutdown: Duration,
    /// Whether to start it before it is needed. Default false.
    pub prewarm: bool,
    /// What happens when it dies.
    pub restart: Restart,
    /// What its process may see and change: a profile, or a profile with more. Default `open`.
    #[serde(deserialize_with = "isolation")]
    pub isolation: Isolation,
    /// What its process reaches by network; absent is what the profile says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// What its process and all its descendants may use.
    pub limits: Limits,
    /// Folders and addresses it is told to work in, where it asks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<String>,
    /// Whether an `url` may lead into a private network. Default false; loopback is always fine when it is written as such.
    pub allow_private_network: bool,
    /// How to get tokens for an `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OAuth>,
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A program of this machine, on its stdin and stdout.
    Stdio,
    /// The streamable HTTP transport.
    #[serde(alias = "streamable-http", alias = "streamableHttp")]
    Http,
}

/// Who shares one process or connection. Never across tenants and principals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everybody.
    Shared,
    /// The runs of one agent.
    Agent,
    /// One run.
    Run,
}

/// Tools by their own names; `*` at the end stands for any rest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolFilter {
    /// Only these, where there are any.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub allow: BTreeSet<String>,
    /// Not these, whatever `allow` says.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub deny: BTreeSet<String>,
}

/// So many calls in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// How many.
    pub calls: NonZeroU32,
    /// In how much time.
    #[serde(with = "time")]
    pub per: Duration,
}

/// What happens when a server dies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restart {
    /// How often it is started again before it is given up for a while. Default 3.
    pub max: u32,
    /// Time before the first of these starts; doubled for each one after it. Default 0.5 s.
    #[serde(with = "time")]
    pub delay: Duration,
    /// The longest of these times. Default 30 s.
    #[serde(with = "time")]
    pub max_delay: Duration,
    /// Time after which a server counts as healthy again. Default 60 s.
    #[serde(with = "time")]
    pub reset_after: Duration,
    /// How long it is given up. Default 60 s.
    #[serde(with = "time")]
    pub open_for: Duration,
}

/// How to get tokens for a server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OAuth {
    /// Who says that we may. Default: `client_credentials` where there is a secret, else `authorization_code`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// The client's name at the authorization server. Default: a client is registered at each login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its secret, by reference like those of `env`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<adjutant_process::Variable>,
    /// The address of a document that describes the client, used where the authorization server reads such documents and
    /// there is no `client_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_metadata_url: Option<String>,
    /// What to ask for. Default for a login: what the server names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Where on this machine a login comes back to. Default: any free port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_port: Option<NonZeroU16>,
    /// Longest time to get a token. Default 10 s.
    #[serde(with = "maybe_time", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// Who says that we may use a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// The client itself, by its secret.
    ClientCredentials,
    /// A person with a browser, once.
    AuthorizationCode,
}

impl OAuth {
    /// Who says that we may.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let follows = match self.client_secret {
            Some(_) => Flow::ClientCredentials,
            None => Flow::AuthorizationCode,
        };
        self.flow.unwrap_or(follows)
    }
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            max: 3,
            delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
            reset_after: Duration::from_secs(60),
            open_for: Duration::from_secs(60),
        }
    }
}

impl ServerConfig {
    /// The same server with `${NAME}` and `${NAME:-default}` in its arguments replaced. Arguments are seen by everybody on
    /// the machine: a secret belongs into `env`.
    ///
    /// # Errors
    /// Names a variable that is not there.
    pub fn expanded(mut self, lookup: &Lookup) -> Result<Self, String> {
        for argument in &mut self.args {
            let (value, _) =
                expand(argument, lookup).map_err(|problem| format!("`args`: {problem}"))?;
            *argument = value;
        }
        Ok(self)
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            kind: None,
            command: None,
            args: Vec::new(),
            env: Variables::default(),
            cwd: None,
            url: None,
            headers: Variables::default(),
            disabled: false,
            optional: false,
            scope: None,
            stateless: None,
            serial: false,
            concurrency: NonZeroU32::MIN.saturating_add(7),
            queue: 256,
            start_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(60),
            max_call_time: Duration::from_secs(600),
            tools: ToolFilter::default(),
            effects: BTreeMap::new(),
            trust_annotations: true,
            rate_limit: None,
            idle_shutdown: Duration::from_secs(300),
            prewarm: false,
            restart: Restart::default(),
            isolation: Isolation::default(),
            network: None,
            limits: Limits::default(),
            roots: Vec::new(),
            allow_private_network: false,
            oauth: None,
        }
    }
}

impl ServerConfig {
    /// A program of this machine.
    #[must_use]
    pub fn program<A: Into<String>>(
        command: impl Into<String>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            command: Some(command.into()),
            args: args.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// A server at an address.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: Some(url.into()),
            ..Self::default()
        }
    }

    /// How it is reached.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let follows = if self.url.is_some() {
            Kind::Http
        } else {
            Kind::Stdio
        };
        self.kind.unwrap_or(follows)
    }

    /// Calls at a time.
    #[must_use]
    pub fn at_once(&self) -> usize {
        if self.serial {
            1
        } else {
            self.concurrency.get() as usize
        }
    }
}

impl ToolFilter {
    /// Whether a tool may be seen and called.
    #[must_use]
    pub fn admits(&self, tool: &str) -> bool {
        let names = |set: &BTreeSet<String>| {
            set.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => tool.starts_with(start),
                None => pattern == tool,
            })
        };
        (self.allow.is_empty() || names(&self.allow)) && !names(&self.deny)
    }
}
