//! The ledger's rows. Whoever locks accounts has locked everything else before, and takes them in the order of their
//! names, so that nobody waits in a circle.

use std::sync::Arc;

use adjutant_budget::{
    Account, Balance, BalanceFilter, MOST_LISTED, OpenReservation, ReservationKey,
    engine::{AccountRow, Changes, ReservationRow},
};
use adjutant_core::{Result, RunId, Timestamp};
use adjutant_engine::{ledger_row, ledger_text};
use serde::de::DeserializeOwned;
use sqlx::postgres::PgRow;

use crate::{
    args::{Args, Literals, Values, limit},
    error::corrupt,
    reader::Readers,
    reads::Text,
    record,
    session::Session,
};

/// Statements that are run by name.
///
/// A reservation that is not there yet cannot be locked as a row. Whoever asks for the same one has to wait all the same, or
/// it would look for it before the other has put it there, and for room after that. So names are locked, in order; no
/// rows come back.
pub(crate) const PREPARES: &str = "\
    prepare adj_lock_names (text[]) as \
    select null::text as body from ( \
        select sum(case when pg_advisory_xact_lock(1094992964, h) is null then 0 else 1 end) as locked from ( \
            select distinct hashtext(key) as h from unnest($1) as key order by h \
        ) as hashes \
    ) as counted where locked < 0; \
    prepare adj_reservations (text[]) as \
    select body from reservations where key = any ($1) order by key for update; \
    prepare adj_accounts (text[]) as \
    select body from accounts where name = any ($1) order by name for update; \
    prepare adj_new_accounts (text[], bigint[], text[]) as \
    insert into accounts (name, idle_at, body) select * from unnest($1, $2, $3); \
    prepare adj_put_accounts (text[], bigint[], text[]) as \
    update accounts as a set idle_at = v.idle_at, body = v.body \
    from unnest($1, $2, $3) as v (name, idle_at, body) where a.name = v.name; \
    prepare adj_new_reservations (text[], uuid[], bigint[], bigint[], text[]) as \
    insert into reservations (key, run, opened_at, closed_at, body) \
    select * from unnest($1, $2, $3, $4, $5); \
    prepare adj_put_reservations (text[], bigint[], text[]) as \
    update reservations as r set closed_at = v.closed_at, body = v.body \
    from unnest($1, $2, $3) as v (key, closed_at, body) where r.key = v.key; \
    prepare adj_drop_accounts (text[]) as delete from accounts where name = any ($1); \
    prepare adj_drop_reservations (text[]) as delete from reservations where key = any ($1)";

static SETTLED: Text = Text::new(|| {
    Arc::from(
        "select body from reservations where closed_at is not null and closed_at < $1 \
         order by closed_at limit $2 for update skip locked",
    )
});
static UNSETTLED: Text = Text::new(|| {
    Arc::from(
        "select body from reservations where closed_at is null and opened_at < $1 \
         order by opened_at limit $2 for update skip locked",
    )
});
static IDLE: Text = Text::new(|| {
    Arc::from(
        "select body from accounts where idle_at is not null and idle_at < $1 \
         order by idle_at limit $2 for update skip locked",
    )
});
static OPEN: Text = Text::new(|| {
    Arc::from(
        "select body from reservations where run = $1 and closed_at is null order by key limit $2",
    )
});
static BALANCE: Text = Text::new(|| Arc::from("select body from accounts where name = $1"));
static BALANCES: Text = Text::new(|| {
    Arc::from(
        "select body from accounts where name >= $1 and name < $2 and name > $3 \
         order by name limit $4",
    )
});

fn body<T: DeserializeOwned>(row: &PgRow, location: &str) -> Result<T> {
    let text: &str = record::get(row, 0, location)?;
    ledger_row(text.as_bytes()).map_err(|problem| corrupt(location, problem))
}

fn time(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_micros)
}

/// `execute statement(values)`, after what is there already.
fn execute(text: &mut String, statement: &str, values: &Literals) {
    if !text.is_empty() {
        text.push_str("; ");
    }
    text.push_str(&format!("execute {statement}({})", values.as_str()));
}

fn put_accounts(text: &mut String, statement: &str, rows: &[&AccountRow]) {
    if rows.is_empty() {
        return;
    }
    let bodies: Vec<String> = rows.iter().map(ledger_text).collect();
    let mut values = Literals::default();
    values.texts(rows.iter().map(|row| row.account.as_str()));
    values.maybe_ints(rows.iter().map(|row| time(row.idle_at())));
    values.texts(bodies.iter().map(String::as_str));
    execute(text, statement, &values);
}

fn put_reservations(text: &mut String, new: bool, rows: &[&ReservationRow]) {
    if rows.is_empty() {
        return;
    }
    let bodies: Vec<String> = rows.iter().map(ledger_text).collect();
    let mut values = Literals::default();
    values.texts(rows.iter().map(|row| row.key.as_str()));
    if new {
        values.ids(rows.iter().map(|row| row.run.as_bytes()));
        values.ints(rows.iter().map(|row| row.opened_at.as_micros()));
    }
    values.maybe_ints(rows.iter().map(|row| time(row.closed_at)));
    values.texts(bodies.iter().map(String::as_str));
    let statement = match new {
        true => "adj_new_reservations",
        false => "adj_put_reservations",
    };
    execute(text, statement, &values);
}

/// The rows that are new, and those that are not.
fn split<'r, R>(rows: &[(&'r R, bool)]) -> (Vec<&'r R>, Vec<&'r R>) {
    let of = |new: bool| {
        let rows = rows.iter().filter(move |(_, is_new)| *is_new == new);
        rows.map(|(row, _)| *row).collect()
    };
    (of(true), of(false))
}

/// All statements that write these changes.
fn writes(changes: &Changes<'_>) -> String {
    let mut text = String::new();
    let (new, changed) = split(&changes.reservations);
    put_reservations(&mut text, true, &new);
    put_reservations(&mut text, false, &changed);
    let (new, changed) = split(&changes.accounts);
    put_accounts(&mut text, "adj_new_accounts", &new);
    put_accounts(&mut text, "adj_put_accounts", &changed);
    if !changes.gone_accounts.is_empty() {
        let mut values = Literals::default();
        values.texts(changes.gone_accounts.iter().map(Account::as_str));
        execute(&mut text, "adj_drop_accounts", &values);
    }
    if !changes.gone_reservations.is_empty() {
        let mut values = Literals::default();
        let keys = changes.gone_reservations.iter();
        values.texts(keys.map(ReservationKey::as_str));
        execute(&mut text, "adj_drop_reservations", &values);
    }
    text
}

impl Session {
    async fn named<'n, T: DeserializeOwned>(
        &mut self,
        statement: &str,
        names: impl Iterator<Item = &'n str>,
    ) -> Result<Vec<T>> {
        let mut values = Literals::default();
        values.texts(names);
        let mut text = String::new();
        execute(&mut text, statement, &values);
        let rows = self.text(&text).await?;
        self.each(&rows, body)
    }

    pub(crate) async fn reservations(
        &mut self,
        keys: &[&ReservationKey],
    ) -> Result<Vec<ReservationRow>> {
        let mut values = Literals::default();
        values.texts(keys.iter().map(|key| key.as_str()));
        let mut text = String::new();
        execute(&mut text, "adj_lock_names", &values);
        execute(&mut text, "adj_reservations", &values);
        let rows = self.text(&text).await?;
        self.each(&rows, body)
    }

    pub(crate) async fn accounts(&mut self, names: &[&Account]) -> Result<Vec<AccountRow>> {
        let names = names.iter().map(|name| name.as_str());
        self.named("adj_accounts", names).await
    }

    /// What may be forgotten.
    pub(crate) async fn old_reservations(
        &mut self,
        before: Timestamp,
        most: usize,
    ) -> Result<(Vec<ReservationRow>, Vec<AccountRow>)> {
        let args = || Args::default().with(before.as_micros()).with(limit(most));
        let rows = self.rows(&SETTLED, args()).await?;
        let mut reservations = self.each(&rows, body)?;
        let rows = self.rows(&UNSETTLED, args()).await?;
        reservations.append(&mut self.each(&rows, body)?);
        let rows = self.rows(&IDLE, args()).await?;
        Ok((reservations, self.each(&rows, body)?))
    }

    pub(crate) async fn write_ledger(&mut self, changes: &Changes<'_>, commit: bool) -> Result<()> {
        self.run(&writes(changes), commit).await
    }
}

impl Readers {
    async fn bodies<T: DeserializeOwned>(&self, text: &Text, args: Args) -> Result<Vec<T>> {
        let rows = self.rows(text, args).await?;
        let location = self.location();
        rows.iter().map(|row| body(row, &location)).collect()
    }

    pub(crate) async fn open_reservations(&self, run: RunId) -> Result<Vec<OpenReservation>> {
        let args = Args::run(run).with(limit(MOST_LISTED));
        let rows: Vec<ReservationRow> = self.bodies(&OPEN, args).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    pub(crate) async fn balance(&self, account: &Account) -> Result<Option<Balance>> {
        let args = Args::default().with(account.as_str());
        let mut rows: Vec<AccountRow> = self.bodies(&BALANCE, args).await?;
        Ok(rows.pop().map(Into::into))
    }

    pub(crate) async fn balances(&self, filter: &BalanceFilter) -> Result<Vec<Balance>> {
        let after = filter.after.as_ref().map_or("", Account::as_str);
        // No name has a character after this one.
        let end = format!("{}{}", filter.prefix, char::MAX);
        let args = Args::default().with(&*filter.prefix).with(end).with(after);
        let rows: Vec<AccountRow> = self
            .bodies(&BALANCES, args.with(limit(filter.limit)))
            .await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}
