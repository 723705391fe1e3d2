//! What an engine has to be able to do.

use std::{path::Path, sync::Arc, time::Duration};

use adjutant_budget::{
    Account, Balance, BalanceFilter, OpenReservation, ReservationKey,
    engine::{AccountRow, Changes as LedgerChanges, ReservationRow},
};
use adjutant_core::{
    AgentKey, Error, Event, Json, NewEvent, Result, RunId, RunState, StepRecord, Timestamp,
};
use adjutant_queue::{
    Group, Payload, PrunePolicy, QueueStats, RunFilter, RunRecord, RunView, Signal,
};
use adjutant_state::{Checkpoint, History};
use adjutant_store::{CheckReport, StoreInfo};
use async_trait::async_trait;

/// One writing connection to a database, as a batch uses it: rows in, rows out. Contract:
///
/// - Between [`begin`](Self::begin) and [`commit`](Self::commit) (or a [`write`](Self::write) that commits),
///   everything happens in one transaction, durable when the commit returns.
/// - What a call has returned of a run stays true until the transaction ends: nobody else changes that run, its
///   steps, signals, fan-outs or children. An engine may lock for it, or refuse the commit with a conflict.
/// - A call that fails spoils the transaction, and [`failure`](Self::failure) says so until it is rolled back.
pub trait Storage: Send + 'static {
    /// Whether a batch may keep records for the next one. Then `begin` has to notice what others have written.
    const KEEPS_RECORDS: bool;

    /// Whether a transaction may meet a conflict: then requests are kept so that they can be tried again.
    const MAY_CONFLICT: bool;

    /// How often to ask [`is_stale`](Self::is_stale) while somebody waits here.
    const LOOK_AROUND: Duration;

    /// Begins a transaction and reads these runs, each once.
    fn begin(&mut self, runs: &[RunId]) -> impl Future<Output = Result<Begun>> + Send;

    /// Whether others may have written since the last transaction, so that the records kept from it are worth nothing
    /// in the one that has begun. Unlike [`Begun::stale`] this wakes nobody: who waits hears of it in another way.
    fn is_outdated(&self) -> bool {
        false
    }

    /// Reads runs. Those that are not there are left out.
    fn runs(&mut self, runs: &[RunId]) -> impl Future<Output = Result<Vec<Loaded>>> + Send;

    /// Which runs have these idempotency keys.
    fn keys(&mut self, keys: &[&str]) -> impl Future<Output = Result<Vec<(String, RunId)>>> + Send;

    /// Which of these steps are recorded, by run and key.
    fn steps(
        &mut self,
        steps: &[(RunId, &str)],
    ) -> impl Future<Output = Result<Vec<StoredStep>>> + Send;

    /// The head of the line of ready runs of these agents (of all, if there is none named), best rank first.
    /// The batch knows the runs in `known` already; they are left out.
    fn ready(
        &mut self,
        agents: &[AgentKey],
        limit: usize,
        known: &[RunId],
    ) -> impl Future<Output = Result<Vec<Ready>>> + Send;

    /// The best-ranked run that this concurrency key holds back and that is not `known`.
    fn blocked(
        &mut self,
        key: &str,
        known: &[RunId],
    ) -> impl Future<Output = Result<Option<(i64, RunId)>>> + Send;

    /// How many runs with this concurrency key are running. Nobody else changes that until the transaction ends.
    fn running(&mut self, key: &str) -> impl Future<Output = Result<i64>> + Send;

    /// Runs for a sweep to look at, due at `now` or before, the earliest first, without those `known`.
    fn due(
        &mut self,
        now: Timestamp,
        limit: usize,
        known: &[RunId],
    ) -> impl Future<Output = Result<Vec<(Timestamp, RunId)>>> + Send;

    /// When the next run is due, as the transaction stands.
    fn next_due(&mut self) -> impl Future<Output = Result<Option<Timestamp>>> + Send;

    /// The children of a run with the fan-out they belong to, oldest first.
    fn children(
        &mut self,
        parent: RunId,
    ) -> impl Future<Output = Result<Vec<(RunId, Arc<str>)>>> + Send;

    /// How far a fan-out is.
    fn fanout(
        &mut self,
        run: RunId,
        key: &str,
    ) -> impl Future<Output = Result<Option<Group>>> + Send;

    /// The signals that nobody has taken, by run in the order of arrival.
    fn signals(
        &mut self,
        runs: &[RunId],
    ) -> impl Future<Output = Result<Vec<(RunId, Signal)>>> + Send;

    /// What runs were given.
    fn payloads(
        &mut self,
        runs: &[RunId],
    ) -> impl Future<Output = Result<Vec<(RunId, Payload)>>> + Send;

    /// The journal and the latest checkpoint, as the transaction stands.
    fn history(&mut self, run: RunId) -> impl Future<Output = Result<History>> + Send;

    /// Writes all changes of a batch, and commits them if nothing else is to be done. A new run whose id or
    /// idempotency key is there already is a conflict, also when nobody has looked for it.
    fn write(
        &mut self,
        changes: &Changes<'_>,
        commit: bool,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Forgets a run's events up to and including this number.
    fn trim(&mut self, run: RunId, upto: u64) -> impl Future<Output = Result<()>> + Send;

    /// Forgets journals and checkpoints.
    fn forget_history(&mut self, runs: &[RunId]) -> impl Future<Output = Result<()>> + Send;

    /// Forgets finished runs with everything that belongs to them, and says which.
    fn prune(&mut self, policy: &PrunePolicy) -> impl Future<Output = Result<Vec<RunId>>> + Send;

    /// Reservations of the ledger, in the order of their keys. Those that are not there are left out. Like runs, they
    /// stay as they are until the transaction ends, and so do accounts.
    fn reservations(
        &mut self,
        keys: &[&ReservationKey],
    ) -> impl Future<Output = Result<Vec<ReservationRow>>> + Send;

    /// Accounts of the ledger, in the order of their names. Those that are not there are left out.
    fn accounts(
        &mut self,
        names: &[&Account],
    ) -> impl Future<Output = Result<Vec<AccountRow>>> + Send;

    /// What the ledger may forget: reservations settled or open since before this time, and accounts
    /// [idle](AccountRow::idle_at) since then; so many of each kind, without those that somebody else works on.
    fn old_reservations(
        &mut self,
        before: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<(Vec<ReservationRow>, Vec<AccountRow>)>> + Send;

    /// Writes what the ledger has changed, and commits if nothing else is to be done. A row that is there although
    /// it is said to be new is a conflict, where others may have made it.
    fn write_ledger(
        &mut self,
        changes: &LedgerChanges<'_>,
        commit: bool,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Ends the transaction, durably.
    fn commit(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Takes the transaction back, if there is one, and makes the connection fit for another `begin`, opening
    /// a new one if it has to. What fails here shows at that `begin`.
    fn roll_back(&mut self) -> impl Future<Output = ()> + Send;

    /// The first failure since the last `roll_back`.
    fn failure(&self) -> Option<&Failure>;

    /// Whether others may have written since the last transaction, or the connection is not fit to tell.
    fn is_stale(&mut self) -> impl Future<Output = bool> + Send;

    /// Lets go of the connection.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Why a transaction cannot go on.
#[derive(Debug)]
pub enum Failure {
    /// Another process was in the way; the same requests can be tried again at once.
    Conflict(Error),
    /// Anything else.
    Broken(Error),
}

impl Failure {
    /// What went wrong.
    #[must_use]
    pub fn error(&self) -> &Error {
        match self {
            Self::Conflict(error) | Self::Broken(error) => error,
        }
    }
}

/// A transaction's beginning.
#[derive(Debug)]
pub struct Begun {
    /// The time that counts for everything in it. Engines that several machines share take the server's.
    pub now: Timestamp,
    /// The runs that were asked for and are there.
    pub runs: Vec<Loaded>,
    /// Others have written since the last transaction: kept records are worth nothing.
    pub stale: bool,
}

/// A run as it was found.
#[derive(Debug)]
pub enum Loaded {
    /// Its record, and what it was given where that came along.
    Run(Box<RunRecord>, Option<Payload>),
    /// Its record is damaged; the log says how.
    Unreadable(RunId),
}

/// A run in line, with its record where that came along.
#[derive(Debug)]
pub struct Ready {
    /// Its place: lower goes first, equal ones by id.
    pub rank: i64,
    /// Which run.
    pub run: RunId,
    /// The run as [`Storage::runs`] would return it.
    pub loaded: Option<Loaded>,
}

/// A step as far as a batch has to know it.
#[derive(Debug)]
pub struct StoredStep {
    /// Whose step.
    pub run: RunId,
    /// Its key.
    pub key: String,
    /// Its place in the journal, from 1.
    pub ordinal: u64,
    /// Whether it has ended and can never change.
    pub is_final: bool,
}

/// What is kept of a run's record, and how it has changed.
#[derive(Debug, Clone, Copy)]
pub struct ChangedRun<'a> {
    /// The record as it is to be.
    pub record: &'a RunRecord,
    /// Where it was in the line and when it was due; `None` for a run that is new.
    pub before: Option<crate::Place>,
    /// Only the numbers of events, steps, checkpoints, signals and children have changed.
    pub counts_only: bool,
}

/// Everything that a batch writes.
#[derive(Debug)]
pub struct Changes<'a> {
    /// New and changed runs, in the order of their ids.
    pub runs: Vec<ChangedRun<'a>>,
    /// Steps with their place in the journal; one that is there already is replaced.
    pub steps: Vec<(RunId, u64, &'a StepRecord)>,
    /// How far fan-outs are.
    pub fanouts: Vec<(RunId, &'a str, Group)>,
    /// Rows that are only ever added.
    pub added: &'a Added,
}

/// Rows that are only ever added within a batch, so that undoing is cutting off.
#[derive(Debug, Default)]
pub struct Added {
    /// What new runs were given.
    pub payloads: Vec<(RunId, Payload)>,
    /// How runs ended: without what the state says already, see [`crate::outcome_text`].
    pub outcomes: Vec<(RunId, String)>,
    /// Checkpoints by number.
    pub checkpoints: Vec<(RunId, u64, Json, Timestamp)>,
    /// Checkpoints up to this number are dropped.
    pub dropped: Vec<(RunId, u64)>,
    /// Events by number.
    pub events: Vec<(RunId, u64, NewEvent, Timestamp)>,
    /// Signals that came.
    pub signals: Vec<(RunId, Signal)>,
    /// Signals taken out of the mailbox.
    pub taken: Vec<(RunId, u64)>,
}

impl Added {
    /// Whether there is nothing to add.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty()
            && self.outcomes.is_empty()
            && self.checkpoints.is_empty()
            && self.dropped.is_empty()
            && self.events.is_empty()
            && self.signals.is_empty()
            && self.taken.is_empty()
    }
}

/// Reading beside the writer, by many callers at a time, and what an operator asks of an engine.
#[async_trait]
pub trait Reads: Send + Sync + 'static {
    /// One run, whole.
    async fn view(&self, run: RunId) -> Result<Option<RunView>>;

    /// Runs by filter, newest first.
    async fn list(&self, filter: &RunFilter) -> Result<Vec<RunRecord>>;

    /// The queue in numbers.
    async fn stats(&self) -> Result<QueueStats>;

    /// The journal and the latest checkpoint.
    async fn history(&self, run: RunId) -> Result<History>;

    /// Checkpoints, newest first.
    async fn checkpoints(&self, run: RunId, limit: usize) -> Result<Vec<Checkpoint>>;

    /// The number of the run's latest event; `None` for no such run.
    async fn last_seq(&self, run: RunId) -> Result<Option<u64>>;

    /// Events above `after`; see [`adjutant_events::EventBus::read`].
    async fn events(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<Event>>;

    /// See [`adjutant_budget::BudgetLedger::open`].
    async fn open_reservations(&self, run: RunId) -> Result<Vec<OpenReservation>>;

    /// How an account stands.
    async fn balance(&self, account: &Account) -> Result<Option<Balance>>;

    /// Accounts by name, the filter's limit being within bounds.
    async fn balances(&self, filter: &BalanceFilter) -> Result<Vec<Balance>>;

    /// What the store is.
    fn info(&self) -> StoreInfo;

    /// Looks for damage.
    async fn check(&self) -> Result<CheckReport>;

    /// Copies the store to a new file, where the engine can.
    async fn backup(&self, to: &Path) -> Result<()>;

    /// Lets go of connections.
    async fn close(&self);
}

/// The classes in which runs are counted: the code of each state, then these two.
pub mod class {
    /// Ready runs.
    pub const READY: i64 = 10;
    /// Runs that their concurrency key holds back.
    pub const BLOCKED: i64 = 11;
}

impl Changes<'_> {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
            && self.steps.is_empty()
            && self.fanouts.is_empty()
            && self.added.is_empty()
    }

    /// By how much the numbers of runs change, by class: the code of a state, or one of [`class`].
    #[must_use]
    pub fn counts(&self) -> Vec<(i64, i64)> {
        let mut counts = std::collections::BTreeMap::<i64, i64>::new();
        let mut count = |place: crate::Place, by: i64| {
            *counts.entry(place.state.code().into()).or_default() += by;
            if place.ready {
                *counts.entry(class::READY).or_default() += by;
            }
            if place.blocked {
                *counts.entry(class::BLOCKED).or_default() += by;
            }
        };
        for run in &self.runs {
            if let Some(before) = run.before {
                count(before, -1);
            }
            count(crate::Place::of(run.record), 1);
        }
        counts.into_iter().filter(|(_, by)| *by != 0).collect()
    }
}

/// The state with this class, if it is one.
#[must_use]
pub fn state_of_class(class: i64) -> Option<RunState> {
    u8::try_from(class).ok().and_then(RunState::from_code)
}
