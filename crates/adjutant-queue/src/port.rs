//! The queue's contract.

use std::time::Duration;

use adjutant_core::{Result, RunId};
use async_trait::async_trait;

use crate::{
    Beat, ClaimRequest, Claimed, Command, Disposition, Lease, NewRun, PrunePolicy, QueueStats,
    RunFilter, RunRecord, RunView, Submitted, Swept,
};

/// A queue of runs that workers lease. Contract:
///
/// - What a call has returned is as durable as the engine promises.
/// - A run is leased by at most one worker at a time, and each claim has a higher epoch than all before.
/// - A call with a lease that is not the run's current one fails with
///   [`LeaseLost`](adjutant_core::Error::LeaseLost) and changes nothing.
/// - A run ends once: no call changes a run in a terminal state.
/// - Ready runs are claimed by rank: higher priority first, then first come; waiting raises the rank.
/// - No more runs with one concurrency key run at a time than their limit says.
#[async_trait]
pub trait RunQueue: RunLookup {
    /// Queues runs. The same id or idempotency key again is the same run; with another agent or input
    /// it is a conflict. All of them are queued, or with an error none.
    ///
    /// # Errors
    /// `Conflict`, `Invalid`, `TooLarge`, or the engine's.
    async fn submit(&self, runs: Vec<NewRun>) -> Result<Vec<Submitted>>;

    /// Leases ready runs, waiting for some up to `request.wait`. Dropping the future loses no run: what
    /// it had leased comes back when the lease expires.
    ///
    /// # Errors
    /// The engine's.
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>>;

    /// Extends leases to `ttl` from now and brings back what the runs' owners have asked for meanwhile.
    /// One answer per lease, in order.
    ///
    /// # Errors
    /// The engine's; a lost lease is an answer, not an error.
    async fn heartbeat(&self, leases: &[Lease], ttl: Duration) -> Result<Vec<Beat>>;

    /// Gives a run back.
    ///
    /// # Errors
    /// `LeaseLost`, `TooLarge`, or the engine's.
    async fn settle(&self, lease: Lease, disposition: Disposition) -> Result<RunRecord>;

    /// Acts on a run from outside. Asking for what is already so changes nothing and succeeds.
    ///
    /// # Errors
    /// `RunNotFound`, `Illegal` when the run's state does not allow it, or the engine's.
    async fn control(&self, run: RunId, command: Command) -> Result<RunRecord>;

    /// Takes back runs whose lease has expired and wakes runs whose time has come, at most `limit`.
    /// When nothing is due it waits for something up to `wait`.
    ///
    /// # Errors
    /// The engine's.
    async fn sweep(&self, limit: usize, wait: Duration) -> Result<Swept>;

    /// Forgets finished runs and returns how many. Runs whose parent has not ended are kept.
    ///
    /// # Errors
    /// The engine's.
    async fn prune(&self, policy: PrunePolicy) -> Result<u64>;
}

/// Reading runs.
#[async_trait]
pub trait RunLookup: Send + Sync {
    /// One run, whole.
    ///
    /// # Errors
    /// The engine's.
    async fn get(&self, run: RunId) -> Result<Option<RunView>>;

    /// The run as soon as it is settled (ended or parked), or as it stands when `wait` is over.
    ///
    /// # Errors
    /// `RunNotFound`, or the engine's.
    async fn settled(&self, run: RunId, wait: Duration) -> Result<RunView>;

    /// Runs by filter, newest first, which is the order of their ids.
    ///
    /// # Errors
    /// The engine's.
    async fn list(&self, filter: RunFilter) -> Result<Vec<RunRecord>>;

    /// The queue in numbers, as of now.
    ///
    /// # Errors
    /// The engine's.
    async fn stats(&self) -> Result<QueueStats>;
}
