//! Following a run's events with a cursor: nothing is missed and nothing comes twice.

use std::{sync::Arc, time::Duration};

use adjutant::{
    Store,
    core::{Event, RunId},
};

use crate::{failure::Result, patience::Patience};

/// Events read at once.
const BATCH: usize = 500;
/// How long one question for news waits.
const WAIT: Duration = Duration::from_secs(20);

/// A place in a run's events.
pub struct Tail {
    store: Arc<dyn Store>,
    run: RunId,
    /// The number of the last event that was handed out.
    pub after: u64,
    patience: Patience,
}

impl Tail {
    pub fn new(store: Arc<dyn Store>, run: RunId, after: u64) -> Self {
        Self {
            store,
            run,
            after,
            patience: Patience::default(),
        }
    }

    /// The events that are there now; empty at the end.
    pub async fn now(&mut self) -> Result<Vec<Event>> {
        loop {
            match self.read().await {
                Ok(events) => return Ok(events),
                Err(error) => self.patience.bear(error).await?,
            }
        }
    }

    async fn read(&mut self) -> adjutant::Result<Vec<Event>> {
        let events = self.store.read(self.run, self.after, BATCH).await?;
        self.patience.answered();
        if let Some(last) = events.last() {
            self.after = last.seq;
        }
        Ok(events)
    }

    /// The next events, waiting for some. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Vec<Event>> {
        loop {
            let events = self.now().await?;
            if !events.is_empty() {
                return Ok(events);
            }
            if let Err(error) = self.store.changed(self.run, self.after, WAIT).await {
                self.patience.bear(error).await?;
            }
        }
    }
}
