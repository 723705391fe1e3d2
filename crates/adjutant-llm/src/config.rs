//! The `models:` block of a project's configuration.

pub(crate) mod known;
pub(crate) mod secret;
pub(crate) mod time;

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use adjutant_core::Json;
use serde::Deserialize;

use crate::{
    config::{known::Wire, secret::SecretRef},
    price::Price,
    script::cassette::CassetteMode,
};

/// Why a configuration, script or cassette cannot be used; all problems at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self(vec![problem.into()])
    }

    pub(crate) const fn all(problems: Vec<String>) -> Self {
        Self(problems)
    }

    /// The problems, each with what would be right.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

/// Everything about models: providers, names for models, limits, prices. All of it is optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelsConfig {
    /// The model of requests that name none.
    pub default: Option<String>,
    /// Providers by name; those that are known by name need no entry.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// Names for models. May not hold a `/`.
    pub aliases: BTreeMap<String, ModelSpec>,
    /// Prices by `provider/model` pattern; they come before the built-in ones.
    pub prices: BTreeMap<String, Price>,
    /// When failed calls are tried again.
    pub retry: RetryConfig,
    /// Keep answers and give them again to equal requests; absent keeps none.
    pub cache: Option<CacheConfig>,
    /// Record all calls into a file or answer them from it; absent asks the providers.
    pub cassette: Option<CassetteConfig>,
}

/// How one provider is reached.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderConfig {
    /// What it speaks. Default: as its name is known, else `openai`.
    pub wire: Option<Wire>,
    /// Where it is, up to and including `/v1` and the like. Needed for providers that are not known by name.
    pub base_url: Option<String>,
    /// Its key. Default: the usual variable of providers known by name, none for others.
    pub api_key: Option<SecretRef>,
    /// Further headers of every request.
    pub headers: BTreeMap<String, SecretRef>,
    /// HTTP proxy, such as `http://proxy:3128`. Default: none; the environment is not looked at.
    pub proxy: Option<String>,
    /// Other names for this provider's models: `provider/name` -> the provider's own name.
    pub models: BTreeMap<String, String>,
    /// Calls at the same time. Default: any number.
    pub max_concurrent: Option<NonZeroUsize>,
    /// Calls that may wait for a place; more fail as overloaded. Default 1000.
    pub max_queued: Option<usize>,
    /// Calls that may begin within a minute. Default: any number.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens, sent and received, within a minute. Default: any number.
    pub tokens_per_minute: Option<NonZeroU64>,
    /// How long to wait for what.
    pub timeout: Timeouts,
    /// Whether to ask for the reasoning, with what the provider needs to go on from it. Default: where the model is known
    /// to have it.
    pub reasoning: Option<bool>,
}

/// How long to wait for what. Text such as `30s`, or seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For the connection. Default 10 s.
    #[serde(deserialize_with = "time::deserialize")]
    pub connect: Duration,
    /// From the request to the first event of the answer. Default 5 min: some models think first and speak later.
    #[serde(deserialize_with = "time::deserialize")]
    pub first_byte: Duration,
    /// Between two events of an answer. Default 5 min: some models are silent while they think.
    #[serde(deserialize_with = "time::deserialize")]
    pub idle: Duration,
    /// For one try, all in all. Default 20 min.
    #[serde(deserialize_with = "time::deserialize")]
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(300),
            idle: Duration::from_secs(300),
            total: Duration::from_secs(1200),
        }
    }
}

/// A model with what is to be asked of it: `provider/model`, or a map.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "SpecForm")]
pub struct ModelSpec {
    /// `provider/model` or another alias.
    pub model: String,
    /// Who answers when this model cannot, in order: `provider/model` or aliases.
    pub fallback: Vec<String>,
    /// For requests that say nothing about it.
    pub temperature: Option<f64>,
    /// For requests that say nothing about it.
    pub max_output_tokens: Option<u32>,
    /// For requests that say nothing about it.
    pub reasoning_effort: Option<String>,
    /// For requests that say nothing about it: fields that only this provider understands.
    pub extra: Json,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`provider/model`, or a map with `model`")]
enum SpecForm {
    Name(String),
    Map(SpecMap),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpecMap {
    model: String,
    #[serde(default)]
    fallback: Vec<String>,
    temperature: Option<f64>,
    max_output_tokens: Option<u32>,
    reasoning_effort: Option<String>,
    // Not `Json`: an untagged form has been read into values already.
    #[serde(default)]
    extra: serde_json::Value,
}

impl From<SpecForm> for ModelSpec {
    fn from(form: SpecForm) -> Self {
        match form {
            SpecForm::Name(model) => Self {
                model,
                ..Self::default()
            },
            SpecForm::Map(map) => Self {
                model: map.model,
                fallback: map.fallback,
                temperature: map.temperature,
                max_output_tokens: map.max_output_tokens,
                reasoning_effort: map.reasoning_effort,
                extra: map.extra.into(),
            },
        }
    }
}

/// When failed calls are tried again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Tries in all, the first included. Default 4.
    pub max_attempts: NonZeroU32,
    /// Delay before the second try; it doubles with each further one. Default 500 ms.
    #[serde(deserialize_with = "time::deserialize")]
    pub base: Duration,
    /// Longest delay; a provider that wants a longer one gets no further try. Default 60 s.
    #[serde(deserialize_with = "time::deserialize")]
    pub max_delay: Duration,
    /// No try begins later than this after the first one did. Default 3 min.
    #[serde(deserialize_with = "time::deserialize")]
    pub max_elapsed: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: NonZeroU32::MIN.saturating_add(3),
            base: Duration::from_millis(500),
            max_delay: Duration::from_secs(60),
            max_elapsed: Duration::from_secs(180),
        }
    }
}

/// A store of answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// How long an answer is good. Default 1 h.
    #[serde(deserialize_with = "time::deserialize")]
    pub ttl: Duration,
    /// Answers at most; the one used longest ago goes first. Default 1000.
    pub max_entries: NonZeroUsize,
    /// Bytes of requests and answers at most. Default 64 MiB.
    pub max_bytes: NonZeroUsize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3600),
            max_entries: NonZeroUsize::MIN.saturating_add(999),
            max_bytes: NonZeroUsize::MIN.saturating_add((64 << 20) - 1),
        }
    }
}

/// A file of recorded calls.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CassetteConfig {
    /// The file, one JSON object a line.
    pub file: PathBuf,
    /// What it is for.
    #[serde(default)]
    pub mode: CassetteMode,
}
