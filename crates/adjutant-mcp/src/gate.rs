//! How many calls a server gets at a time, how many wait, and how many it gets in a time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{RateLimit, ServerConfig};

/// When to come back if nothing better is known.
const COME_BACK: Duration = Duration::from_secs(1);

/// Lets calls through to one server.
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
    rate: Option<Mutex<Bucket>>,
}

/// Too many calls; come back after this.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full(pub(crate) Duration);

impl Gate {
    pub(crate) fn new(config: &ServerConfig, now: Instant) -> Self {
        let bucket = |limit| Mutex::new(Bucket::new(limit, now));
        Self {
            permits: Arc::new(Semaphore::new(config.at_once())),
            waiting: AtomicUsize::new(0),
            most_waiting: config.queue as usize,
            rate: config.rate_limit.map(bucket),
        }
    }

    /// How many calls wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits for a turn; the permit is held for as long as the call lasts. Dropping the future gives up the place.
    pub(crate) async fn enter(&self) -> Result<OwnedSemaphorePermit, Full> {
        if let Some(rate) = &self.rate {
            let mut bucket = rate.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(Instant::now()).map_err(Full)?;
        }
        let permits = || Arc::clone(&self.permits);
        if let Ok(permit) = permits().try_acquire_owned() {
            return Ok(permit);
        }
        let _place = self.queue_up()?;
        // The semaphore is never closed.
        permits().acquire_owned().await.map_err(|_| Full(COME_BACK))
    }

    fn queue_up(&self) -> Result<Place<'_>, Full> {
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Place(&self.waiting);
        if before >= self.most_waiting {
            return Err(Full(COME_BACK));
        }
        Ok(place)
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A bucket that refills steadily.
struct Bucket {
    limit: RateLimit,
    left: f64,
    since: Instant,
}

impl Bucket {
    fn new(limit: RateLimit, now: Instant) -> Self {
        Self {
            limit,
            left: limit.calls.get().into(),
            since: now,
        }
    }

    /// Takes one, or says when there will be one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full = f64::from(self.limit.calls.get());
        let per_second = full / self.limit.per.as_secs_f64();
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.left = (self.left + passed * per_second).min(full);
        self.since = now;
        if self.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.left) / per_second));
        }
        self.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_turns_away_and_a_place_given_up_is_free_again() {
        let config = ServerConfig {
            serial: true,
            queue: 1,
            ..ServerConfig::default()
        };
        let gate = Gate::new(&config, Instant::now());
        let held = gate.enter().await.unwrap();
        let mut waits = Box::pin(gate.enter());
        assert!(futures::poll!(&mut waits).is_pending());
        assert!(gate.enter().await.is_err());
        drop(waits);
        let mut waits = Box::pin(gate.enter());
        assert!(futures::poll!(&mut waits).is_pending());
        drop(held);
        assert!(waits.await.is_ok());
    }

    #[test]
    fn a_bucket_gives_its_rate_and_says_when_it_has_more() {
        let now = Instant::now();
        let limit = RateLimit {
            calls: NonZeroU32::new(2).unwrap(),
            per: Duration::from_secs(1),
        };
        let mut bucket = Bucket::new(limit, now);
        assert_eq!((bucket.take(now), bucket.take(now)), (Ok(()), Ok(())));
        assert_eq!(bucket.take(now), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(now + Duration::from_millis(500)), Ok(()));
    }
}
