//! The contracts of journals and events.

use std::{pin::pin, time::Duration};

use adjutant_core::{Event, NewEvent, Result, RunId};
use adjutant_events::{EventBus, engine::check_event};
use adjutant_state::{Checkpoint, History, StateStore, StateWrite, engine::check_write};
use async_trait::async_trait;
use tokio::time::timeout;

use crate::{EngineStore, request::Request, wake::Topic};

#[async_trait]
impl StateStore for EngineStore {
    async fn write(&self, run: RunId, epoch: u64, writes: Vec<StateWrite>) -> Result<u64> {
        writes
            .iter()
            .try_for_each(|write| check_write(write, self.limits_ref()))?;
        self.ask(|reply| Request::Write(run, epoch, writes, reply))
            .await
    }

    async fn history(&self, run: RunId) -> Result<History> {
        self.inner.reads.history(run).await
    }

    async fn checkpoints(&self, run: RunId, limit: usize) -> Result<Vec<Checkpoint>> {
        self.inner.reads.checkpoints(run, limit).await
    }

    async fn forget(&self, run: RunId) -> Result<()> {
        self.ask(|reply| Request::Forget(run, reply)).await
    }
}

#[async_trait]
impl EventBus for EngineStore {
    async fn append(&self, run: RunId, events: Vec<NewEvent>) -> Result<u64> {
        events
            .iter()
            .try_for_each(|event| check_event(event, self.limits_ref()))?;
        self.ask(|reply| Request::Append(run, events, reply)).await
    }

    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>> {
        self.inner.reads.events(run, after, limit).await
    }

    async fn changed(&self, run: RunId, after: u64, wait: Duration) -> Result<()> {
        if wait.is_zero() {
            return Ok(());
        }
        let ticket = self.inner.hub.register(Topic::Changed, run);
        let mut woken = pin!(ticket.notify.notified());
        woken.as_mut().enable();
        let last = self.inner.reads.last_seq(run).await?;
        if last.is_none_or(|last| last <= after) {
            // Both ends mean the same: whoever waits reads again.
            let _elapsed = timeout(wait, woken).await;
        }
        Ok(())
    }

    async fn trim(&self, run: RunId, upto: u64) -> Result<()> {
        self.ask(|reply| Request::Trim(run, upto, reply)).await
    }
}
