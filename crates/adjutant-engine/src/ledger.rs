//! The ledger: its tasks go through the writer, in the transaction and under the sync that runs' changes share.

use adjutant_budget::{
    Account, Amount, Balance, BalanceFilter, BudgetLedger, MOST_LISTED, OpenReservation, Pruned,
    ReservationKey, Reserve, Reserved, Warning,
    engine::{Book, Done, Task},
};
use adjutant_core::{Error, Result, RunId, Timestamp};
use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    EngineStore,
    reply::{Answer, Reply, answer},
    request::Request,
    storage::Storage,
};

/// A row of the ledger as it is stored.
#[must_use]
pub fn ledger_text(row: &impl Serialize) -> String {
    // Names and numbers always have a JSON form.
    serde_json::to_string(row).unwrap_or_default()
}

/// A row of the ledger from what is stored.
///
/// # Errors
/// What is wrong with it.
pub fn ledger_row<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

/// Loads the rows that these tasks need, lets the book decide, and writes what has changed.
pub(crate) async fn carry_out<S: Storage>(
    db: &mut S,
    now: Timestamp,
    tasks: &[(Box<Task>, Reply<Done>)],
    commit: bool,
) -> Result<Vec<Box<dyn Answer>>> {
    let mut book = Book::default();
    let keys = tasks.iter().filter_map(|(task, _)| task.key());
    let mut keys: Vec<&ReservationKey> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    if !keys.is_empty() {
        book.take_in([], db.reservations(&keys).await?);
    }
    for (task, _) in tasks {
        if let Task::Prune(before, limit) = **task {
            let (reservations, accounts) = db.old_reservations(before, limit).await?;
            book.take_in(accounts, reservations);
        }
    }
    let names = tasks
        .iter()
        .flat_map(|(task, _)| book.accounts_of(task, now));
    let mut names: Vec<Account> = names.collect();
    names.sort_unstable();
    names.dedup();
    if !names.is_empty() {
        let names: Vec<&Account> = names.iter().collect();
        book.take_in(db.accounts(&names).await?, []);
    }
    let mut done = Vec::with_capacity(tasks.len());
    for (task, _) in tasks {
        done.push(book.apply(task, now));
    }
    let changes = book.changes();
    match (changes.is_empty(), commit) {
        (false, _) => db.write_ledger(&changes, commit).await?,
        (true, true) => db.commit().await?,
        (true, false) => {}
    }
    let replies = tasks.iter().map(|(_, reply)| reply.clone());
    Ok(replies
        .zip(done)
        .map(|(reply, done)| answer(reply, done))
        .collect())
}

/// The ledger of an [`EngineStore`].
pub(crate) struct EngineLedger(pub EngineStore);

impl EngineLedger {
    async fn ask(&self, task: Task) -> Result<Done> {
        let task = Box::new(task);
        self.0.ask(|reply| Request::Ledger(task, reply)).await
    }
}

/// The answer to another task; there is none.
fn mixed_up<T>() -> Result<T> {
    Err(Error::Backend {
        action: "use the ledger",
        transient: false,
        source: "the answer is to another question".into(),
    })
}

#[async_trait]
impl BudgetLedger for EngineLedger {
    async fn reserve(&self, reserve: Reserve) -> Result<Reserved> {
        reserve.check()?;
        match self.ask(Task::Reserve(reserve)).await? {
            Done::Reserved(reserved) => Ok(reserved),
            _ => mixed_up(),
        }
    }

    async fn settle(&self, key: &ReservationKey, actual: Amount) -> Result<Vec<Warning>> {
        match self
            .ask(Task::Settle(key.clone(), actual.bounded()))
            .await?
        {
            Done::Settled(warnings) => Ok(warnings),
            _ => mixed_up(),
        }
    }

    async fn open(&self, run: RunId) -> Result<Vec<OpenReservation>> {
        self.0.inner.reads.open_reservations(run).await
    }

    async fn balance(&self, account: &Account) -> Result<Option<Balance>> {
        self.0.inner.reads.balance(account).await
    }

    async fn balances(&self, filter: &BalanceFilter) -> Result<Vec<Balance>> {
        let mut filter = filter.clone();
        filter.limit = filter.limit.min(MOST_LISTED);
        match filter.limit {
            0 => Ok(Vec::new()),
            _ => self.0.inner.reads.balances(&filter).await,
        }
    }

    async fn reset(&self, account: &Account) -> Result<Option<Balance>> {
        match self.ask(Task::Reset(account.clone())).await? {
            Done::Reset(balance) => Ok(balance),
            _ => mixed_up(),
        }
    }

    async fn prune(&self, before: Timestamp, limit: usize) -> Result<Pruned> {
        let limit = limit.min(MOST_LISTED);
        match self.ask(Task::Prune(before, limit)).await? {
            Done::Pruned(pruned) => Ok(pruned),
            _ => mixed_up(),
        }
    }
}
