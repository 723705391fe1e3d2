//! `agent budgets …`: what accounts have spent, and what calls under way may still spend.

use std::sync::Arc;

use adjutant::{
    RunId,
    budget::{Account, Balance, BalanceFilter, BudgetLedger, Figure, OpenReservation},
};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    context::Context,
    exit::Exit,
    failure::{ACCOUNT_NOT_FOUND, Failure, Result},
};

#[derive(Debug, Subcommand)]
#[command(
    after_help = "ACCOUNT is run:ID, tree:ID, agent:NAME or tenant:NAME; of one that starts anew each hour, day or month, \
                  the period belongs to the name: tenant:acme@2026-11-21."
)]
pub enum Budgets {
    /// List accounts by name
    #[command(visible_alias = "ls")]
    List(List),
    /// Show what an account has spent, and what calls under way have reserved
    Show(Which),
    /// Forget what an account has spent
    Reset(Which),
}

#[derive(Debug, Args)]
pub struct List {
    /// Only accounts whose names begin with this, such as tenant:
    #[arg(default_value = "")]
    prefix: String,
    /// Only accounts after this one: the last of the page before
    #[arg(long, value_name = "ACCOUNT")]
    after: Option<Account>,
    /// At most this many, and never more than 1000
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

#[derive(Debug, Args)]
pub struct Which {
    /// The account
    account: Account,
}

/// An account with what is open.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    balance: Balance,
    /// Of the account of a run only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    open: Vec<OpenReservation>,
}

impl Budgets {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let store = context.store().await?;
        let outcome = self.act(context, &store.ledger()).await;
        context.leave(&*store).await;
        outcome
    }

    async fn act(self, context: &Context, ledger: &Arc<dyn BudgetLedger>) -> Result<Exit> {
        match self {
            Self::List(list) => list.run(context, &**ledger).await,
            Self::Show(which) => show(context, &**ledger, &which.account).await,
            Self::Reset(which) => reset(context, &**ledger, &which.account).await,
        }
    }
}

impl List {
    async fn run(self, context: &Context, ledger: &dyn BudgetLedger) -> Result<Exit> {
        let filter = BalanceFilter {
            prefix: self.prefix,
            after: self.after,
            limit: self.limit,
        };
        let balances = ledger.balances(&filter).await?;
        if context.out.is_structured() {
            context.out.value(&balances)?;
            return Ok(Exit::Ok);
        }
        if balances.is_empty() {
            context.out.note("nothing has been spent there");
            return Ok(Exit::Ok);
        }
        let headings = [
            "ACCOUNT", "TOKENS", "COST", "TOOLS", "MODELS", "RUNS", "UPDATED",
        ];
        let rows = balances.iter().map(|balance| {
            let mut row = vec![balance.account.to_string()];
            row.extend([
                figure(balance, Figure::Tokens),
                figure(balance, Figure::MicroUsd),
                figure(balance, Figure::ToolCalls),
                figure(balance, Figure::ModelCalls),
                figure(balance, Figure::Runs),
                balance.updated_at.to_string(),
            ]);
            row
        });
        context.out.table(&headings, rows.collect())?;
        Ok(Exit::Ok)
    }
}

/// An account, or those of its periods.
async fn find(ledger: &dyn BudgetLedger, account: &Account) -> Result<Vec<Balance>> {
    if let Some(balance) = ledger.balance(account).await? {
        return Ok(vec![balance]);
    }
    let filter = BalanceFilter {
        prefix: format!("{account}@"),
        ..BalanceFilter::default()
    };
    let periods = ledger.balances(&filter).await?;
    match periods.is_empty() {
        true => Err(unknown(account)),
        false => Ok(periods),
    }
}

fn unknown(account: &Account) -> Failure {
    let message = format!("nothing was ever reserved at an account `{account}`");
    Failure::usage(ACCOUNT_NOT_FOUND, message).hint("see `agent budgets list`")
}

async fn show(context: &Context, ledger: &dyn BudgetLedger, account: &Account) -> Result<Exit> {
    let mut shown = Vec::new();
    for balance in find(ledger, account).await? {
        let run = balance.account.as_str().strip_prefix("run:");
        let open = match run.and_then(|run| run.parse::<RunId>().ok()) {
            Some(run) => ledger.open(run).await?,
            None => Vec::new(),
        };
        shown.push(Shown { balance, open });
    }
    if context.out.is_structured() {
        context.out.value(&shown)?;
        return Ok(Exit::Ok);
    }
    for (n, one) in shown.iter().enumerate() {
        if n > 0 {
            context.out.line("")?;
        }
        context.out.fields(&fields(one))?;
    }
    Ok(Exit::Ok)
}

fn fields(shown: &Shown) -> Vec<(&'static str, String)> {
    let balance = &shown.balance;
    let mut fields = vec![("account", balance.account.to_string())];
    for what in Figure::ALL {
        let used = balance.spent.get(what) + balance.reserved.get(what);
        if used > 0 || balance.caps.get(what).is_some() {
            fields.push((name(what), figure(balance, what)));
        }
    }
    if let Some(until) = balance.until {
        fields.push(("starts anew", until.to_string()));
    }
    fields.push(("updated", balance.updated_at.to_string()));
    let open = shown.open.iter().map(|open| {
        let step = open.key.step_key().unwrap_or(open.key.as_str());
        format!("{step} since {}", open.opened_at)
    });
    let open: Vec<String> = open.collect();
    if !open.is_empty() {
        fields.push(("open", open.join("\n")));
    }
    fields
}

fn name(what: Figure) -> &'static str {
    match what {
        Figure::Tokens => "tokens",
        Figure::MicroUsd => "cost",
        Figure::ToolCalls => "tool calls",
        Figure::ModelCalls => "model calls",
        Figure::Runs => "runs",
    }
}

/// `spent + reserved of cap`, without what is not there.
fn figure(balance: &Balance, what: Figure) -> String {
    let shown = |amount: u64| match what {
        Figure::MicroUsd => dollars(amount),
        _ => amount.to_string(),
    };
    let mut text = shown(balance.spent.get(what));
    let reserved = balance.reserved.get(what);
    if reserved > 0 {
        text.push_str(&format!(" + {}", shown(reserved)));
    }
    if let Some(cap) = balance.caps.get(what) {
        text.push_str(&format!(" of {}", shown(cap)));
    }
    text
}

/// Millionths of a dollar, with as many places as they need.
fn dollars(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    let places = format!("{rest:06}");
    let places = places.trim_end_matches('0');
    format!("${whole}.{places:0<2}")
}

async fn reset(context: &Context, ledger: &dyn BudgetLedger, account: &Account) -> Result<Exit> {
    let Some(before) = ledger.reset(account).await? else {
        // Those of its periods are told, so that one of them can be named.
        let periods = find(ledger, account).await?;
        let names: Vec<&str> = periods.iter().map(|one| one.account.as_str()).collect();
        let message = format!("`{account}` starts anew by itself; name one of its periods");
        return Err(Failure::usage(ACCOUNT_NOT_FOUND, message).because(names.join(", ")));
    };
    if context.out.is_structured() {
        context.out.value(&before)?;
        return Ok(Exit::Ok);
    }
    context.out.note(&format!(
        "{account} starts at nothing; it had spent {} tokens and {}",
        before.spent.tokens,
        dollars(before.spent.micro_usd)
    ));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_two_places_or_as_many_as_it_needs() {
        let cases = [
            (0, "$0.00"),
            (1, "$0.000001"),
            (1_500_000, "$1.50"),
            (12_345_600, "$12.3456"),
        ];
        for (micros, text) in cases {
            assert_eq!(dollars(micros), text);
        }
    }
}
