//! Processes that work on several runs at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adjutant_core::{AgentError, RunId};
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::plan::PoolConfig;
use crate::{
    agent::Template,
    wire::{Hub, Peer},
};

/// The processes of an agent that each have several runs. Ends them when dropped.
pub(crate) struct SharedPool {
    template: Arc<Template>,
    config: PoolConfig,
    hubs: Mutex<Vec<Arc<Hub>>>,
    /// Held while a process starts, so that those who come meanwhile find room in it instead of starting more.
    starting: AsyncMutex<()>,
    /// There may be room.
    freed: Arc<Notify>,
}

/// A run's place in a process, which lives at least as long.
pub(crate) struct Place {
    pub(crate) peer: Peer,
    pub(crate) hub: Arc<Hub>,
}

impl SharedPool {
    pub(crate) fn new(template: Arc<Template>, config: PoolConfig) -> Self {
        Self {
            template,
            config,
            hubs: Mutex::default(),
            starting: AsyncMutex::new(()),
            freed: Arc::new(Notify::new()),
        }
    }

    fn hubs(&self) -> MutexGuard<'_, Vec<Arc<Hub>>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a run: in a process that has room, else in a new one, else in the first that has room again.
    ///
    /// # Errors
    /// When a new process cannot be started.
    pub(crate) async fn take(&self, run: &RunId) -> Result<Place, AgentError> {
        loop {
            // Listens before it looks, so that nothing is missed in between.
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(place) = self.seat(run) {
                return Ok(place);
            }
            let starting = self.starting.lock().await;
            if let Some(place) = self.seat(run) {
                return Ok(place);
            }
            if self.count() < self.config.max.get() as usize {
                self.start().await?;
                continue;
            }
            drop(starting);
            freed.await;
        }
    }

    /// A place in the fullest process that has room, so that the others come to rest.
    fn seat(&self, run: &RunId) -> Option<Place> {
        let mut hubs = self.hubs();
        hubs.retain(|hub| !hub.is_over());
        hubs.sort_by_key(|hub| std::cmp::Reverse(hub.used()));
        hubs.iter().find_map(|hub| {
            Some(Place {
                peer: hub.seat(run)?,
                hub: Arc::clone(hub),
            })
        })
    }

    fn count(&self) -> usize {
        let mut hubs = self.hubs();
        hubs.retain(|hub| !hub.is_over());
        hubs.len()
    }

    async fn start(&self) -> Result<(), AgentError> {
        let mut peer = self.template.start().await?;
        let manifest = &self.template.manifest;
        peer.warm_up(manifest).await?;
        let freed = Arc::clone(&self.freed);
        let hub = Hub::new(peer, &self.config, manifest.stop_grace, move || {
            freed.notify_waiters();
        });
        self.hubs().push(Arc::new(hub));
        self.freed.notify_waiters();
        Ok(())
    }

    /// Processes without and with runs.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let hubs = self.hubs();
        let idle = hubs.iter().filter(|hub| hub.used() == 0).count();
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        (number(idle), number(hubs.len() - idle))
    }
}
