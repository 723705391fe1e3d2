//! What an engine keeps of accounts and reservations. Their JSON is a stored shape: fields may be added, with defaults.

use adjutant_core::{RunId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Account, Amount, Balance, Caps, OpenReservation, ReservationKey, Warning};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    /// Its name, with the period.
    pub account: Account,
    /// What was spent.
    pub spent: Amount,
    /// What is reserved by what is not settled.
    pub reserved: Amount,
    /// The bounds, as the last reservation had them.
    pub caps: Caps,
    /// From how many percent of a cap on to warn.
    pub warn_percent: Option<u8>,
    /// When its period ends.
    pub until: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationRow {
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
    /// When it was settled.
    pub closed_at: Option<Timestamp>,
}

impl AccountRow {
    /// An account that nobody has used.
    pub(crate) fn new(account: Account, now: Timestamp) -> Self {
        Self {
            account,
            spent: Amount::ZERO,
            reserved: Amount::ZERO,
            caps: Caps::default(),
            warn_percent: None,
            until: None,
            updated_at: now,
        }
    }

    /// From when on it is of no use, unless it changes; `None` if that cannot be said.
    #[must_use]
    pub fn idle_at(&self) -> Option<Timestamp> {
        let ends = self.until.is_some() || self.account.is_of_runs();
        let idle = ends && self.reserved.is_zero();
        idle.then(|| {
            self.until
                .map_or(self.updated_at, |end| end.max(self.updated_at))
        })
    }

    /// Spent and reserved.
    pub(crate) fn used(&self) -> Amount {
        self.spent.plus(self.reserved)
    }

    /// The thresholds that lie between what was used before and what is used now.
    pub(crate) fn warnings(&self, before: Amount) -> impl Iterator<Item = Warning> {
        let used = self.used();
        let percent = u128::from(self.warn_percent.unwrap_or(u8::MAX));
        let reached =
            move |used: u64, cap: u64| u128::from(used) * 100 >= u128::from(cap) * percent;
        let caps = self.caps.iter().filter(|_| self.warn_percent.is_some());
        caps.filter(move |(what, cap)| {
            !reached(before.get(*what), *cap) && reached(used.get(*what), *cap)
        })
        .map(move |(what, cap)| Warning {
            account: self.account.clone(),
            what,
            used: used.get(what),
            cap,
        })
    }
}

impl From<AccountRow> for Balance {
    fn from(row: AccountRow) -> Self {
        Self {
            account: row.account,
            spent: row.spent,
            reserved: row.reserved,
            caps: row.caps,
            until: row.until,
            updated_at: row.updated_at,
        }
    }
}

impl From<ReservationRow> for OpenReservation {
    fn from(row: ReservationRow) -> Self {
        Self {
            key: row.key,
            run: row.run,
            accounts: row.accounts,
            amount: row.amount,
            opened_at: row.opened_at,
        }
    }
}
