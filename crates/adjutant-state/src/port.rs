//! The state store's contract.

use adjutant_core::{Json, Result, RunId, StepRecord, Timestamp};
use async_trait::async_trait;
use serde::Serialize;

/// Checkpoints kept per run, unless configured otherwise; older ones are dropped when a new one is saved.
pub const DEFAULT_CHECKPOINTS_KEPT: usize = 10;

/// An agent's saved state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    /// Its number within the run, from 1.
    pub seq: u64,
    /// The state.
    pub state: Json,
    /// When it was saved.
    pub saved_at: Timestamp,
}

/// What a run has done so far: what a new attempt starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The steps, in the order in which they were first recorded.
    pub journal: Vec<StepRecord>,
    /// The latest checkpoint.
    pub checkpoint: Option<Checkpoint>,
}

/// One write on behalf of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateWrite {
    /// Records a step. A second record with the same key replaces the first one in its place, unless
    /// that one is final (completed or failed): then the write is a conflict.
    Step(StepRecord),
    /// Saves a checkpoint.
    Checkpoint(Json),
}

/// Journals and checkpoints of runs. Contract:
///
/// - What `write` has acknowledged is as durable as the engine promises, all of it or nothing.
/// - A write with a lower epoch than one seen before fails with
///   [`LeaseLost`](adjutant_core::Error::LeaseLost) and changes nothing. An engine that also holds the
///   queue compares with the run's current lease instead.
/// - A final step record never changes.
/// - Checkpoints are values: what is saved cannot change later.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Writes on behalf of the holder of `epoch`. Returns the number of the latest checkpoint, 0 for none.
    ///
    /// # Errors
    /// `LeaseLost`, `Conflict` on a final step, `TooLarge`, or the engine's.
    async fn write(&self, run: RunId, epoch: u64, writes: Vec<StateWrite>) -> Result<u64>;

    /// The journal and the latest checkpoint; empty for a run that has written nothing.
    ///
    /// # Errors
    /// The engine's.
    async fn history(&self, run: RunId) -> Result<History>;

    /// The checkpoints that are kept, newest first, at most `limit`.
    ///
    /// # Errors
    /// The engine's.
    async fn checkpoints(&self, run: RunId, limit: usize) -> Result<Vec<Checkpoint>>;

    /// Forgets journal and checkpoints of a run.
    ///
    /// # Errors
    /// The engine's.
    async fn forget(&self, run: RunId) -> Result<()>;
}
