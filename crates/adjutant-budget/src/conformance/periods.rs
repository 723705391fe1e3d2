//! Accounts that start anew.

use std::time::Duration;

use adjutant_core::Timestamp;

use super::{
    Fixture,
    fixture::{claim, tokens},
};
use crate::{Balance, BalanceFilter, Claim, Period};

fn hourly(most: u64) -> Vec<Claim> {
    vec![claim("a", most).per(Period::Hour)]
}

/// Goes to the next full hour.
fn next_hour(f: &Fixture) -> Timestamp {
    let end = Period::Hour.end(f.clock.now());
    (f.advance)(end.since(f.clock.now()));
    assert_eq!(f.clock.now(), end);
    end
}

async fn all(f: &Fixture) -> Vec<Balance> {
    f.ledger.balances(&BalanceFilter::default()).await.unwrap()
}

pub async fn an_account_starts_anew_with_its_period(f: &Fixture) {
    next_hour(f);
    f.granted("1", hourly(10), tokens(10)).await;
    (f.advance)(Duration::from_secs(3599));
    f.refused("2", hourly(10), tokens(1)).await;
    (f.advance)(Duration::from_secs(1));
    f.granted("2", hourly(10), tokens(10)).await;
    // An account of the same name without a period is another one.
    f.granted("3", vec![claim("a", 10)], tokens(10)).await;
    let names: Vec<_> = all(f).await.into_iter().map(|b| b.account).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(names[0].as_str(), "a");
    assert!(names[1].as_str().starts_with("a@20"), "{names:?}");
}

pub async fn what_was_reserved_before_the_period_ended_is_settled_there(f: &Fixture) {
    let before = next_hour(f);
    f.granted("1", hourly(10), tokens(10)).await;
    let after = next_hour(f);
    // The same request as before, although the claim would mean another account by now.
    f.granted("1", hourly(10), tokens(10)).await;
    f.granted("2", hourly(10), tokens(4)).await;
    f.settle("1", tokens(9)).await;
    let [old, new] = &all(f).await[..] else {
        panic!("there are other accounts");
    };
    assert_eq!((old.spent, old.reserved), (tokens(9), tokens(0)));
    assert_eq!((new.spent, new.reserved), (tokens(0), tokens(4)));
    assert_eq!(old.until, Some(after));
    assert_eq!(new.until, Some(after + after.since(before)));
}

pub async fn a_refusal_says_when_the_account_starts_anew(f: &Fixture) {
    next_hour(f);
    let refusal = f.refused("1", hourly(10), tokens(11)).await;
    let end = f.clock.now() + Duration::from_secs(3600);
    assert_eq!(refusal.until, Some(end));
}
