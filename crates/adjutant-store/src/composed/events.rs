//! Events: numbered by the queue's store, and copied from there.

use std::time::Duration;

use adjutant_core::{Error, Event, NewEvent, Result, RunId};
use adjutant_events::EventBus;
use async_trait::async_trait;

use super::{ComposedStore, shadow::shadow};
use crate::Store;

/// Events copied at a time.
const PAGE: usize = 1000;

/// Events that the queue's log keeps, for whoever is copying them at the moment.
const KEPT: u64 = 64;

impl ComposedStore {
    /// Copies what has not been copied yet.
    pub(super) async fn copy_events(&self, to: &dyn Store, run: RunId) -> Result<()> {
        let Some(view) = self.queue.get(run).await? else {
            return Ok(());
        };
        let there = to.get(run).await?.map(|there| there.run);
        let mut copied = there.as_ref().map_or(0, |there| there.last_seq);
        let begun = copied;
        while copied < view.run.last_seq {
            let events = match self.queue.read(run, copied, PAGE).await {
                // Another one has copied them, and they are gone here.
                Err(Error::Pruned { .. }) => break,
                other => other?,
            };
            let Some(last) = events.last().map(|event| event.seq) else {
                break;
            };
            let mut package = shadow(&view);
            package.run.last_seq = last;
            package.events = events;
            to.import(package).await?;
            copied = last;
        }
        let has_ended = view.run.state.is_terminal();
        if has_ended && begun == copied && there.is_some_and(|there| !there.state.is_terminal()) {
            let mut package = shadow(&view);
            package.run.last_seq = copied;
            to.import(package).await?;
        }
        if copied > begun && copied > KEPT {
            self.queue.trim(run, copied - KEPT).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl EventBus for ComposedStore {
    async fn append(&self, run: RunId, events: Vec<NewEvent>) -> Result<u64> {
        self.queue.append(run, events).await
    }

    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>> {
        let Some(events) = &self.events else {
            return self.queue.read(run, after, limit).await;
        };
        let found = match events.read(run, after, limit).await {
            Err(Error::RunNotFound(_)) => Vec::new(),
            other => other?,
        };
        // A full page needs no look at the queue.
        if found.len() >= limit {
            return Ok(found);
        }
        self.copy_events(&**events, run).await?;
        match events.read(run, after, limit).await {
            // It has no event yet, or is not there at all.
            Err(Error::RunNotFound(_)) => self.queue.read(run, after, limit).await,
            other => other,
        }
    }

    async fn changed(&self, run: RunId, after: u64, wait: Duration) -> Result<()> {
        self.queue.changed(run, after, wait).await
    }

    async fn trim(&self, run: RunId, upto: u64) -> Result<()> {
        if let Some(events) = &self.events {
            self.copy_events(&**events, run).await?;
            events.trim(run, upto).await?;
        }
        self.queue.trim(run, upto).await
    }
}
