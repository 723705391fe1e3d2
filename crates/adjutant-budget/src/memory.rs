//! The simplest ledger, and the one that the others are compared with.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use adjutant_core::{Clock, Error, Result, RunId, SystemClock, Timestamp};
use async_trait::async_trait;

use crate::{
    Account, Amount, Balance, BalanceFilter, BudgetLedger, MOST_LISTED, OpenReservation, Pruned,
    ReservationKey, Reserve, Reserved, Warning,
    book::{Book, Done, Task},
};

/// Settled reservations to keep, so that settling again finds them; the oldest are forgotten first.
const SETTLED: usize = 100_000;

/// A ledger in memory. It forgets everything when it is dropped.
pub struct MemoryLedger {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    book: Book,
    open: HashMap<RunId, BTreeSet<ReservationKey>>,
    /// In the order in which they were settled.
    settled: VecDeque<ReservationKey>,
    closed: bool,
}

impl fmt::Debug for MemoryLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLedger").finish_non_exhaustive()
    }
}

impl Default for MemoryLedger {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl MemoryLedger {
    /// An empty ledger with this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            inner: Mutex::default(),
        }
    }

    /// Calls after it fail with [`Error::Closed`].
    pub fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // No task leaves the book half changed, so a panic elsewhere does not spoil it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&self) -> Result<std::sync::MutexGuard<'_, Inner>> {
        let inner = self.lock();
        match inner.closed {
            true => Err(Error::Closed),
            false => Ok(inner),
        }
    }

    fn apply(&self, task: &Task) -> Result<Done> {
        let mut inner = self.inner()?;
        // Under the lock, so that time does not step back from one task to the next.
        let done = inner.book.apply(task, self.clock.now())?;
        inner.follow();
        Ok(done)
    }
}

impl Inner {
    /// Keeps the lists of open and settled reservations as the book has become.
    fn follow(&mut self) {
        let (changed, gone) = self.book.written();
        for key in changed {
            let Some(row) = self.book.reservation(&key) else {
                continue;
            };
            let run = row.run;
            if row.closed_at.is_none() {
                self.open.entry(run).or_default().insert(key);
                continue;
            }
            if let Some(open) = self.open.get_mut(&run) {
                open.remove(&key);
                if open.is_empty() {
                    self.open.remove(&run);
                }
            }
            self.settled.push_back(key);
        }
        if !gone.is_empty() {
            let gone: BTreeSet<_> = gone.into_iter().collect();
            self.settled.retain(|key| !gone.contains(key));
        }
        while self.settled.len() > SETTLED
            && let Some(key) = self.settled.pop_front()
        {
            self.book.forget(&key);
        }
    }
}

#[async_trait]
impl BudgetLedger for MemoryLedger {
    async fn reserve(&self, reserve: Reserve) -> Result<Reserved> {
        match self.apply(&Task::Reserve(reserve))? {
            Done::Reserved(reserved) => Ok(reserved),
            _ => Err(Error::Closed),
        }
    }

    async fn settle(&self, key: &ReservationKey, actual: Amount) -> Result<Vec<Warning>> {
        match self.apply(&Task::Settle(key.clone(), actual.bounded()))? {
            Done::Settled(warnings) => Ok(warnings),
            _ => Err(Error::Closed),
        }
    }

    async fn open(&self, run: RunId) -> Result<Vec<OpenReservation>> {
        let inner = self.inner()?;
        let keys = inner.open.get(&run).into_iter().flatten();
        let rows = keys.filter_map(|key| inner.book.reservation(key));
        Ok(rows.take(MOST_LISTED).cloned().map(Into::into).collect())
    }

    async fn balance(&self, account: &Account) -> Result<Option<Balance>> {
        let row = self.inner()?.book.account_row(account).cloned();
        Ok(row.map(Into::into))
    }

    async fn balances(&self, filter: &BalanceFilter) -> Result<Vec<Balance>> {
        let inner = self.inner()?;
        let rows = inner.book.accounts().filter(|row| {
            row.account.as_str().starts_with(&filter.prefix)
                && filter
                    .after
                    .as_ref()
                    .is_none_or(|after| row.account > *after)
        });
        let limit = filter.limit.min(MOST_LISTED);
        Ok(rows.take(limit).cloned().map(Into::into).collect())
    }

    async fn reset(&self, account: &Account) -> Result<Option<Balance>> {
        match self.apply(&Task::Reset(account.clone()))? {
            Done::Reset(balance) => Ok(balance),
            _ => Err(Error::Closed),
        }
    }

    async fn prune(&self, before: Timestamp, limit: usize) -> Result<Pruned> {
        match self.apply(&Task::Prune(before, limit.min(MOST_LISTED)))? {
            Done::Pruned(pruned) => Ok(pruned),
            _ => Err(Error::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicI64, Ordering::SeqCst},
        time::Duration,
    };

    use super::*;
    use crate::conformance::Fixture;

    #[derive(Debug)]
    struct Hands(AtomicI64);

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0.load(SeqCst))
        }
    }

    fn fixture() -> Fixture {
        let clock = Arc::new(Hands(AtomicI64::new(1_700_000_000_000_000)));
        let hands = Arc::clone(&clock);
        Fixture {
            ledger: Arc::new(MemoryLedger::new(clock.clone())),
            clock,
            advance: Box::new(move |by: Duration| {
                hands
                    .0
                    .fetch_add(i64::try_from(by.as_micros()).unwrap(), SeqCst);
            }),
            keep: Box::new(()),
        }
    }

    crate::suite!(async { fixture() });

    #[tokio::test]
    async fn a_closed_ledger_says_so() {
        let ledger = MemoryLedger::default();
        ledger.close();
        let account = Account::new("a").unwrap();
        assert!(matches!(ledger.balance(&account).await, Err(Error::Closed)));
        assert!(matches!(ledger.reset(&account).await, Err(Error::Closed)));
    }

    #[tokio::test]
    async fn settled_reservations_do_not_pile_up() {
        let ledger = MemoryLedger::default();
        for n in 0..SETTLED + 10 {
            let key = ReservationKey::new(n.to_string()).unwrap();
            let reserve = Reserve {
                key: key.clone(),
                run: RunId::from_bytes([7; 16]),
                claims: Vec::new(),
                amount: Amount::ZERO,
            };
            assert!(ledger.reserve(reserve).await.unwrap().is_granted());
            ledger.release(&key).await.unwrap();
        }
        let inner = ledger.lock();
        assert_eq!(inner.settled.len(), SETTLED);
        assert!(inner.open.is_empty());
    }
}
