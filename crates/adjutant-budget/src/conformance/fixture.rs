//! What a case works on, and the short ways to do things with it.

use std::{any::Any, sync::Arc, time::Duration};

use adjutant_core::{Clock, RunId};

use crate::{
    Account, Amount, Balance, BudgetLedger, Caps, Claim, Refusal, ReservationKey, Reserve,
    Reserved, Warning,
};

/// A fresh, empty ledger whose time is the fixture's clock.
pub struct Fixture {
    /// The ledger.
    pub ledger: Arc<dyn BudgetLedger>,
    /// The ledger's clock.
    pub clock: Arc<dyn Clock>,
    /// Lets time pass.
    pub advance: Box<dyn Fn(Duration) + Send + Sync>,
    /// What has to live as long as the ledger, such as its directory.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// Whose reservations these are where it does not matter.
pub(super) const RUN: RunId = RunId::from_bytes([7; 16]);

/// Fails a case that hangs.
pub async fn in_time(case: impl Future<Output = ()>) {
    let limit = Duration::from_secs(60);
    let case = tokio::time::timeout(limit, case);
    case.await.expect("the case hangs");
}

pub(super) fn key(name: &str) -> ReservationKey {
    ReservationKey::new(name).unwrap()
}

pub(super) fn account(name: &str) -> Account {
    Account::new(name).unwrap()
}

pub(super) fn tokens(tokens: u64) -> Amount {
    Amount {
        tokens,
        ..Amount::ZERO
    }
}

/// A claim on so many tokens.
pub(super) fn claim(name: &str, most: u64) -> Claim {
    let caps = Caps {
        tokens: Some(most),
        ..Caps::default()
    };
    Claim::new(account(name), caps)
}

pub(super) fn reserve(run: RunId, name: &str, claims: Vec<Claim>, amount: Amount) -> Reserve {
    Reserve {
        key: key(name),
        run,
        claims,
        amount,
    }
}

impl Fixture {
    pub(super) async fn ask(&self, name: &str, claims: Vec<Claim>, amount: Amount) -> Reserved {
        let reserve = reserve(RUN, name, claims, amount);
        self.ledger.reserve(reserve).await.unwrap()
    }

    /// Reserves what has to be granted.
    pub(super) async fn granted(
        &self,
        name: &str,
        claims: Vec<Claim>,
        amount: Amount,
    ) -> Vec<Warning> {
        match self.ask(name, claims, amount).await {
            Reserved::Granted { warnings } => warnings,
            Reserved::Refused(refusal) => panic!("`{name}` was refused: {refusal}"),
        }
    }

    /// Reserves what has to be refused.
    pub(super) async fn refused(&self, name: &str, claims: Vec<Claim>, amount: Amount) -> Refusal {
        match self.ask(name, claims, amount).await {
            Reserved::Refused(refusal) => refusal,
            Reserved::Granted { .. } => panic!("`{name}` was granted"),
        }
    }

    pub(super) async fn settle(&self, name: &str, actual: Amount) -> Vec<Warning> {
        self.ledger.settle(&key(name), actual).await.unwrap()
    }

    pub(super) async fn balance(&self, name: &str) -> Balance {
        let balance = self.ledger.balance(&account(name)).await.unwrap();
        balance.unwrap_or_else(|| panic!("there is no account {name}"))
    }

    /// Tokens spent and reserved.
    pub(super) async fn used(&self, name: &str) -> (u64, u64) {
        let balance = self.balance(name).await;
        (balance.spent.tokens, balance.reserved.tokens)
    }
}
