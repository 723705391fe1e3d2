//! From a provider's configuration to a model with limits and retries.

use std::{collections::BTreeMap, sync::Arc};

use super::names::SCRIPTED;
use crate::{
    Connection, KeySource, LanguageModel, Limited, ModelError, ModelErrorKind, Paced, Provider,
    ProviderConfig, Result, RetryConfig, Retrying, Secret, Wire,
    config::known::{Known, known},
    provider::{Adapter, check_base_url},
};

/// Calls that may wait for a place when nobody says how many.
const MAX_QUEUED: usize = 1000;

/// What cannot be right in the providers' configurations.
pub(super) fn problems(providers: &BTreeMap<String, ProviderConfig>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, config) in providers {
        let mut problem = |what: String| problems.push(format!("provider `{name}`: {what}"));
        if name.is_empty() || name.contains('/') {
            problem("the name may not be empty or hold a `/`".to_owned());
        }
        if name == SCRIPTED {
            problem("the name stands for scripts".to_owned());
        }
        match &config.base_url {
            None if known(name).is_none() => problem("`base_url` is missing".to_owned()),
            None => {}
            Some(url) => {
                if let Err(error) = check_base_url(url) {
                    problem(error.message);
                }
            }
        }
        let timeouts = &config.timeout;
        if timeouts.connect.is_zero()
            || timeouts.first_byte.is_zero()
            || timeouts.idle.is_zero()
            || timeouts.total.is_zero()
        {
            problem("`timeout`: a time of 0 allows no answer".to_owned());
        }
    }
    problems
}

/// Builds the provider: the network innermost, then its limits, then retries, so that each try is limited.
pub(super) fn provider(
    name: &str,
    config: &ProviderConfig,
    retry: &RetryConfig,
    source: &dyn KeySource,
) -> Result<Arc<dyn LanguageModel>> {
    let known = known(name);
    let adapter = adapter(config, known);
    let provider = Provider::with_adapter(connection(name, config, known, source)?, adapter)?;
    let paced = Paced::new(
        provider,
        config.requests_per_minute,
        config.tokens_per_minute,
    );
    Ok(match config.max_concurrent {
        Some(places) => {
            let queue = config.max_queued.unwrap_or(MAX_QUEUED);
            Arc::new(Retrying::new(
                Limited::new(paced, places, queue),
                retry.clone(),
            ))
        }
        None => Arc::new(Retrying::new(paced, retry.clone())),
    })
}

fn wire(config: &ProviderConfig, known: Option<&Known>) -> Wire {
    config
        .wire
        .or(known.map(|known| known.wire))
        .unwrap_or(Wire::Openai)
}

fn adapter(config: &ProviderConfig, known: Option<&Known>) -> Adapter {
    match (config.wire, known) {
        // Only OpenAI itself speaks responses without being told to.
        (None, Some(known)) if known.name == "openai" && config.base_url.is_none() => {
            Adapter::ByOpenaiModel
        }
        (wire, Some(known)) if wire.is_none_or(|wire| wire == known.wire) => {
            Adapter::One(known.adapter)
        }
        _ => Adapter::One(wire(config, known).adapter()),
    }
}

fn connection(
    name: &str,
    config: &ProviderConfig,
    known: Option<&Known>,
    source: &dyn KeySource,
) -> Result<Connection> {
    let base_url = match (&config.base_url, known) {
        (Some(url), _) => url.clone(),
        (None, Some(known)) => known.base_url.to_owned(),
        (None, None) => {
            return Err(ModelError::new(
                ModelErrorKind::UnknownModel,
                format!("provider `{name}` has no `base_url`"),
            ));
        }
    };
    let mut headers = Vec::with_capacity(config.headers.len());
    for (header, value) in &config.headers {
        let value = value
            .resolve(source)
            .map_err(|why| missing(name, &format!("headers.{header}"), &why))?;
        headers.push((header.clone(), value));
    }
    Ok(Connection {
        name: name.to_owned(),
        wire: wire(config, known),
        base_url,
        key: key(name, config, known, source)?,
        headers,
        proxy: config.proxy.clone(),
        timeouts: config.timeout.clone(),
        reasoning: config.reasoning,
    })
}

/// The usual variable holds the key of the usual address: it is not sent anywhere else unless the configuration says so.
fn key(
    name: &str,
    config: &ProviderConfig,
    known: Option<&Known>,
    source: &dyn KeySource,
) -> Result<Option<Secret>> {
    if let Some(key) = &config.api_key {
        let key = key.resolve(source);
        return key.map(Some).map_err(|why| missing(name, "api_key", &why));
    }
    let usual = known
        .and_then(|known| known.key)
        .filter(|_| config.base_url.is_none());
    let Some(variable) = usual else {
        return Ok(None);
    };
    match source.variable(variable) {
        Some(key) => Ok(Some(Secret::new(key))),
        None => {
            let why = format!("environment variable `{variable}` is not set");
            Err(missing(name, "api_key", &why))
        }
    }
}

fn missing(name: &str, setting: &str, why: &str) -> ModelError {
    let message = format!("{why}; set it, or `models.providers.{name}.{setting}`");
    ModelError::new(ModelErrorKind::MissingKey, message)
}
