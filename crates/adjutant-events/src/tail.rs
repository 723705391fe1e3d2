//! Following a run to its end.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use adjutant_core::{Error, Event, Result, RunId};
use futures::stream::{self, Stream};

use crate::EventBus;

/// Events that [`tail`] reads at a time, and so the most that it holds.
pub const TAIL_PAGE: usize = 256;

/// How long [`tail`] waits before it looks again although nobody has called.
const PATIENCE: Duration = Duration::from_secs(30);

struct Tail {
    bus: Arc<dyn EventBus>,
    run: RunId,
    after: u64,
    page: VecDeque<Event>,
    /// Whether the cursor is known to stand before the run's end.
    begun: bool,
    ended: bool,
}

/// The events of a run with numbers above `after`, each once and in order: first those that are there,
/// then the others as they come. Ends after the run's terminal event, at once if that was `after`, or
/// after an error.
///
/// It keeps a cursor and no subscription, so a slow reader costs nobody anything; resume a broken stream
/// with the number of the last event that came through.
pub fn tail(
    bus: Arc<dyn EventBus>,
    run: RunId,
    after: u64,
) -> impl Stream<Item = Result<Event>> + Send {
    let tail = Tail {
        bus,
        run,
        after,
        page: VecDeque::new(),
        begun: after == 0,
        ended: false,
    };
    stream::unfold(tail, |mut tail| async move {
        let next = tail.next().await.transpose()?;
        tail.ended |= match &next {
            Ok(event) => event.event_type.is_terminal(),
            Err(_) => true,
        };
        Some((next, tail))
    })
}

impl Tail {
    async fn next(&mut self) -> Result<Option<Event>> {
        if self.ended {
            return Ok(None);
        }
        loop {
            if let Some(event) = self.page.pop_front() {
                self.after = event.seq;
                self.begun = true;
                return Ok(Some(event));
            }
            self.page = self.bus.read(self.run, self.after, TAIL_PAGE).await?.into();
            if self.page.is_empty() {
                if !self.begun && self.stands_at_the_end().await? {
                    return Ok(None);
                }
                self.begun = true;
                self.bus.changed(self.run, self.after, PATIENCE).await?;
            }
        }
    }

    /// Whether whoever resumes has had the run's last event already.
    async fn stands_at_the_end(&self) -> Result<bool> {
        match self.bus.read(self.run, self.after - 1, 1).await {
            Ok(events) => Ok(events.iter().any(|event| event.event_type.is_terminal())),
            Err(Error::Pruned { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
