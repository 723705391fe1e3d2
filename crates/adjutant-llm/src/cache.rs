//! Answers that are given again to equal requests.

mod shelf;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use adjutant_core::{DeltaSink, ModelRequest, ModelResponse, TokenUsage};
use async_trait::async_trait;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use self::shelf::Shelf;
use crate::{
    CacheConfig, LanguageModel, ModelError, ModelErrorKind, Result, script::cassette::show_whole,
};

/// A model that gives an answer again to an equal request, as long as it is fresh. The answer then took nothing: no
/// tokens, no cost. Equal requests at the same time ask once. Only what is equal to the last byte is equal.
pub struct Cached<M> {
    inner: M,
    shelf: Mutex<Shelf>,
    /// Requests that are being asked; whoever holds the lock asks.
    asking: Mutex<HashMap<Arc<str>, Arc<AsyncMutex<()>>>>,
}

impl<M: LanguageModel> Cached<M> {
    /// Keeps answers of `inner`.
    pub fn new(inner: M, config: CacheConfig) -> Self {
        Self {
            inner,
            shelf: Mutex::new(Shelf::new(config)),
            asking: Mutex::default(),
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asking(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<AsyncMutex<()>>>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, key: &str) -> Option<ModelResponse> {
        self.shelf().get(key, Instant::now())
    }
}

/// Forgets the lock of a request once nobody else wants it.
struct Turn<'a, M> {
    cache: &'a Cached<M>,
    key: Arc<str>,
    lock: Option<Arc<AsyncMutex<()>>>,
}

impl<'a, M: LanguageModel> Turn<'a, M> {
    fn new(cache: &'a Cached<M>, key: Arc<str>) -> Self {
        let lock = cache.asking().entry(key.clone()).or_default().clone();
        Self {
            cache,
            key,
            lock: Some(lock),
        }
    }
}

impl<M> Drop for Turn<'_, M> {
    fn drop(&mut self) {
        let mut asking = self
            .cache
            .asking
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.lock = None;
        if asking
            .get(&self.key)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            asking.remove(&self.key);
        }
    }
}

/// The answer as one that took nothing.
fn for_free(mut response: ModelResponse) -> ModelResponse {
    response.usage = TokenUsage::default();
    response.cost_usd = Some(0.0);
    response
}

#[async_trait]
impl<M: LanguageModel> LanguageModel for Cached<M> {
    async fn generate(
        &self,
        request: &ModelRequest,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse> {
        let key = serde_json::to_string(request)
            .map_err(|error| ModelError::new(ModelErrorKind::InvalidRequest, error.to_string()))?;
        let key: Arc<str> = key.into();
        let turn = Turn::new(self, key.clone());
        let lock = turn.lock.clone().unwrap_or_default();
        let _mine = lock.lock().await;
        if let Some(response) = self.found(&key) {
            let response = for_free(response);
            show_whole(&response, deltas);
            return Ok(response);
        }
        let response = self.inner.generate(request, deltas).await?;
        self.shelf().put(key, response.clone(), Instant::now());
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use adjutant_core::{Message, ModelDelta};
    use futures::future::join_all;
    use tokio::time::advance;

    use super::*;
    use crate::{Script, ScriptedModel};

    fn cached(script: &str) -> Cached<ScriptedModel> {
        let script = Script::from_yaml(script).unwrap();
        Cached::new(ScriptedModel::new(script), CacheConfig::default())
    }

    fn ask(text: &str) -> ModelRequest {
        ModelRequest {
            messages: vec![Message::user(text)],
            ..ModelRequest::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_equal_request_is_answered_for_free_until_the_answer_is_stale() {
        let model = cached("[{text: ok}]");
        let first = model.generate(&ask("q"), None).await.unwrap();
        assert!(first.usage.input_tokens > 0);
        let mut seen = Vec::new();
        let mut sink = |piece: ModelDelta| seen.push(piece);
        let second = model.generate(&ask("q"), Some(&mut sink)).await.unwrap();
        assert_eq!(second.message, first.message);
        assert_eq!(second.usage, TokenUsage::default());
        assert_eq!(second.cost_usd, Some(0.0));
        assert_eq!(seen.len(), 1);
        model.generate(&ask("other"), None).await.unwrap();
        assert_eq!(model.inner.requests().len(), 2);
        advance(Duration::from_secs(3601)).await;
        model.generate(&ask("q"), None).await.unwrap();
        assert_eq!(model.inner.requests().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn equal_requests_at_the_same_time_ask_once() {
        let model = cached("[{text: ok, delay_ms: 1000}]");
        let request = ask("q");
        let answers = join_all((0..8).map(|_| model.generate(&request, None))).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(model.inner.requests().len(), 1);
        assert!(model.asking().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_not_kept_and_the_next_in_line_asks() {
        let model = cached("[{text: ok, delay_ms: 10, error: {kind: server, times: 1}}]");
        let request = ask("q");
        let answers = join_all((0..3).map(|_| model.generate(&request, None))).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
        assert_eq!(model.inner.requests().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_leaves_nothing_behind() {
        let model = cached("[{text: ok, delay_ms: 1000}]");
        let request = ask("q");
        let call = model.generate(&request, None);
        let late = tokio::time::timeout(Duration::from_millis(5), call).await;
        assert!(late.is_err());
        assert!(model.asking().is_empty());
    }
}
