//! What is forgotten, and what it costs.

use std::time::Duration;

use adjutant_core::{Error, RunId, Timestamp};

use super::{
    Fixture,
    fixture::{RUN, account, claim, key, tokens},
};
use crate::{Account, BalanceFilter, Period, Pruned};

const HOUR: Duration = Duration::from_secs(3600);

/// Lets an hour pass, and says when it began.
fn hour_later(f: &Fixture) -> Timestamp {
    let now = f.clock.now();
    (f.advance)(HOUR);
    now
}

async fn prune(f: &Fixture, before: Timestamp) -> Pruned {
    f.ledger.prune(before, 100).await.unwrap()
}

pub async fn settled_reservations_are_forgotten_in_time(f: &Fixture) {
    f.granted("1", vec![claim("a", 100)], tokens(6)).await;
    f.settle("1", tokens(5)).await;
    let then = hour_later(f);
    f.granted("2", vec![claim("a", 100)], tokens(6)).await;
    f.settle("2", tokens(5)).await;

    assert_eq!(prune(f, then).await, Pruned::default());
    f.settle("1", tokens(5)).await;
    let after = then + Duration::from_secs(1);
    let pruned = prune(f, after).await;
    assert_eq!((pruned.settled, pruned.reservations), (0, 1));
    let error = f.ledger.settle(&key("1"), tokens(5)).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    f.settle("2", tokens(5)).await;
    assert_eq!(f.used("a").await, (10, 0));
}

pub async fn accounts_of_runs_and_past_periods_are_forgotten_when_idle(f: &Fixture) {
    let midnight = Period::Day.end(f.clock.now());
    (f.advance)(midnight.since(f.clock.now()));
    let (run, tree) = (Account::run(RunId::new()), Account::tree(RunId::new()));
    let names = [run.as_str(), tree.as_str(), "agent:a", "tenant:t"];
    let claims: Vec<_> = names.iter().map(|name| claim(name, 100)).collect();
    let hourly = claim("tenant:h", 100).per(Period::Hour);
    let daily = claim("tenant:d", 100).per(Period::Day);
    let claims = [claims, vec![hourly, daily]].concat();
    f.granted("1", claims, tokens(1)).await;
    f.settle("1", tokens(1)).await;
    let then = hour_later(f);
    let soon = then + Duration::from_secs(1);
    // The hour is not over at that time.
    assert_eq!(prune(f, soon).await.accounts, 2);
    assert_eq!(f.ledger.balance(&run).await.unwrap(), None);
    assert_eq!(f.ledger.balance(&tree).await.unwrap(), None);
    assert_eq!(
        prune(f, f.clock.now() + Duration::from_secs(1))
            .await
            .accounts,
        1
    );
    let left = f.ledger.balances(&BalanceFilter::default()).await.unwrap();
    let left: Vec<String> = left.into_iter().map(|b| b.account.into()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!(left[0], "agent:a");
    assert!(left[1].starts_with("tenant:d@"), "{left:?}");
    assert_eq!(left[2], "tenant:t");
    assert_eq!(f.used("tenant:t").await, (1, 0));
}

pub async fn an_account_with_open_reservations_stays(f: &Fixture) {
    let run = Account::run(RunId::new());
    let start = f.clock.now();
    f.granted("1", vec![claim(run.as_str(), 100)], tokens(6))
        .await;
    hour_later(f);
    // It was used before this, but its reservation is not old enough to be given up.
    assert_eq!(prune(f, start).await, Pruned::default());
    assert_eq!(f.used(run.as_str()).await, (0, 6));
    f.settle("1", tokens(6)).await;
    let then = hour_later(f) + Duration::from_secs(1);
    let pruned = prune(f, then).await;
    assert_eq!((pruned.reservations, pruned.accounts), (1, 1));
}

pub async fn what_was_open_for_too_long_counts_in_full(f: &Fixture) {
    f.granted("1", vec![claim("a", 10), claim("b", 10)], tokens(6))
        .await;
    let then = hour_later(f) + Duration::from_secs(1);
    f.granted("2", vec![claim("a", 10)], tokens(3)).await;
    let pruned = prune(f, then).await;
    assert_eq!((pruned.settled, pruned.reservations), (1, 0));
    assert_eq!(f.used("a").await, (6, 3));
    assert_eq!(f.used("b").await, (6, 0));
    // Whoever comes too late changes nothing.
    f.settle("1", tokens(1)).await;
    assert_eq!(f.used("a").await, (6, 3));
    assert_eq!(f.ledger.open(RUN).await.unwrap().len(), 1);
    assert_eq!(f.ledger.balance(&account("c")).await.unwrap(), None);
}

pub async fn pruning_goes_piece_by_piece(f: &Fixture) {
    for n in 0..7 {
        let run = Account::run(RunId::new());
        let name = n.to_string();
        f.granted(&name, vec![claim(run.as_str(), 10)], tokens(1))
            .await;
        f.settle(&name, tokens(1)).await;
    }
    let then = hour_later(f) + Duration::from_secs(1);
    let mut sum = Pruned::default();
    let mut calls = 0;
    loop {
        let pruned = f.ledger.prune(then, 3).await.unwrap();
        if pruned == Pruned::default() {
            break;
        }
        assert!(
            pruned.reservations <= 3 && pruned.accounts <= 3,
            "{pruned:?}"
        );
        sum.reservations += pruned.reservations;
        sum.accounts += pruned.accounts;
        calls += 1;
    }
    assert_eq!((sum.reservations, sum.accounts), (7, 7));
    assert_eq!(calls, 3);
}
