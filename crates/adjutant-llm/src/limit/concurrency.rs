//! Calls at the same time.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
};

use adjutant_core::{DeltaSink, ModelRequest, ModelResponse};
use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::{LanguageModel, ModelError, ModelErrorKind, Result};

/// A model that answers at most so many calls at the same time. Further calls wait in order of arrival; when too many
/// wait, the next one fails as overloaded.
pub struct Limited<M> {
    inner: M,
    places: Semaphore,
    waiting: AtomicUsize,
    max_waiting: usize,
}

impl<M: LanguageModel> Limited<M> {
    /// Lets `max_concurrent` calls in and `max_waiting` wait.
    pub fn new(inner: M, max_concurrent: NonZeroUsize, max_waiting: usize) -> Self {
        let places = max_concurrent.get().min(Semaphore::MAX_PERMITS);
        Self {
            inner,
            places: Semaphore::new(places),
            waiting: AtomicUsize::new(0),
            max_waiting,
        }
    }
}

/// Counts a waiting call for as long as it waits, also when it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(counter: &'a AtomicUsize, max: usize) -> Option<Self> {
        counter
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < max).then_some(waiting + 1)
            })
            .ok()
            .map(|_| Self(counter))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl<M: LanguageModel> LanguageModel for Limited<M> {
    async fn generate(
        &self,
        request: &ModelRequest,
        deltas: Option<&mut DeltaSink<'_>>,
    ) -> Result<ModelResponse> {
        let _place = if let Ok(place) = self.places.try_acquire() {
            place
        } else {
            let Some(waiting) = Waiting::enter(&self.waiting, self.max_waiting) else {
                return Err(ModelError::new(
                    ModelErrorKind::Overloaded,
                    format!(
                        "{} calls wait for this provider already (`max_queued`)",
                        self.max_waiting
                    ),
                ));
            };
            let place = self.places.acquire().await.map_err(|_| {
                ModelError::new(ModelErrorKind::Cancelled, "the provider is closed")
            })?;
            drop(waiting);
            place
        };
        self.inner.generate(request, deltas).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{FutureExt, future::join_all};
    use tokio::time::Instant;

    use super::*;
    use crate::{Script, ScriptedModel};

    fn slow(places: usize, waiting: usize) -> Limited<ScriptedModel> {
        let script = Script::from_yaml("[{text: ok, delay_ms: 1000}]").unwrap();
        let places = NonZeroUsize::new(places).unwrap();
        Limited::new(ScriptedModel::new(script), places, waiting)
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_calls_than_places_run_at_the_same_time() {
        let model = slow(2, 100);
        let begun = Instant::now();
        let request = ModelRequest::default();
        let calls = (0..6).map(|_| model.generate(&request, None));
        assert!(join_all(calls).await.iter().all(Result::is_ok));
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_says_so_at_once() {
        let model = slow(1, 1);
        let request = ModelRequest::default();
        let results = join_all((0..3).map(|_| model.generate(&request, None))).await;
        let refused: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].kind, ModelErrorKind::Overloaded);
        assert!(!refused[0].may_be_charged);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_dropped_gives_its_place_back() {
        let model = slow(1, 1);
        let request = ModelRequest::default();
        {
            let running = model.generate(&request, None).now_or_never();
            assert!(running.is_none());
        }
        let waited = tokio::time::timeout(
            Duration::from_millis(1),
            join_all([
                model.generate(&request, None),
                model.generate(&request, None),
            ]),
        )
        .await;
        assert!(waited.is_err());
        assert_eq!(model.waiting.load(Ordering::Relaxed), 0);
        assert!(model.generate(&request, None).await.is_ok());
    }
}
