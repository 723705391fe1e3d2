//! Trying again.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use adjutant_core::{DeltaSink, ModelRequest, ModelResponse, RetryAdvice};
use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::{LanguageModel, ModelError, Result, RetryConfig};

/// A model whose transient failures are tried again: the delay doubles and is shortened at random by up to a quarter, and
/// is never shorter than the provider asked for.
///
/// A call of which a piece was shown is not tried again: there is no way to take back what was seen. Whoever wants
/// retries throughout asks without deltas.
pub struct Retrying<M> {
    inner: M,
    config: RetryConfig,
}

impl<M: LanguageModel> Retrying<M> {
    /// Retries calls of `inner`.
    pub const fn new(inner: M, config: RetryConfig) -> Self {
        Self { inner, config }
    }

    /// The delay before the next try, or none if there is to be none.
    fn delay(&self, error: &ModelError, attempt: u32, begun: Instant) -> Option<Duration> {
        let RetryAdvice::After(_) = error.retry() else {
            return None;
        };
        if error.shown || attempt >= self.config.max_attempts.get() {
            return None;
        }
        let asked = error.retry_after.unwrap_or_default();
        if asked > self.config.max_delay {
            return None;
        }
        let delay = backoff(&self.config, attempt, random()).max(asked);
        (begun.elapsed() + delay <= self.config.max_elapsed).then_some(delay)
    }
}

/// `random` lies in 0..1.
fn backoff(config: &RetryConfig, attempt: u32, random: f64) -> Duration {
    let doubled = config
        .base
        .saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    doubled.min(config.max_delay).mul_f64(1.0 - 0.25 * random)
}

/// 0..1, different each time. The seeds of the standard library's hash maps are good enough to keep callers apart.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[async_trait]
impl<M: LanguageModel> LanguageModel for Retrying<M> {
    async fn generate(
        &self,
        request: &ModelRequest,
        mut deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse> {
        let begun = Instant::now();
        let mut charged = false;
        let mut attempt = 1;
        loop {
            let mut error = match self.inner.generate(request, deltas.as_deref_mut()).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            charged |= error.may_be_charged;
            let Some(delay) = self.delay(&error, attempt, begun) else {
                error.may_be_charged = charged;
                return Err(error);
            };
            tracing::info!(
                model = %error.model,
                kind = %error.kind,
                attempt,
                delay_ms = delay.as_millis(),
                "model call failed and is tried again"
            );
            sleep(delay).await;
            attempt += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use adjutant_core::ModelDelta;

    use super::*;
    use crate::{ModelErrorKind, Script, ScriptedModel};

    fn config() -> RetryConfig {
        RetryConfig::default()
    }

    fn scripted(yaml: &str) -> ScriptedModel {
        ScriptedModel::new(Script::from_yaml(yaml).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_transient_failure_is_tried_again_after_the_time_the_provider_asked_for() {
        let model =
            scripted("[{error: {kind: rate_limited, retry_after_ms: 7000, times: 2}, text: done}]");
        let begun = Instant::now();
        let model = Retrying::new(model, config());
        let answer = model
            .generate(&ModelRequest::default(), None)
            .await
            .unwrap();
        assert_eq!(answer.message.text(), "done");
        let waited = begun.elapsed();
        assert!(
            waited >= Duration::from_secs(14) && waited < Duration::from_secs(15),
            "{waited:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_tries_is_bounded() {
        let model = Retrying::new(scripted("[{error: server}]"), config());
        let error = model
            .generate(&ModelRequest::default(), None)
            .await
            .unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Server);
        assert_eq!(model.inner.requests().len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_for_tries_is_bounded() {
        let config = RetryConfig {
            max_elapsed: Duration::from_secs(10),
            max_attempts: std::num::NonZeroU32::MAX,
            ..config()
        };
        let model = Retrying::new(
            scripted("[{error: {kind: overloaded, retry_after_ms: 4000}}]"),
            config,
        );
        let begun = Instant::now();
        assert!(
            model
                .generate(&ModelRequest::default(), None)
                .await
                .is_err()
        );
        assert!(begun.elapsed() <= Duration::from_secs(10));
        assert_eq!(model.inner.requests().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_longer_wait_than_allowed_is_left_to_the_caller() {
        let model = Retrying::new(
            scripted("[{error: {kind: rate_limited, retry_after_ms: 3600000}}]"),
            config(),
        );
        let error = model
            .generate(&ModelRequest::default(), None)
            .await
            .unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(3600)));
        assert_eq!(model.inner.requests().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_failure_is_not_tried_again() {
        let model = Retrying::new(scripted("[{error: invalid_request}]"), config());
        assert!(
            model
                .generate(&ModelRequest::default(), None)
                .await
                .is_err()
        );
        assert_eq!(model.inner.requests().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_first_piece_was_shown_there_is_no_second_try() {
        let model = Retrying::new(
            scripted("[{text: 'never whole', error: {kind: network, after_text: true}}]"),
            config(),
        );
        let mut seen = Vec::new();
        let mut sink = |delta: ModelDelta| seen.push(delta);
        let error = model
            .generate(&ModelRequest::default(), Some(&mut sink))
            .await
            .unwrap_err();
        assert!(error.shown);
        assert_eq!(seen.len(), 2);
        assert_eq!(model.inner.requests().len(), 1);
    }

    #[test]
    fn delays_double_up_to_the_cap_and_jitter_only_shortens() {
        let delays: Vec<_> = (1..10)
            .map(|n| backoff(&config(), n, 0.0).as_millis())
            .collect();
        assert_eq!(
            delays,
            [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]
        );
        assert_eq!(backoff(&config(), 1, 1.0), Duration::from_millis(375));
        assert!((0.0..1.0).contains(&random()));
    }
}
