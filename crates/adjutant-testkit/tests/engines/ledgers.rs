//! The ledgers of several handles as one: each call goes through the next of them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use adjutant_budget::{
    Account, Amount, Balance, BalanceFilter, BudgetLedger, OpenReservation, Pruned, ReservationKey,
    Reserve, Reserved, Warning,
};
use adjutant_core::{Result, RunId, Timestamp};
use async_trait::async_trait;

pub struct Ledgers {
    ledgers: Vec<Arc<dyn BudgetLedger>>,
    turn: AtomicUsize,
}

impl Ledgers {
    pub fn new(ledgers: Vec<Arc<dyn BudgetLedger>>) -> Self {
        Self {
            ledgers,
            turn: AtomicUsize::new(0),
        }
    }

    fn next(&self) -> &dyn BudgetLedger {
        &*self.ledgers[self.turn.fetch_add(1, SeqCst) % self.ledgers.len()]
    }
}

#[async_trait]
impl BudgetLedger for Ledgers {
    async fn reserve(&self, reserve: Reserve) -> Result<Reserved> {
        self.next().reserve(reserve).await
    }

    async fn settle(&self, key: &ReservationKey, actual: Amount) -> Result<Vec<Warning>> {
        self.next().settle(key, actual).await
    }

    async fn open(&self, run: RunId) -> Result<Vec<OpenReservation>> {
        self.next().open(run).await
    }

    async fn balance(&self, account: &Account) -> Result<Option<Balance>> {
        self.next().balance(account).await
    }

    async fn balances(&self, filter: &BalanceFilter) -> Result<Vec<Balance>> {
        self.next().balances(filter).await
    }

    async fn reset(&self, account: &Account) -> Result<Option<Balance>> {
        self.next().reset(account).await
    }

    async fn prune(&self, before: Timestamp, limit: usize) -> Result<Pruned> {
        self.next().prune(before, limit).await
    }
}
