//! The decisions: accounts and reservations as values, and what changes them. Every engine loads rows into a [`Book`],
//! asks it, and writes what has changed.

use std::collections::{BTreeMap, BTreeSet};

use adjutant_core::{Error, Result, Timestamp};

use crate::{
    Account, Amount, Balance, Claim, Pruned, Refusal, ReservationKey, Reserve, Reserved, Warning,
    rows::{AccountRow, ReservationRow},
};

/// Something to do with the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Reserves.
    Reserve(Reserve),
    /// Settles.
    Settle(ReservationKey, Amount),
    /// Forgets what an account has spent.
    Reset(Account),
    /// Forgets what is of no more use since this time, so much of each.
    Prune(Timestamp, usize),
}

/// The answer to a [`Task`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// To a reservation.
    Reserved(Reserved),
    /// To a settlement.
    Settled(Vec<Warning>),
    /// How the account stood.
    Reset(Option<Balance>),
    /// What was forgotten.
    Pruned(Pruned),
}

/// A row and whether it is stored already.
#[derive(Debug)]
struct Held<T> {
    row: T,
    stored: bool,
}

/// Accounts and reservations, all of them or those that a group of tasks needs.
#[derive(Debug, Default)]
pub struct Book {
    accounts: BTreeMap<Account, Held<AccountRow>>,
    reservations: BTreeMap<ReservationKey, Held<ReservationRow>>,
    changed_accounts: BTreeSet<Account>,
    changed_reservations: BTreeSet<ReservationKey>,
    gone_accounts: Vec<Account>,
    gone_reservations: Vec<ReservationKey>,
}

/// What a [`Book`] has changed since it was last asked.
#[derive(Debug)]
pub struct Changes<'a> {
    /// Accounts, each with whether it is new.
    pub accounts: Vec<(&'a AccountRow, bool)>,
    /// Reservations, each with whether it is new.
    pub reservations: Vec<(&'a ReservationRow, bool)>,
    /// Accounts that are forgotten.
    pub gone_accounts: &'a [Account],
    /// Reservations that are forgotten.
    pub gone_reservations: &'a [ReservationKey],
}

impl Changes<'_> {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
            && self.reservations.is_empty()
            && self.gone_accounts.is_empty()
            && self.gone_reservations.is_empty()
    }
}

impl Task {
    /// The reservation that it concerns.
    #[must_use]
    pub fn key(&self) -> Option<&ReservationKey> {
        match self {
            Self::Reserve(reserve) => Some(&reserve.key),
            Self::Settle(key, _) => Some(key),
            Self::Reset(_) | Self::Prune(..) => None,
        }
    }
}

fn resolved(claim: &Claim, now: Timestamp) -> Account {
    match claim.period {
        Some(period) => claim.account.during(period, now),
        None => claim.account.clone(),
    }
}

fn invalid(field: &'static str, problem: String) -> Error {
    Error::Invalid { field, problem }
}

impl Book {
    /// Takes in rows as they are stored.
    pub fn take_in(
        &mut self,
        accounts: impl IntoIterator<Item = AccountRow>,
        reservations: impl IntoIterator<Item = ReservationRow>,
    ) {
        for row in accounts {
            let held = Held { row, stored: true };
            self.accounts.insert(held.row.account.clone(), held);
        }
        for row in reservations {
            let held = Held { row, stored: true };
            self.reservations.insert(held.row.key.clone(), held);
        }
    }

    /// The accounts that a task is going to look at. Its reservation has to be here, if there is one.
    #[must_use]
    pub fn accounts_of(&self, task: &Task, now: Timestamp) -> Vec<Account> {
        let known = task.key().and_then(|key| self.reservations.get(key));
        let open = known.filter(|held| held.row.closed_at.is_none());
        match (task, open) {
            (Task::Settle(..), Some(held)) => held.row.accounts.clone(),
            (Task::Reserve(reserve), _) if known.is_none() => {
                let claims = reserve.claims.iter();
                claims.map(|claim| resolved(claim, now)).collect()
            }
            (Task::Reset(account), _) => vec![account.clone()],
            (Task::Prune(before, _), _) => {
                let open = self.reservations.values().map(|held| &held.row);
                let open = open.filter(|row| row.closed_at.is_none() && row.opened_at < *before);
                open.flat_map(|row| row.accounts.iter().cloned()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Carries out a task whose rows are here. One that fails changes nothing.
    ///
    /// # Errors
    /// As [`BudgetLedger`](crate::BudgetLedger) says.
    pub fn apply(&mut self, task: &Task, now: Timestamp) -> Result<Done> {
        Ok(match task {
            Task::Reserve(reserve) => Done::Reserved(self.reserve(reserve, now)?),
            Task::Settle(key, actual) => Done::Settled(self.settle(key, *actual, now)?),
            Task::Reset(account) => Done::Reset(self.reset(account, now)),
            Task::Prune(before, limit) => Done::Pruned(self.prune(*before, *limit, now)),
        })
    }

    fn reserve(&mut self, reserve: &Reserve, now: Timestamp) -> Result<Reserved> {
        reserve.check()?;
        let amount = reserve.amount.bounded();
        if let Some(held) = self.reservations.get(&reserve.key) {
            let row = &held.row;
            let same = (row.run, row.amount) == (reserve.run, amount);
            if !same || row.closed_at.is_some() {
                let what = format!("reservation `{}`", reserve.key);
                return Err(Error::Conflict { what });
            }
            let warnings = Vec::new();
            return Ok(Reserved::Granted { warnings });
        }
        let claims: BTreeMap<Account, &Claim> = reserve
            .claims
            .iter()
            .map(|claim| (resolved(claim, now), claim))
            .collect();
        if claims.len() < reserve.claims.len() {
            return Err(invalid("claims", "must name each account once".to_owned()));
        }
        let refused = reserve
            .claims
            .iter()
            .find_map(|claim| self.refusal(resolved(claim, now), claim, amount, now));
        if let Some(refusal) = refused {
            return Ok(Reserved::Refused(refusal));
        }
        let mut warnings = Vec::new();
        for (account, claim) in &claims {
            let row = self.account(account, now);
            row.caps = claim.caps;
            row.warn_percent = claim.warn_percent;
            row.until = claim.period.map(|period| period.end(now));
            let before = row.used();
            row.reserved = row.reserved.plus(amount);
            warnings.extend(row.warnings(before));
        }
        let row = ReservationRow {
            key: reserve.key.clone(),
            run: reserve.run,
            accounts: claims.into_keys().collect(),
            amount,
            opened_at: now,
            closed_at: None,
        };
        self.changed_reservations.insert(row.key.clone());
        let held = Held { row, stored: false };
        self.reservations.insert(reserve.key.clone(), held);
        Ok(Reserved::Granted { warnings })
    }

    /// Why there is no room, if there is none.
    fn refusal(
        &self,
        account: Account,
        claim: &Claim,
        asked: Amount,
        now: Timestamp,
    ) -> Option<Refusal> {
        let row = self.accounts.get(&account).map(|held| &held.row);
        let spent = row.map_or(Amount::ZERO, |row| row.spent);
        let reserved = row.map_or(Amount::ZERO, |row| row.reserved);
        let used = spent.plus(reserved).plus(asked);
        let (what, cap) = claim
            .caps
            .iter()
            .find(|(what, cap)| used.get(*what) > *cap)?;
        Some(Refusal {
            account,
            what,
            spent: spent.get(what),
            reserved: reserved.get(what),
            cap,
            asked: asked.get(what),
            until: claim.period.map(|period| period.end(now)),
        })
    }

    fn settle(
        &mut self,
        key: &ReservationKey,
        actual: Amount,
        now: Timestamp,
    ) -> Result<Vec<Warning>> {
        let Some(held) = self.reservations.get_mut(key) else {
            return Err(invalid("reservation", format!("there is no `{key}`")));
        };
        if held.row.closed_at.is_some() {
            return Ok(Vec::new());
        }
        held.row.closed_at = Some(now);
        let (amount, accounts) = (held.row.amount, held.row.accounts.clone());
        self.changed_reservations.insert(key.clone());
        let mut warnings = Vec::new();
        for account in &accounts {
            let row = self.account(account, now);
            let before = row.used();
            row.reserved = row.reserved.minus(amount);
            row.spent = row.spent.plus(actual);
            warnings.extend(row.warnings(before));
        }
        Ok(warnings)
    }

    fn reset(&mut self, account: &Account, now: Timestamp) -> Option<Balance> {
        let before = self.accounts.get(account)?.row.clone();
        self.account(account, now).spent = Amount::ZERO;
        Some(before.into())
    }

    fn prune(&mut self, before: Timestamp, limit: usize, now: Timestamp) -> Pruned {
        let mut pruned = Pruned::default();
        let rows = self.reservations.values().map(|held| &held.row);
        let gone = rows.filter(|row| row.closed_at.is_some_and(|at| at < before));
        let gone: Vec<ReservationKey> = gone.take(limit).map(|row| row.key.clone()).collect();
        let rows = self.reservations.values().map(|held| &held.row);
        let open = rows.filter(|row| row.closed_at.is_none() && row.opened_at < before);
        let open = open.take(limit).map(|row| (row.key.clone(), row.amount));
        for (key, amount) in open.collect::<Vec<_>>() {
            pruned.settled += u64::from(self.settle(&key, amount, now).is_ok());
        }
        let rows = self.accounts.values().map(|held| &held.row);
        let idle = rows.filter(|row| row.idle_at().is_some_and(|at| at < before));
        let idle: Vec<Account> = idle.take(limit).map(|row| row.account.clone()).collect();
        for key in gone {
            pruned.reservations += 1;
            self.changed_reservations.remove(&key);
            if self
                .reservations
                .remove(&key)
                .is_some_and(|held| held.stored)
            {
                self.gone_reservations.push(key);
            }
        }
        for account in idle {
            pruned.accounts += 1;
            self.changed_accounts.remove(&account);
            if self
                .accounts
                .remove(&account)
                .is_some_and(|held| held.stored)
            {
                self.gone_accounts.push(account);
            }
        }
        pruned
    }

    /// An account to change, made if it is missing.
    fn account(&mut self, account: &Account, now: Timestamp) -> &mut AccountRow {
        self.changed_accounts.insert(account.clone());
        let held = self
            .accounts
            .entry(account.clone())
            .or_insert_with(|| Held {
                row: AccountRow::new(account.clone(), now),
                stored: false,
            });
        held.row.updated_at = now;
        &mut held.row
    }

    /// What is to be written.
    #[must_use]
    pub fn changes(&self) -> Changes<'_> {
        let accounts = self.changed_accounts.iter();
        let reservations = self.changed_reservations.iter();
        Changes {
            accounts: accounts
                .filter_map(|name| self.accounts.get(name))
                .map(|held| (&held.row, !held.stored))
                .collect(),
            reservations: reservations
                .filter_map(|key| self.reservations.get(key))
                .map(|held| (&held.row, !held.stored))
                .collect(),
            gone_accounts: &self.gone_accounts,
            gone_reservations: &self.gone_reservations,
        }
    }

    /// Takes what has changed for written. Returns reservations that were settled among it.
    pub(crate) fn written(&mut self) -> (Vec<ReservationKey>, Vec<ReservationKey>) {
        for account in std::mem::take(&mut self.changed_accounts) {
            if let Some(held) = self.accounts.get_mut(&account) {
                held.stored = true;
            }
        }
        let changed: Vec<_> = std::mem::take(&mut self.changed_reservations)
            .into_iter()
            .collect();
        for key in &changed {
            if let Some(held) = self.reservations.get_mut(key) {
                held.stored = true;
            }
        }
        self.gone_accounts.clear();
        (changed, std::mem::take(&mut self.gone_reservations))
    }

    pub(crate) fn account_row(&self, account: &Account) -> Option<&AccountRow> {
        self.accounts.get(account).map(|held| &held.row)
    }

    pub(crate) fn reservation(&self, key: &ReservationKey) -> Option<&ReservationRow> {
        self.reservations.get(key).map(|held| &held.row)
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = &AccountRow> {
        self.accounts.values().map(|held| &held.row)
    }

    /// Forgets a reservation that was settled.
    pub(crate) fn forget(&mut self, key: &ReservationKey) {
        self.reservations.remove(key);
    }
}
