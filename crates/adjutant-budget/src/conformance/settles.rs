//! What reservations come to, and what becomes of those that nobody settles.

use std::sync::Arc;

use adjutant_core::{Error, RetryAdvice, RunId};

use super::{
    Fixture,
    fixture::{account, claim, key, reserve, tokens},
};
use crate::{Amount, BudgetLedger, Caps, Claim, ReservationKey};

pub async fn settling_counts_what_it_came_to(f: &Fixture) {
    let claims = vec![claim("a", 10), claim("b", 20)];
    f.granted("1", claims, tokens(6)).await;
    let actual = Amount {
        micro_usd: 12,
        ..tokens(4)
    };
    f.settle("1", actual).await;
    for name in ["a", "b"] {
        let balance = f.balance(name).await;
        assert_eq!((balance.spent, balance.reserved), (actual, Amount::ZERO));
    }
}

pub async fn what_goes_beyond_the_bound_counts_too(f: &Fixture) {
    f.granted("1", vec![claim("a", 10)], tokens(6)).await;
    f.settle("1", tokens(15)).await;
    assert_eq!(f.used("a").await, (15, 0));
    f.refused("2", vec![claim("a", 10)], tokens(1)).await;
}

pub async fn settling_again_changes_nothing(f: &Fixture) {
    f.granted("1", vec![claim("a", 10)], tokens(6)).await;
    f.settle("1", tokens(4)).await;
    assert_eq!(f.settle("1", tokens(9)).await, []);
    f.ledger.release(&key("1")).await.unwrap();
    assert_eq!(f.used("a").await, (4, 0));
}

pub async fn settling_at_once_counts_once(f: &Fixture) {
    f.granted("1", vec![claim("a", 10)], tokens(6)).await;
    let settled = (0..50).map(|_| {
        let ledger = Arc::clone(&f.ledger);
        tokio::spawn(async move { ledger.settle(&key("1"), tokens(5)).await.unwrap() })
    });
    for settled in settled.collect::<Vec<_>>() {
        settled.await.unwrap();
    }
    assert_eq!(f.used("a").await, (5, 0));
}

pub async fn a_key_that_nobody_reserved_is_refused(f: &Fixture) {
    let error = f.ledger.settle(&key("1"), tokens(1)).await.unwrap_err();
    let is_named = matches!(&error, Error::Invalid { field: "reservation", problem } if problem.contains("`1`"));
    assert!(is_named, "{error}");
    assert_eq!(error.retry(), RetryAdvice::Never);
}

pub async fn releasing_gives_everything_back(f: &Fixture) {
    f.granted("1", vec![claim("a", 10)], tokens(10)).await;
    f.ledger.release(&key("1")).await.unwrap();
    f.ledger.release(&key("1")).await.unwrap();
    assert_eq!(f.used("a").await, (0, 0));
    f.granted("2", vec![claim("a", 10)], tokens(10)).await;
}

pub async fn whoever_goes_on_finds_what_is_open_and_settles_it(f: &Fixture) {
    let (run, other) = (RunId::new(), RunId::new());
    let claims = vec![claim("tenant:t", 100), claim("agent:a", 100)];
    for (whose, step) in [(run, "c"), (run, "a"), (other, "a"), (run, "b")] {
        let mut reserve = reserve(whose, "-", claims.clone(), tokens(10));
        reserve.key = ReservationKey::step(whose, 3, step).unwrap();
        assert!(f.ledger.reserve(reserve).await.unwrap().is_granted());
    }
    let done = ReservationKey::step(run, 3, "b").unwrap();
    f.ledger.settle(&done, tokens(1)).await.unwrap();

    let open = f.ledger.open(run).await.unwrap();
    let steps: Vec<_> = open.iter().filter_map(|open| open.key.step_key()).collect();
    assert_eq!(steps, ["a", "c"]);
    for open in &open {
        assert_eq!((open.run, open.amount), (run, tokens(10)));
        assert_eq!(open.accounts, [account("agent:a"), account("tenant:t")]);
        assert_eq!(open.opened_at, f.clock.now());
    }
    // The journal says what the first came to, and that the second has not happened.
    f.ledger.settle(&open[0].key, tokens(7)).await.unwrap();
    f.ledger.release(&open[1].key).await.unwrap();
    assert_eq!(f.ledger.open(run).await.unwrap(), []);
    assert_eq!(f.ledger.open(other).await.unwrap().len(), 1);
    assert_eq!(f.used("tenant:t").await, (8, 10));
}

pub async fn what_nobody_settles_stays_reserved(f: &Fixture) {
    f.granted("1", vec![claim("a", 10)], tokens(8)).await;
    (f.advance)(std::time::Duration::from_secs(3600 * 24 * 365));
    f.refused("2", vec![claim("a", 10)], tokens(3)).await;
    assert_eq!(f.used("a").await, (0, 8));
}

pub async fn the_ledger_equals_what_the_calls_came_to(f: &Fixture) {
    let caps = Caps {
        model_calls: Some(60),
        tokens: Some(100_000),
        ..Caps::default()
    };
    let child = |n: u64| {
        let (ledger, run) = (Arc::clone(&f.ledger), RunId::new());
        async move { calls(&*ledger, run, n, caps).await }
    };
    let children: Vec<_> = (0..100).map(|n| tokio::spawn(child(n))).collect();
    let mut sum = Amount::ZERO;
    for child in children {
        sum = sum.plus(child.await.unwrap());
    }
    let balance = f.balance("tree:t").await;
    assert_eq!((balance.spent, balance.reserved), (sum, Amount::ZERO));
    assert_eq!(sum.model_calls, 60, "there was room for each of these");
}

/// Makes calls until there is no room for any more, and says what they came to.
async fn calls(ledger: &dyn BudgetLedger, run: RunId, n: u64, caps: Caps) -> Amount {
    let mut sum = Amount::ZERO;
    for call in 0..3 {
        let mut reserve = reserve(run, "-", Vec::new(), tokens(100));
        reserve.amount.model_calls = 1;
        reserve.claims = vec![Claim::new(account("tree:t"), caps)];
        reserve.key = ReservationKey::step(run, 1, &format!("call{call}")).unwrap();
        let key = reserve.key.clone();
        if !ledger.reserve(reserve).await.unwrap().is_granted() {
            break;
        }
        let actual = Amount {
            model_calls: 1,
            ..tokens(n)
        };
        ledger.settle(&key, actual).await.unwrap();
        sum = sum.plus(actual);
    }
    sum
}
