//! The event bus's contract.

use std::time::Duration;

use adjutant_core::{Event, NewEvent, Result, RunId};
use async_trait::async_trait;

/// The event logs of runs. Contract:
///
/// - Per run, events are numbered 1, 2, 3, … without gap or repeat, in the order of their appends.
/// - An event can be read only after it is durable, and from then on always, until it is pruned.
/// - Reading never slows appending: readers have no buffers to fill, they come back with a cursor.
#[async_trait]
pub trait EventBus: Send + Sync {
    /// Appends events, all or none, and returns the number of the last one.
    ///
    /// # Errors
    /// `TooLarge`, `RunNotFound` where the engine knows its runs, or the engine's.
    async fn append(&self, run: RunId, events: Vec<NewEvent>) -> Result<u64>;

    /// Events with numbers above `after`, in order, at most `limit`. Empty when there are none yet.
    ///
    /// # Errors
    /// [`Pruned`](adjutant_core::Error::Pruned) when the event after `after` is gone; `RunNotFound` where
    /// the engine knows its runs, so that nobody waits for what cannot come; or the engine's.
    async fn read(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>>;

    /// Waits until the run has an event above `after`, or `wait` is over; may also return early.
    ///
    /// # Errors
    /// The engine's.
    async fn changed(&self, run: RunId, after: u64, wait: Duration) -> Result<()>;

    /// Forgets events up to and including number `upto`. The numbering goes on.
    ///
    /// # Errors
    /// The engine's.
    async fn trim(&self, run: RunId, upto: u64) -> Result<()>;
}
