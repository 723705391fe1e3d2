//! Calls and tokens within a minute.

use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use adjutant_core::{DeltaSink, ModelRequest, ModelResponse};
use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::bucket::Bucket;
use crate::{LanguageModel, ModelError, ModelErrorKind, Result, estimate_tokens};

/// A call that would have to wait for longer fails at once, so that another provider can be asked.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// A model that begins at most so many calls, and uses at most so many tokens, within a minute. Tokens are estimated
/// before a call and corrected after it.
pub struct Paced<M> {
    inner: M,
    requests: Option<Mutex<Bucket>>,
    tokens: Option<Mutex<Bucket>>,
}

impl<M: LanguageModel> Paced<M> {
    /// Paces calls of `inner`; absent limits do not bind.
    pub fn new(
        inner: M,
        requests_per_minute: Option<NonZeroU32>,
        tokens_per_minute: Option<NonZeroU64>,
    ) -> Self {
        let now = Instant::now();
        let bucket = |amount: f64| Mutex::new(Bucket::new(amount, now));
        Self {
            inner,
            requests: requests_per_minute.map(|amount| bucket(f64::from(amount.get()))),
            tokens: tokens_per_minute.map(|amount| bucket(amount.get() as f64)),
        }
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a call has taken from a bucket; a call that is dropped before it began gives it back.
struct Taken<'a> {
    bucket: Option<&'a Mutex<Bucket>>,
    amount: f64,
    wait: Duration,
}

impl<'a> Taken<'a> {
    fn new(bucket: Option<&'a Mutex<Bucket>>, amount: f64) -> Self {
        let wait = bucket.map_or(Duration::ZERO, |bucket| {
            lock(bucket).take(amount, Instant::now())
        });
        Self {
            bucket,
            amount,
            wait,
        }
    }

    /// The call took `used` in the end.
    fn settle(mut self, used: f64) {
        if let Some(bucket) = self.bucket.take() {
            lock(bucket).give_back(self.amount - used, Instant::now());
        }
    }

    /// The call began: nothing comes back by itself.
    fn keep(mut self) {
        self.bucket = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(bucket) = self.bucket {
            lock(bucket).give_back(self.amount, Instant::now());
        }
    }
}

#[async_trait]
impl<M: LanguageModel> LanguageModel for Paced<M> {
    async fn generate(
        &self,
        request: &ModelRequest,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse> {
        let call = Taken::new(self.requests.as_ref(), 1.0);
        let tokens = Taken::new(self.tokens.as_ref(), estimate_tokens(request) as f64);
        let wait = call.wait.max(tokens.wait);
        if wait > MAX_WAIT {
            return Err(ModelError::new(
                ModelErrorKind::RateLimited,
                "the limit per minute that is configured for this provider is used up",
            )
            .retry_after(Some(wait)));
        }
        if !wait.is_zero() {
            sleep(wait).await;
        }
        call.keep();
        let result = self.inner.generate(request, deltas).await;
        match &result {
            Ok(response) => {
                let used = response.usage.input_tokens + response.usage.output_tokens;
                // An endpoint that counts nothing leaves the estimate as it is.
                if used > 0 {
                    tokens.settle(used as f64);
                } else {
                    tokens.keep();
                }
            }
            Err(error) if error.may_be_charged => tokens.keep(),
            Err(_) => {}
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use adjutant_core::Message;

    use super::*;
    use crate::{Script, ScriptedModel};

    fn model(script: &str, requests: u32, tokens: u64) -> Paced<ScriptedModel> {
        let inner = ScriptedModel::new(Script::from_yaml(script).unwrap());
        Paced::new(inner, NonZeroU32::new(requests), NonZeroU64::new(tokens))
    }

    async fn ask(model: &Paced<ScriptedModel>, max_output_tokens: u32) -> Duration {
        let request = ModelRequest {
            messages: vec![Message::user("hello")],
            max_output_tokens: Some(max_output_tokens),
            ..ModelRequest::default()
        };
        let begun = Instant::now();
        model.generate(&request, None).await.unwrap();
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn calls_beyond_the_minutes_number_wait() {
        let model = model("[{text: ok}]", 2, 0);
        assert_eq!(ask(&model, 1).await, Duration::ZERO);
        assert_eq!(ask(&model, 1).await, Duration::ZERO);
        assert_eq!(ask(&model, 1).await.as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_were_not_used_come_back() {
        let used = "[{text: ok, usage: {input_tokens: 5, output_tokens: 5}}]";
        let model = model(used, 0, 1000);
        for _ in 0..10 {
            assert_eq!(ask(&model, 900).await, Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_were_used_beyond_the_estimate_make_others_wait() {
        let used = "[{text: ok, usage: {input_tokens: 1000, output_tokens: 1000}}]";
        let model = model(used, 0, 1000);
        assert_eq!(ask(&model, 10).await, Duration::ZERO);
        assert!(ask(&model, 10).await >= Duration::from_secs(59));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_while_it_waits_gives_all_back() {
        let model = model("[{text: ok}]", 1, 0);
        ask(&model, 1).await;
        let impatient = tokio::time::timeout(Duration::from_secs(1), ask(&model, 1)).await;
        assert!(impatient.is_err());
        let waited = ask(&model, 1).await;
        assert!(waited <= Duration::from_secs(60), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_of_many_minutes_is_refused_with_its_length() {
        let model = model("[{text: ok}]", 1, 0);
        let request = ModelRequest::default();
        let calls = (0..8).map(|_| model.generate(&request, None));
        let results = futures::future::join_all(calls).await;
        let refused: Vec<_> = results
            .into_iter()
            .filter_map(std::result::Result::err)
            .collect();
        assert_eq!(refused.len(), 2);
        assert!(refused[0].retry_after > Some(MAX_WAIT));
    }
}
