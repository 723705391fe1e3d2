//! The ledger's rows.

use std::sync::{Arc, LazyLock};

use adjutant_budget::{
    Account, Balance, BalanceFilter, MOST_LISTED, OpenReservation, ReservationKey,
    engine::{AccountRow, Changes, ReservationRow},
};
use adjutant_core::{Result, RunId, Timestamp};
use adjutant_engine::{ledger_row, ledger_text};
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;

use crate::{
    db::Db,
    error::corrupt,
    reader::Reader,
    record,
    sql::{self, Args, Texts, WIDEST, WIDTHS, width_for},
};

static ACCOUNTS: Texts = LazyLock::new(|| sql::find("t.body", "accounts", "name", ""));
static RESERVATIONS: Texts = LazyLock::new(|| sql::find("t.body", "reservations", "key", ""));
static SETTLED: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from("select body from reservations where closed_at < ? order by closed_at limit ?")
});
static UNSETTLED: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from("select body from reservations where closed_at is null and opened_at < ? limit ?")
});
static IDLE: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from("select body from accounts where idle_at < ? order by idle_at limit ?")
});
static PUT_ACCOUNTS: Texts = LazyLock::new(|| {
    sql::insert(
        "accounts",
        "name, idle_at, body",
        " on conflict (name) do update set idle_at = excluded.idle_at, body = excluded.body",
    )
});
static PUT_RESERVATIONS: Texts = LazyLock::new(|| {
    sql::insert(
        "reservations",
        "key, run, opened_at, closed_at, body",
        " on conflict (key) do update set closed_at = excluded.closed_at, body = excluded.body",
    )
});
static DROP_ACCOUNTS: Texts =
    LazyLock::new(|| sql::list("delete from accounts where name in (", ")"));
static DROP_RESERVATIONS: Texts =
    LazyLock::new(|| sql::list("delete from reservations where key in (", ")"));
static OPEN: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from(
        "select body from reservations where run = ? and closed_at is null order by key limit ?",
    )
});
static BALANCE: LazyLock<Arc<str>> =
    LazyLock::new(|| Arc::from("select body from accounts where name = ?"));
static BALANCES: LazyLock<Arc<str>> = LazyLock::new(|| {
    Arc::from(
        "select body from accounts where name >= ?1 and name < ?2 and name > ?3 \
         order by name limit ?4",
    )
});

fn bodies<T: DeserializeOwned>(rows: &[SqliteRow], db: &Db) -> Result<Vec<T>> {
    let read = rows.iter().map(|row| {
        let body: &str = record::get(row, 0, db.path())?;
        ledger_row(body.as_bytes()).map_err(|problem| corrupt(db.path(), problem))
    });
    read.collect()
}

async fn one<T: DeserializeOwned>(db: &mut Db, text: &Arc<str>, args: Args) -> Result<Vec<T>> {
    let rows = db.rows(Arc::clone(text), args).await?;
    bodies(&rows, db)
}

/// Reads rows by name.
async fn named<'n, T: DeserializeOwned>(
    db: &mut Db,
    texts: &Texts,
    names: impl Iterator<Item = &'n str>,
) -> Result<Vec<T>> {
    let names: Vec<&str> = names.collect();
    let mut found = Vec::with_capacity(names.len());
    for chunk in names.chunks(WIDEST) {
        let width = width_for(chunk.len());
        found.append(&mut one(db, &texts[width], text_args(chunk, width)).await?);
    }
    Ok(found)
}

fn text_args(texts: &[&str], width: usize) -> Args {
    let mut args = Args::default();
    texts.iter().for_each(|text| args.text(text));
    args.nulls(WIDTHS[width] - texts.len());
    args
}

pub(crate) async fn accounts(db: &mut Db, names: &[&Account]) -> Result<Vec<AccountRow>> {
    named(db, &ACCOUNTS, names.iter().map(|name| name.as_str())).await
}

pub(crate) async fn reservations(
    db: &mut Db,
    keys: &[&ReservationKey],
) -> Result<Vec<ReservationRow>> {
    named(db, &RESERVATIONS, keys.iter().map(|key| key.as_str())).await
}

/// What may be forgotten.
pub(crate) async fn old(
    db: &mut Db,
    before: Timestamp,
    limit: usize,
) -> Result<(Vec<ReservationRow>, Vec<AccountRow>)> {
    let args = || {
        let mut args = Args::default();
        args.int(before.as_micros());
        args.int(i64::try_from(limit).unwrap_or(i64::MAX));
        args
    };
    let mut reservations = one(db, &SETTLED, args()).await?;
    reservations.append(&mut one(db, &UNSETTLED, args()).await?);
    Ok((reservations, one(db, &IDLE, args()).await?))
}

/// Writes what has changed.
pub(crate) async fn write(db: &mut Db, changes: &Changes<'_>) -> Result<()> {
    for chunk in changes.accounts.chunks(WIDEST) {
        let width = width_for(chunk.len());
        let mut args = Args::default();
        for (row, _) in chunk {
            args.text(row.account.as_str());
            args.maybe_int(row.idle_at().map(Timestamp::as_micros));
            args.text(&ledger_text(row));
        }
        args.nulls((WIDTHS[width] - chunk.len()) * 3);
        db.run(Arc::clone(&PUT_ACCOUNTS[width]), args).await?;
    }
    for chunk in changes.reservations.chunks(WIDEST) {
        let width = width_for(chunk.len());
        let mut args = Args::default();
        for (row, _) in chunk {
            args.text(row.key.as_str());
            args.blob(row.run.as_bytes());
            args.int(row.opened_at.as_micros());
            args.maybe_int(row.closed_at.map(Timestamp::as_micros));
            args.text(&ledger_text(row));
        }
        args.nulls((WIDTHS[width] - chunk.len()) * 5);
        db.run(Arc::clone(&PUT_RESERVATIONS[width]), args).await?;
    }
    let names = changes.gone_accounts.iter().map(Account::as_str);
    drop_rows(db, &DROP_ACCOUNTS, names).await?;
    let keys = changes.gone_reservations.iter().map(ReservationKey::as_str);
    drop_rows(db, &DROP_RESERVATIONS, keys).await
}

async fn drop_rows<'n>(
    db: &mut Db,
    texts: &Texts,
    names: impl Iterator<Item = &'n str>,
) -> Result<()> {
    let names: Vec<&str> = names.collect();
    for chunk in names.chunks(WIDEST) {
        let width = width_for(chunk.len());
        db.run(Arc::clone(&texts[width]), text_args(chunk, width))
            .await?;
    }
    Ok(())
}

impl Reader<'_> {
    pub(crate) async fn open_reservations(&mut self, run: RunId) -> Result<Vec<OpenReservation>> {
        let mut args = Args::default();
        args.blob(run.as_bytes());
        args.int(i64::try_from(MOST_LISTED).unwrap_or(i64::MAX));
        let rows: Vec<ReservationRow> = one(self.db()?, &OPEN, args).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    pub(crate) async fn balance(&mut self, account: &Account) -> Result<Option<Balance>> {
        let args = text_args(&[account.as_str()], 0);
        let mut rows: Vec<AccountRow> = one(self.db()?, &BALANCE, args).await?;
        Ok(rows.pop().map(Into::into))
    }

    pub(crate) async fn balances(&mut self, filter: &BalanceFilter) -> Result<Vec<Balance>> {
        let after = filter.after.as_ref().map_or("", Account::as_str);
        let mut args = Args::default();
        args.text(&filter.prefix);
        // No name has a character after this one.
        args.text(&format!("{}{}", filter.prefix, char::MAX));
        args.text(after);
        args.int(i64::try_from(filter.limit).unwrap_or(i64::MAX));
        let rows: Vec<AccountRow> = one(self.db()?, &BALANCES, args).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}
