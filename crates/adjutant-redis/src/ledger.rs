//! The ledger's rows: the token of their last change, then JSON; and the sorted sets that find them.

use std::collections::BTreeMap;

use adjutant_budget::{
    Account, Balance, BalanceFilter, MOST_LISTED, OpenReservation, ReservationKey,
    engine::{AccountRow, Changes, ReservationRow},
};
use adjutant_core::{Result, RunId, Timestamp};
use adjutant_engine::{ledger_row, ledger_text};
use redis::Value;
use serde::de::DeserializeOwned;

use crate::{
    keys::{Keys, score},
    link::Link,
    record::{self, Token},
    reply,
    storage::RedisStorage,
    transaction::Transaction,
    words::Words,
    writes::several,
};

const ACTION: &str = "read from the store";

/// The most words of one command: scripts can hand over some 8000.
const WORDS: usize = 4000;

const ACCOUNT: &str = "acct:";
const RESERVATION: &str = "resv:";

/// What follows the token.
fn body<T: DeserializeOwned>(stored: &[u8]) -> reply::Read<T> {
    let body = stored.get(size_of::<Token>()..);
    ledger_row(body.ok_or("a row of the ledger that is cut short")?)
}

/// One `MGET` for each piece of these keys.
fn mget(keys: &[Vec<u8>]) -> Words {
    let mut words = Words::default();
    for piece in keys.chunks(WORDS) {
        words.size(1 + piece.len());
        words.push("MGET");
        piece.iter().for_each(|key| words.push(key));
    }
    words
}

/// The names in a sorted set.
fn names(answer: Option<Value>) -> reply::Read<Vec<Vec<u8>>> {
    let names = reply::list(answer.unwrap_or(Value::Nil))?;
    names.into_iter().map(reply::bytes).collect()
}

/// What is there of several rows.
fn values(answers: Vec<Value>) -> reply::Read<Vec<Option<Vec<u8>>>> {
    let mut found = Vec::new();
    for answer in answers {
        for value in reply::list(answer)? {
            found.push(reply::maybe(value)?);
        }
    }
    Ok(found)
}

/// The members of a sorted set below a time.
fn before(keys: &Keys, set: &str, time: Timestamp, limit: usize) -> Words {
    let (set, limit) = (keys.of(set, ""), limit.to_string());
    let upto = format!("({}", score(time.as_micros()));
    let mut words = Words::default();
    words.command(&[
        b"ZRANGEBYSCORE",
        &set,
        b"-inf",
        upto.as_bytes(),
        b"LIMIT",
        b"0",
        limit.as_bytes(),
    ]);
    words
}

impl RedisStorage {
    /// Reads rows, which are to be as they are when the transaction ends.
    async fn rows<T: DeserializeOwned>(&mut self, keys: Vec<Vec<u8>>) -> Result<Vec<T>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.look(&mget(&keys)).await?;
        let found = self.read(|| values(answers))?;
        let rows = found.iter().flatten().map(|stored| body(stored));
        let rows = self.read(|| rows.collect())?;
        for (key, stored) in keys.into_iter().zip(found) {
            let token = stored.and_then(|stored| record::token(&stored));
            self.tx.rows.entry(key).or_insert(token);
        }
        Ok(rows)
    }

    async fn below(&mut self, set: &str, time: Timestamp, limit: usize) -> Result<Vec<Vec<u8>>> {
        let words = before(&self.names(), set, time, limit);
        let mut answers = self.look(&words).await?;
        self.read(|| names(answers.pop()))
    }

    pub(crate) async fn ledger_reservations(
        &mut self,
        keys: &[&ReservationKey],
    ) -> Result<Vec<ReservationRow>> {
        let names = self.names();
        let keys = keys.iter().map(|key| names.of(RESERVATION, key.as_str()));
        self.rows(keys.collect()).await
    }

    pub(crate) async fn ledger_accounts(&mut self, wanted: &[&Account]) -> Result<Vec<AccountRow>> {
        let names = self.names();
        let keys = wanted.iter().map(|name| names.of(ACCOUNT, name.as_str()));
        self.rows(keys.collect()).await
    }

    /// What may be forgotten.
    pub(crate) async fn ledger_old(
        &mut self,
        time: Timestamp,
        limit: usize,
    ) -> Result<(Vec<ReservationRow>, Vec<AccountRow>)> {
        let mut reservations = self.below("closed", time, limit).await?;
        reservations.append(&mut self.below("opened", time, limit).await?);
        let accounts = self.below("idle", time, limit).await?;
        let names = self.names();
        let of = |kind: &str, found: Vec<Vec<u8>>| {
            let found = found.into_iter();
            found.map(|name| names.of(kind, name)).collect()
        };
        let reservations = self.rows(of(RESERVATION, reservations)).await?;
        Ok((reservations, self.rows(of(ACCOUNT, accounts)).await?))
    }
}

/// Members of sorted sets that come and go.
#[derive(Default)]
struct Sets<'a> {
    add: BTreeMap<Vec<u8>, Vec<(i64, &'a str)>>,
    remove: BTreeMap<Vec<u8>, Vec<&'a str>>,
}

impl<'a> Sets<'a> {
    fn put(&mut self, set: Vec<u8>, number: Option<i64>, name: &'a str) {
        match number {
            Some(number) => self.add.entry(set).or_default().push((score(number), name)),
            None => self.remove.entry(set).or_default().push(name),
        }
    }

    fn write(&self, to: &mut Words) {
        for (set, names) in &self.remove {
            several("ZREM", set, names, to);
        }
        for (set, members) in &self.add {
            for page in members.chunks(WORDS / 2) {
                to.size(2 + 2 * page.len());
                to.push("ZADD");
                to.push(set);
                for (number, name) in page {
                    to.int(*number);
                    to.push(name);
                }
            }
        }
    }
}

/// Puts what the ledger has changed into a transaction.
pub(crate) fn put(tx: &mut Transaction, keys: &Keys, changes: &Changes<'_>) {
    let mut set = Vec::new();
    let mut sets = Sets::default();
    let stored = |body: String| [&tx.token[..], body.as_bytes()].concat();
    let micros = |time: Option<Timestamp>| time.map(Timestamp::as_micros);
    for (row, is_new) in &changes.accounts {
        let name = row.account.as_str();
        set.push((keys.of(ACCOUNT, name), stored(ledger_text(row))));
        sets.put(keys.of("idle", ""), micros(row.idle_at()), name);
        if *is_new {
            sets.put(keys.of("accts", ""), Some(0), name);
        }
    }
    for (row, _) in &changes.reservations {
        let key = row.key.as_str();
        set.push((keys.of(RESERVATION, key), stored(ledger_text(row))));
        let open = row.closed_at.is_none();
        let since = open.then_some(row.opened_at);
        sets.put(keys.of("opened", ""), micros(since), key);
        sets.put(keys.run("open:", row.run), open.then_some(0), key);
        if !open {
            sets.put(keys.of("closed", ""), micros(row.closed_at), key);
        }
    }
    let mut gone = Vec::new();
    for name in changes.gone_accounts {
        gone.push(keys.of(ACCOUNT, name.as_str()));
        sets.put(keys.of("idle", ""), None, name.as_str());
        sets.put(keys.of("accts", ""), None, name.as_str());
    }
    for key in changes.gone_reservations {
        gone.push(keys.of(RESERVATION, key.as_str()));
        sets.put(keys.of("closed", ""), None, key.as_str());
    }
    let to = &mut tx.commands;
    for page in set.chunks(WORDS / 2) {
        to.size(1 + 2 * page.len());
        to.push("MSET");
        for (key, value) in page {
            to.push(key);
            to.push(value);
        }
    }
    for page in gone.chunks(WORDS) {
        to.size(1 + page.len());
        to.push("DEL");
        page.iter().for_each(|key| to.push(key));
    }
    sets.write(to);
}

impl Link {
    /// Names from a sorted set, and the rows of those that are there.
    async fn found<T: DeserializeOwned>(&self, kind: &str, words: &Words) -> Result<Vec<T>> {
        let odd = |problem: String| self.odd(problem);
        let mut answers = self.look(words, ACTION).await?;
        let names = names(answers.pop()).map_err(odd)?;
        let keys: Vec<_> = names
            .iter()
            .map(|name| self.keys().of(kind, name))
            .collect();
        self.rows(&keys).await
    }

    async fn rows<T: DeserializeOwned>(&self, keys: &[Vec<u8>]) -> Result<Vec<T>> {
        let odd = |problem: String| self.odd(problem);
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.look(&mget(keys), ACTION).await?;
        let found = values(answers).map_err(odd)?;
        let rows = found.iter().flatten().map(|stored| body(stored));
        rows.collect::<reply::Read<_>>().map_err(odd)
    }

    pub(crate) async fn open_reservations(&self, run: RunId) -> Result<Vec<OpenReservation>> {
        let (set, last) = (self.keys().run("open:", run), (MOST_LISTED - 1).to_string());
        let mut words = Words::default();
        words.command(&[b"ZRANGE", &set, b"0", last.as_bytes()]);
        let rows: Vec<ReservationRow> = self.found(RESERVATION, &words).await?;
        // One may have been settled between the two looks.
        let open = rows.into_iter().filter(|row| row.closed_at.is_none());
        Ok(open.map(Into::into).collect())
    }

    pub(crate) async fn balance(&self, account: &Account) -> Result<Option<Balance>> {
        let key = self.keys().of(ACCOUNT, account.as_str());
        let mut rows: Vec<AccountRow> = self.rows(&[key]).await?;
        Ok(rows.pop().map(Into::into))
    }

    pub(crate) async fn balances(&self, filter: &BalanceFilter) -> Result<Vec<Balance>> {
        let prefix = filter.prefix.as_bytes();
        let after = filter.after.as_ref().map(|after| after.as_str().as_bytes());
        let from = match after.filter(|after| *after >= prefix) {
            Some(after) => [b"(", after].concat(),
            None => [b"[", prefix].concat(),
        };
        // No name has this byte.
        let upto = [b"(", prefix, b"\xff"].concat();
        let (set, limit) = (self.keys().of("accts", ""), filter.limit.to_string());
        let mut words = Words::default();
        words.command(&[
            b"ZRANGE",
            &set,
            &from,
            &upto,
            b"BYLEX",
            b"LIMIT",
            b"0",
            limit.as_bytes(),
        ]);
        let rows: Vec<AccountRow> = self.found(ACCOUNT, &words).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}
