//! The ledger's contract.

use adjutant_core::{Result, RunId, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Account, Amount, Caps, ReservationKey, Reserve, Reserved, Warning};

/// The most that one list holds, whatever is asked for.
pub const MOST_LISTED: usize = 1000;

/// What an account has spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Which account; of one with periods, the name tells which.
    pub account: Account,
    /// What was spent.
    pub spent: Amount,
    /// What calls may still spend that are not settled.
    pub reserved: Amount,
    /// The bounds, as the last reservation had them.
    pub caps: Caps,
    /// When its period ends, if it has one.
    pub until: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A reservation that nobody has settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenReservation {
    /// Its name.
    pub key: ReservationKey,
    /// Who has to settle it.
    pub run: RunId,
    /// The accounts that pay.
    pub accounts: Vec<Account>,
    /// The most that it may come to.
    pub amount: Amount,
    /// Since when.
    pub opened_at: Timestamp,
}

/// Which balances to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceFilter {
    /// What their names begin with, such as `tenant:`. Default: anything.
    pub prefix: String,
    /// Names after this one.
    pub after: Option<Account>,
    /// How many, [`MOST_LISTED`] at most. Default 100.
    pub limit: usize,
}

impl Default for BalanceFilter {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            after: None,
            limit: 100,
        }
    }
}

/// What a [`BudgetLedger::prune`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Pruned {
    /// Open reservations that now count as spent in full.
    pub settled: u64,
    /// Reservations that were forgotten.
    pub reservations: u64,
    /// Accounts that were forgotten.
    pub accounts: u64,
}

/// Who has spent how much, and who is about to. Contract:
///
/// - A reservation is granted if at each of its accounts, for each bounded figure, what is spent, reserved and asked
///   for is within the bound; and then at all of them. Else nothing changes. However many ask at once, and from
///   wherever, no more is granted.
/// - What is reserved counts like what is spent until it is settled, whatever becomes of whoever has reserved it.
/// - Reserving again under a key that is open is granted again and changes nothing; a key that was settled, or whose run
///   or amount was another one, is a [`Conflict`](adjutant_core::Error::Conflict).
/// - A reservation is settled once. What it came to counts from then on, even beyond a bound; settling again changes
///   nothing, whatever it says.
/// - Everything is durable when the call returns, as the store's commits are.
/// - The time is the ledger's own: on engines that machines share, the server's.
#[async_trait]
pub trait BudgetLedger: Send + Sync {
    /// Reserves an amount at several accounts, or says where there is no room.
    ///
    /// # Errors
    /// `Invalid`, `Conflict`, or the engine's.
    async fn reserve(&self, reserve: Reserve) -> Result<Reserved>;

    /// Says what a reservation came to. Returns thresholds that were reached only now.
    ///
    /// # Errors
    /// `Invalid` for a key that is not known, or not any more; or the engine's.
    async fn settle(&self, key: &ReservationKey, actual: Amount) -> Result<Vec<Warning>>;

    /// Settles a reservation of which nothing was spent.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    async fn release(&self, key: &ReservationKey) -> Result<()> {
        self.settle(key, Amount::ZERO).await.map(drop)
    }

    /// What a run has reserved and not settled, by key; [`MOST_LISTED`] of them at most. After a crash, whoever goes on
    /// with the run settles these by what the journal says.
    ///
    /// # Errors
    /// The engine's.
    async fn open(&self, run: RunId) -> Result<Vec<OpenReservation>>;

    /// How an account stands. Of one with periods, the name includes the period.
    ///
    /// # Errors
    /// The engine's.
    async fn balance(&self, account: &Account) -> Result<Option<Balance>>;

    /// Accounts by name.
    ///
    /// # Errors
    /// The engine's.
    async fn balances(&self, filter: &BalanceFilter) -> Result<Vec<Balance>>;

    /// Forgets what an account has spent; what is reserved stays. Returns how it stood, `None` for no such account.
    ///
    /// # Errors
    /// The engine's.
    async fn reset(&self, account: &Account) -> Result<Option<Balance>>;

    /// Forgets what is of no more use: reservations settled before this time; accounts of runs, trees and past periods
    /// that nobody has used since. A reservation that was open before this time counts as spent in full from now on.
    /// Runs last shorter than this is ago, or their budgets begin anew. At most `limit` of each, and [`MOST_LISTED`]:
    /// call again while there are any.
    ///
    /// # Errors
    /// The engine's.
    async fn prune(&self, before: Timestamp, limit: usize) -> Result<Pruned>;
}
