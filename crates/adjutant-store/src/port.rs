//! The store's contract: one atomic commit over queue, state and events.

use std::{path::Path, sync::Arc};

use adjutant_budget::BudgetLedger;
use adjutant_core::{Error, Json, Limits, NewEvent, Result, RunId, RunState, StepRecord};
use adjutant_events::{EventBus, engine::check_event};
use adjutant_queue::{Disposition, Lease, NewRun, RunQueue, Submitted, engine::check_disposition};
use adjutant_state::{
    StateStore,
    engine::{check_checkpoint, check_step},
};
use async_trait::async_trait;
use serde::Serialize;

use crate::Package;

/// One durable change on behalf of a lease holder.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Records a step; see [`adjutant_state::StateWrite::Step`].
    Step(StepRecord),
    /// Saves a checkpoint.
    Checkpoint(Json),
    /// Appends an event.
    Event(NewEvent),
    /// Queues a child run. Its `parent` must name the committing run. A child with an id that is there
    /// already is left as it is, so that a repeated commit spawns nothing twice.
    Spawn(Box<NewRun>),
    /// Takes the signal with this number out of the run's mailbox. One that is gone already is a conflict.
    TakeSignal(u64),
    /// Cancels the children of this fan-out that have not ended.
    CancelGroup {
        /// The fan-out.
        group: std::sync::Arc<str>,
        /// Why.
        reason: String,
    },
}

/// Everything a lease holder changes at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// On whose behalf.
    pub lease: Lease,
    /// What to write, in order.
    pub ops: Vec<Op>,
    /// What becomes of the run afterwards; `None` keeps the lease.
    pub end: Option<Disposition>,
}

impl Commit {
    /// Checks everything that can be checked without the store.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::TooLarge`], naming the field.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        for op in &self.ops {
            match op {
                Op::Step(step) => check_step(step, limits)?,
                Op::Checkpoint(state) => check_checkpoint(state, limits)?,
                Op::Event(event) => check_event(event, limits)?,
                Op::Spawn(child) => {
                    if child.parent.as_ref().map(|link| link.run) != Some(self.lease.run) {
                        return Err(Error::Invalid {
                            field: "parent",
                            problem: "must name the run that spawns the child".to_owned(),
                        });
                    }
                    child.validate(limits)?;
                }
                Op::TakeSignal(_) | Op::CancelGroup { .. } => {}
            }
        }
        let mut end = self.end.iter();
        end.try_for_each(|end| check_disposition(end, limits))
    }
}

/// The answer to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The number of the run's latest event.
    pub last_seq: u64,
    /// The number of the run's latest checkpoint, 0 for none.
    pub checkpoint: u64,
    /// The run's state after the commit.
    pub state: RunState,
}

/// A new run made from an old one.
#[derive(Debug, Clone, PartialEq)]
pub struct Fork {
    /// The run to copy history from.
    pub source: RunId,
    /// The new run; its `origin` says what it is.
    pub run: NewRun,
    /// How many of the source's recorded steps to take over, from the first; `None` takes all completed
    /// steps and the latest checkpoint.
    pub steps: Option<usize>,
}

/// What a check of a store found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Each check by name, with `None` when it passed and the problem when it did not.
    pub checks: Vec<(String, Option<String>)>,
}

impl CheckReport {
    /// Whether every check passed.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.checks.iter().all(|(_, problem)| problem.is_none())
    }
}

/// What a store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreInfo {
    /// The engine's name.
    pub engine: &'static str,
    /// Where the data is, without secrets.
    pub location: String,
    /// What an acknowledged write survives.
    pub durability: String,
    /// The schema's version, where there is one.
    pub schema: Option<i64>,
}

/// Queue, state and events of one database behind one atomic commit. Contract, beyond its parts':
///
/// - A commit is written whole or not at all, and checked against the run's current lease in the same
///   transaction: a stale holder gets [`LeaseLost`](adjutant_core::Error::LeaseLost) and changes nothing.
/// - State, outcome, journal, checkpoint and events of a run therefore never disagree.
/// - Every change of a run's state appends the event that tells of it, in the same transaction.
/// - The end of a child and the waking of its parent are one transaction.
#[async_trait]
pub trait Store: RunQueue + StateStore + EventBus {
    /// Writes on behalf of a lease holder. Durable when it returns.
    ///
    /// # Errors
    /// `LeaseLost`, `Conflict`, `TooLarge`, or the engine's.
    async fn commit(&self, commit: Commit) -> Result<Committed>;

    /// Queues a new run that starts with recorded steps of another one.
    ///
    /// # Errors
    /// `RunNotFound`, what `submit` answers, or the engine's.
    async fn fork(&self, fork: Fork) -> Result<Submitted>;

    /// A run with everything that belongs to it, to be taken in by another store. It stays here as it is.
    ///
    /// # Errors
    /// `Conflict` when it changes all the while; `Invalid` when the store cannot do this; or the engine's.
    async fn export(&self, run: RunId) -> Result<Option<Package>> {
        Err(cannot("export", run))
    }

    /// Takes in a run of another store. Here it can be claimed only after somebody resumes it. `Running` says
    /// that it is driven elsewhere: this store then takes its journal, checkpoints and events under its epoch.
    ///
    /// Of a run that is there already, the record becomes the package's and events with higher numbers are added; all
    /// else stays. So importing twice is importing once.
    ///
    /// # Errors
    /// `Invalid` for a package that fails its [`check`](Package::check) or whose parent is not here;
    /// `LeaseLost` when the run is here with a higher epoch; `Conflict` when a worker of this store holds it or it has
    /// ended here but not in the package, its
    /// idempotency key is another run's, or an event is missing in between; or the engine's.
    async fn import(&self, package: Package) -> Result<()> {
        Err(cannot("import", package.run.id))
    }

    /// What has been spent, kept in the same database. The ledger is a contract of its own beside the commit: a
    /// reservation outlives whoever made it and is settled by what the journal says, so nothing is lost between the two.
    fn ledger(&self) -> Arc<dyn BudgetLedger>;

    /// What this store is.
    fn info(&self) -> StoreInfo;

    /// What it takes at most.
    fn limits(&self) -> Limits;

    /// Looks for damage.
    ///
    /// # Errors
    /// When the check itself cannot be done.
    async fn check(&self) -> Result<CheckReport>;

    /// Copies the store, as of one point in time, to a new file while it is in use.
    ///
    /// # Errors
    /// `Invalid` when the engine has no such copy or the file exists; or the engine's.
    async fn backup(&self, to: &Path) -> Result<()>;

    /// Finishes what has been accepted and lets go of files and connections. Calls after it fail with
    /// [`Closed`](adjutant_core::Error::Closed).
    async fn close(&self);
}

fn cannot(what: &'static str, run: RunId) -> Error {
    Error::Invalid {
        field: what,
        problem: format!("this store cannot hand over {run}"),
    }
}
