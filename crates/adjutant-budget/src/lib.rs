//! Budgets: reserved before a call, settled after it.
//!
//! A [`BudgetLedger`] keeps what accounts have spent, and what calls that are on their way may still spend. Whoever is
//! about to spend reserves the most that it can come to at all accounts concerned, makes the call, and settles with what
//! it came to. So no budget is overspent by more than the calls in flight, whoever dies when.
//!
//! ```
//! use adjutant_budget::{Account, Amount, BudgetLedger, Caps, Claim, MemoryLedger, Reserve, ReservationKey};
//! use adjutant_core::RunId;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> adjutant_core::Result<()> {
//! let (ledger, run) = (MemoryLedger::default(), RunId::new());
//! let caps = Caps { tokens: Some(10_000), ..Caps::default() };
//! let key = ReservationKey::step(run, 1, "model")?;
//! let reserve = Reserve {
//!     key: key.clone(),
//!     run,
//!     claims: vec![Claim::new(Account::run(run), caps)],
//!     amount: Amount { tokens: 4_000, model_calls: 1, ..Amount::ZERO },
//! };
//! assert!(ledger.reserve(reserve).await?.is_granted());
//! ledger.settle(&key, Amount { tokens: 1_234, model_calls: 1, ..Amount::ZERO }).await?;
//! let balance = ledger.balance(&Account::run(run)).await?;
//! assert_eq!(balance.map(|balance| balance.spent.tokens), Some(1_234));
//! # Ok(()) }
//! ```

mod account;
mod amount;
mod claim;
mod port; // the contract

mod book; // the pure core
mod rows;

mod memory;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

/// What engines are made of.
pub mod engine {
    pub use crate::{
        book::{Book, Changes, Done, Task},
        rows::{AccountRow, ReservationRow},
    };
}

pub use crate::{
    account::{Account, Period},
    amount::{Amount, Caps, Figure},
    claim::{Claim, MOST_CLAIMS, Refusal, ReservationKey, Reserve, Reserved, Warning},
    memory::MemoryLedger,
    port::{Balance, BalanceFilter, BudgetLedger, MOST_LISTED, OpenReservation, Pruned},
};

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/budgets.md")]
mod guide {}
