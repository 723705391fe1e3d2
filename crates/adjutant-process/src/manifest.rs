//! `agent.yaml`: what has to be known of a program to run it as an agent.

pub(crate) mod parse;

use std::{fmt, num::NonZeroU32, time::Duration};

use adjutant_confine::{Isolation, Network};
use adjutant_core::RetryPolicy;
use serde::{Deserialize, Serialize};

pub use self::parse::{ManifestError, read_yaml};
use crate::{
    limits::Limits,
    pool::PoolConfig,
    secrets::{Variable, Variables},
    units::{ByteSize, duration, maybe_duration},
};

/// Longest name of an agent.
const MAX_NAME_CHARS: usize = 64;

/// What the store takes as a result; it leaves room for a checkpoint in the same 16 MiB line of the wire.
const MAX_PAYLOAD: ByteSize = ByteSize(4 << 20);

/// How a program is run as an agent. The reference is `docs/reference/agent-manifest.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The agent's key: letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// The program's version, in whatever scheme it uses.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// What the agent does, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Program and arguments; runs in the manifest's folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Program and arguments to run in the manifest's folder before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Vec<String>>,
    /// What the program speaks. Default `wire`.
    #[serde(default)]
    pub protocol: Protocol,
    /// How a program that speaks `wire` is reached. Default `stdio`.
    #[serde(default)]
    pub transport: Transport,
    /// Environment variables, besides the few that are inherited.
    #[serde(default)]
    pub env: Variables,
    /// Longest time that a run may work, waits not counted; absent leaves it to the runtime.
    #[serde(
        default,
        with = "maybe_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<Duration>,
    /// Longest time from start to the answer to `initialize`. Default 10 s.
    #[serde(default = "start_timeout", with = "duration")]
    pub start_timeout: Duration,
    /// Time between TERM and KILL, and between a request to cancel and the end. Default 5 s.
    #[serde(default = "stop_grace", with = "duration")]
    pub stop_grace: Duration,
    /// How often a busy agent has to be heard of; three missed intervals end the attempt. Default 10 s, at least 0.1 s.
    #[serde(default = "heartbeat", with = "duration")]
    pub heartbeat: Duration,
    /// How often and how patiently a failed attempt is repeated. Default 3 attempts.
    #[serde(default, deserialize_with = "parse::retry")]
    pub retry: RetryPolicy,
    /// Largest input. Default 1 MiB, at most 4 MiB.
    #[serde(default = "one_mebibyte")]
    pub max_input_bytes: ByteSize,
    /// Largest output. Default 1 MiB, at most 4 MiB.
    #[serde(default = "one_mebibyte")]
    pub max_output_bytes: ByteSize,
    /// What its processes may use.
    #[serde(default)]
    pub limits: Limits,
    /// What its processes may see and change: a profile, or a profile with more. Default `open`.
    #[serde(default, deserialize_with = "parse::isolation")]
    pub isolation: Isolation,
    /// What its processes reach by network; absent is what the profile says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Processes that are kept for the next run; absent means that each attempt has one of its own. Only for `wire`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolConfig>,
    /// Most processes that a worker has of it at once; an attempt that would need one more fails with
    /// `too_many_instances` and is tried again. Absent means as many as there are runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_instances: Option<NonZeroU32>,
    /// How many runs may be under way at once; absent means as many as the workers take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
}

/// What a program speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The agent wire: JSON-RPC lines on stdin and stdout.
    #[default]
    Wire,
    /// Any command: input on stdin, answer on stdout, exit status 0.
    Exec,
    /// A server on the loopback, at the port in `PORT`: `GET /ping` and `POST /invocations`.
    Http,
}

/// How a program that speaks the agent wire is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// On its stdin and stdout.
    #[default]
    Stdio,
    /// It connects to a private Unix socket.
    Unix,
    /// It connects to a WebSocket on the loopback interface.
    WebSocket,
}

/// A bound on runs that are under way at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// Runs with the same key share the bound. Default: the agent's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many.
    pub limit: NonZeroU32,
}

const fn start_timeout() -> Duration {
    Duration::from_secs(10)
}

const fn stop_grace() -> Duration {
    Duration::from_secs(5)
}

const fn heartbeat() -> Duration {
    Duration::from_secs(10)
}

const fn one_mebibyte() -> ByteSize {
    ByteSize(1 << 20)
}

/// Something about a manifest that cannot be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, such as `retry.jitter`.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.field, self.problem)
    }
}

impl Manifest {
    /// A manifest with defaults for everything but name and command.
    #[must_use]
    pub fn new<C: Into<String>>(
        name: impl Into<String>,
        command: impl IntoIterator<Item = C>,
    ) -> Self {
        Self {
            name: name.into(),
            version: String::new(),
            description: String::new(),
            command: command.into_iter().map(Into::into).collect(),
            build: None,
            protocol: Protocol::default(),
            transport: Transport::default(),
            env: Variables::default(),
            timeout: None,
            start_timeout: start_timeout(),
            stop_grace: stop_grace(),
            heartbeat: heartbeat(),
            retry: RetryPolicy::default(),
            max_input_bytes: one_mebibyte(),
            max_output_bytes: one_mebibyte(),
            limits: Limits::default(),
            isolation: Isolation::default(),
            network: None,
            pool: None,
            max_instances: None,
            concurrency: None,
        }
    }

    /// What its processes may see, change and reach.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        Isolation {
            network: self.network,
            ..self.isolation.clone()
        }
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// All problems at once.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        let mut need = |holds: bool, field, problem: &str| {
            if !holds {
                let problem = problem.to_owned();
                problems.push(Problem { field, problem });
            }
        };
        self.check_names(&mut need);
        self.check_bounds(&mut need);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    fn check_names(&self, need: &mut impl FnMut(bool, &'static str, &str)) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let good_name = self.name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && self.name.chars().all(plain)
            && self.name.len() <= MAX_NAME_CHARS;
        need(
            good_name,
            "name",
            "use 1 to 64 letters, digits, `-`, `_` or `.`, beginning with a letter or digit",
        );
        let names_a_program =
            |argv: &[String]| argv.first().is_some_and(|program| !program.is_empty());
        need(
            names_a_program(&self.command),
            "command",
            "name a program, such as `[python3, agent.py]`, or for an agent without one, a `model`",
        );
        if let Some(build) = &self.build {
            let example = "name a program, such as `[make]`, or leave `build` out";
            need(names_a_program(build), "build", example);
        }
        let good_variable = |(name, variable): (&str, &Variable)| {
            let zero = matches!(variable, Variable::Text(text) if text.contains('\0'));
            !name.is_empty() && !name.contains(['=', '\0']) && !zero
        };
        need(
            self.env.iter().all(good_variable),
            "env",
            "names must not be empty or hold `=`, and nothing may hold a zero byte",
        );
    }

    fn check_isolation(&self, need: &mut impl FnMut(bool, &'static str, &str)) {
        let isolation = self.isolation();
        if let Some(contradiction) = isolation.contradiction() {
            need(false, "network", &contradiction);
        }
        let reached = self.protocol != Protocol::Http || isolation.network() == Network::Host;
        let (stdio, tcp) = (Transport::Stdio, Transport::WebSocket);
        need(
            self.transport == stdio || self.protocol == Protocol::Wire,
            "transport",
            "is for `protocol: wire`; leave it out",
        );
        need(
            self.transport != tcp || isolation.network() == Network::Host,
            "transport",
            "`websocket` is spoken over the machine's loopback interface: add `network: host`, or use `unix`",
        );
        need(
            reached,
            "protocol",
            "`http` is spoken over the machine's loopback interface: add `network: host`",
        );
    }

    fn check_pool(&self, need: &mut impl FnMut(bool, &'static str, &str)) {
        let Some(pool) = &self.pool else { return };
        pool.check(need);
        need(
            self.protocol == Protocol::Wire,
            "pool",
            "needs `protocol: wire`; other programs take one run only",
        );
        need(
            self.max_instances.is_none_or(|most| pool.max <= most),
            "max_instances",
            "must not be less than `pool.max`",
        );
        let Limits {
            duration,
            idle,
            output,
            ..
        } = self.limits;
        need(
            duration.is_none() && idle.is_none() && output.is_none(),
            "pool",
            "cannot be had with `limits.duration`, `limits.idle` or `limits.output`, which count for a process and not for \
             a run; use `timeout`, `heartbeat` and `max_output_bytes`",
        );
    }

    fn check_bounds(&self, need: &mut impl FnMut(bool, &'static str, &str)) {
        let positive = "must be longer than 0";
        need(
            self.timeout.is_none_or(|t| !t.is_zero()),
            "timeout",
            positive,
        );
        need(!self.start_timeout.is_zero(), "start_timeout", positive);
        need(
            self.heartbeat >= Duration::from_millis(100),
            "heartbeat",
            "must be at least 100ms",
        );
        need(
            (0.0..=1.0).contains(&self.retry.jitter),
            "retry.jitter",
            "is a share from 0 to 1",
        );
        need(
            self.retry.backoff_base.is_finite() && self.retry.backoff_base >= 0.0,
            "retry.backoff_base",
            "is a number of seconds, 0 or more",
        );
        let size = |size: ByteSize| size.0 > 0 && size <= MAX_PAYLOAD;
        let sizes = "must be between 1B and 4MiB";
        need(size(self.max_input_bytes), "max_input_bytes", sizes);
        need(size(self.max_output_bytes), "max_output_bytes", sizes);
        self.limits.check(need);
        self.check_isolation(need);
        self.check_pool(need);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_at_once() {
        let manifest = Manifest {
            build: Some(Vec::new()),
            timeout: Some(Duration::ZERO),
            max_output_bytes: ByteSize(5 << 20),
            ..Manifest::new("my agent", Vec::<String>::new())
        };
        let problems = manifest.validate().unwrap_err();
        let fields: Vec<&str> = problems.iter().map(|problem| problem.field).collect();
        assert_eq!(
            fields,
            ["name", "command", "build", "timeout", "max_output_bytes"]
        );
    }

    #[test]
    fn a_new_manifest_is_valid() {
        assert_eq!(Manifest::new("a", ["true"]).validate(), Ok(()));
    }
}
