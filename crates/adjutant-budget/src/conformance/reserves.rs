//! What is granted and what is not.

use std::sync::Arc;

use adjutant_core::{Error, RunId};

use super::{
    Fixture,
    fixture::{RUN, account, claim, key, reserve, tokens},
};
use crate::{Amount, Caps, Claim, Figure, MOST_CLAIMS, Refusal, Reserved};

pub async fn what_is_reserved_counts_until_it_is_settled(f: &Fixture) {
    f.granted("1", vec![claim("a", 10)], tokens(6)).await;
    assert_eq!(f.used("a").await, (0, 6));
    f.refused("2", vec![claim("a", 10)], tokens(5)).await;
    f.settle("1", tokens(2)).await;
    assert_eq!(f.used("a").await, (2, 0));
    f.granted("2", vec![claim("a", 10)], tokens(5)).await;
    assert_eq!(f.used("a").await, (2, 5));
}

pub async fn the_bound_itself_may_be_reached(f: &Fixture) {
    f.refused("1", vec![claim("a", 10)], tokens(11)).await;
    f.granted("1", vec![claim("a", 10)], tokens(10)).await;
    f.refused("2", vec![claim("a", 10)], tokens(1)).await;
    f.granted("3", vec![claim("b", 0)], tokens(0)).await;
    f.refused("4", vec![claim("b", 0)], tokens(1)).await;
}

pub async fn every_figure_has_its_own_bound(f: &Fixture) {
    let caps = Caps {
        tokens: Some(5),
        micro_usd: Some(5),
        tool_calls: Some(5),
        model_calls: Some(5),
        runs: Some(5),
    };
    let all = Amount {
        tokens: 5,
        micro_usd: 5,
        tool_calls: 5,
        model_calls: 5,
        runs: 5,
    };
    let amounts = [
        (Figure::Tokens, Amount { tokens: 6, ..all }),
        (
            Figure::MicroUsd,
            Amount {
                micro_usd: 6,
                ..all
            },
        ),
        (
            Figure::ToolCalls,
            Amount {
                tool_calls: 6,
                ..all
            },
        ),
        (
            Figure::ModelCalls,
            Amount {
                model_calls: 6,
                ..all
            },
        ),
        (Figure::Runs, Amount { runs: 6, ..all }),
    ];
    let claims = || vec![Claim::new(account("a"), caps)];
    for (what, amount) in amounts {
        assert_eq!(f.refused("1", claims(), amount).await.what, what);
    }
    f.granted("1", claims(), all).await;
    f.settle("1", all).await;
    assert_eq!(f.balance("a").await.spent, all);
    assert_eq!(f.balance("a").await.caps, caps);
}

pub async fn an_account_without_bounds_only_counts(f: &Fixture) {
    let claims = || vec![Claim::new(account("a"), Caps::default())];
    f.granted("1", claims(), tokens(u64::MAX)).await;
    f.granted("2", claims(), tokens(7)).await;
    f.settle("1", tokens(3)).await;
    f.settle("2", tokens(7)).await;
    assert_eq!(f.balance("a").await.spent, tokens(10));
    // Nobody pays: it is only known to be open.
    f.granted("3", Vec::new(), tokens(1)).await;
    f.settle("3", tokens(1)).await;
}

pub async fn all_accounts_are_granted_or_none(f: &Fixture) {
    f.granted("1", vec![claim("b", 10)], tokens(8)).await;
    let claims = || vec![claim("a", 10), claim("b", 10), claim("c", 10)];
    let refusal = f.refused("2", claims(), tokens(3)).await;
    assert_eq!(refusal.account, account("b"));
    assert_eq!(f.ledger.balance(&account("a")).await.unwrap(), None);
    assert_eq!(f.ledger.balance(&account("c")).await.unwrap(), None);
    assert_eq!(f.used("b").await, (0, 8));
    f.granted("2", claims(), tokens(2)).await;
    for (name, reserved) in [("a", 2), ("b", 10), ("c", 2)] {
        assert_eq!(f.used(name).await, (0, reserved), "{name}");
    }
}

pub async fn a_refusal_says_where_and_how_much(f: &Fixture) {
    f.granted("1", vec![claim("a", 10)], tokens(4)).await;
    f.granted("2", vec![claim("a", 10)], tokens(3)).await;
    f.settle("1", tokens(4)).await;
    let refusal = f.refused("3", vec![claim("a", 10)], tokens(5)).await;
    let expected = Refusal {
        account: account("a"),
        what: Figure::Tokens,
        spent: 4,
        reserved: 3,
        cap: 10,
        asked: 5,
        until: None,
    };
    assert_eq!(refusal, expected);
}

pub async fn a_refused_reservation_may_be_asked_for_again(f: &Fixture) {
    f.refused("1", vec![claim("a", 10)], tokens(11)).await;
    f.granted("1", vec![claim("a", 10)], tokens(9)).await;
    assert_eq!(f.used("a").await, (0, 9));
}

pub async fn reserving_again_is_reserving_once(f: &Fixture) {
    for _ in 0..3 {
        f.granted("1", vec![claim("a", 10)], tokens(6)).await;
    }
    assert_eq!(f.used("a").await, (0, 6));
    f.settle("1", tokens(6)).await;
    assert_eq!(f.used("a").await, (6, 0));
}

pub async fn a_key_stands_for_one_request(f: &Fixture) {
    f.granted("1", vec![claim("a", 10)], tokens(3)).await;
    let other_amount = reserve(RUN, "1", vec![claim("a", 10)], tokens(4));
    let other_run = reserve(RunId::new(), "1", vec![claim("a", 10)], tokens(3));
    for other in [other_amount, other_run] {
        let error = f.ledger.reserve(other).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
    }
    assert_eq!(f.used("a").await, (0, 3));
}

pub async fn a_settled_key_is_used_up(f: &Fixture) {
    f.granted("1", vec![claim("a", 10)], tokens(3)).await;
    f.settle("1", tokens(2)).await;
    let again = reserve(RUN, "1", vec![claim("a", 10)], tokens(3));
    let error = f.ledger.reserve(again).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    assert_eq!(f.used("a").await, (2, 0));
}

pub async fn bounds_are_those_of_the_latest_reservation(f: &Fixture) {
    f.granted("1", vec![claim("a", 10)], tokens(10)).await;
    f.granted("2", vec![claim("a", 12)], tokens(1)).await;
    f.refused("3", vec![claim("a", 11)], tokens(1)).await;
    assert_eq!(f.balance("a").await.caps.tokens, Some(12));
}

pub async fn what_is_wrong_is_named_and_changes_nothing(f: &Fixture) {
    let mut percent = claim("a", 10);
    percent.warn_percent = Some(101);
    let many = (0..=MOST_CLAIMS).map(|n| claim(&format!("a{n}"), 10));
    let cases = [
        ("claims", vec![claim("a", 10), claim("a", 20)]),
        ("claims", many.collect()),
        ("warn_percent", vec![percent]),
    ];
    for (wrong, claims) in cases {
        let reserve = reserve(RUN, "1", claims, tokens(1));
        match f.ledger.reserve(reserve).await {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, wrong),
            other => panic!("{wrong}: {other:?}"),
        }
    }
    assert_eq!(f.ledger.balance(&account("a")).await.unwrap(), None);
    f.granted("1", vec![claim("a", 10)], tokens(1)).await;
}

pub async fn a_hundred_at_once_are_not_granted_too_much(f: &Fixture) {
    let asked = (0..100).map(|n| {
        let ledger = Arc::clone(&f.ledger);
        tokio::spawn(async move {
            let claims = vec![claim("shared", 200), claim(&format!("own{n}"), 10)];
            let reserve = reserve(RUN, &format!("r{n}"), claims, tokens(7));
            ledger.reserve(reserve).await.unwrap()
        })
    });
    let asked: Vec<_> = asked.collect();
    let mut granted = 0;
    for (n, answer) in asked.into_iter().enumerate() {
        let own = account(&format!("own{n}"));
        let is_granted = match answer.await.unwrap() {
            Reserved::Granted { .. } => true,
            Reserved::Refused(refusal) => {
                assert_eq!(refusal.account, account("shared"));
                false
            }
        };
        granted += u64::from(is_granted);
        let own = f.ledger.balance(&own).await.unwrap();
        assert_eq!(own.map(|own| own.reserved), is_granted.then(|| tokens(7)));
    }
    // 28 times 7 fit into 200.
    assert_eq!(granted, 28);
    assert_eq!(f.used("shared").await, (0, 196));
}

pub async fn a_hundred_of_the_same_key_reserve_once(f: &Fixture) {
    let asked = (0..100).map(|_| {
        let ledger = Arc::clone(&f.ledger);
        tokio::spawn(async move {
            let reserve = reserve(RUN, "one", vec![claim("a", 10)], tokens(7));
            ledger.reserve(reserve).await.unwrap()
        })
    });
    for answer in asked.collect::<Vec<_>>() {
        assert!(answer.await.unwrap().is_granted());
    }
    assert_eq!(f.used("a").await, (0, 7));
}

pub async fn crossing_claims_of_many_do_not_stand_still(f: &Fixture) {
    let worker = |n: usize| {
        let ledger = Arc::clone(&f.ledger);
        async move {
            for round in 0..10 {
                let name = format!("{n}-{round}");
                let mut claims = vec![claim("a", 1000), claim("b", 1000), claim("c", 1000)];
                claims.rotate_left((n + round) % 3);
                let reserve = reserve(RUN, &name, claims, tokens(2));
                assert!(ledger.reserve(reserve).await.unwrap().is_granted());
                ledger.settle(&key(&name), tokens(1)).await.unwrap();
            }
        }
    };
    let workers: Vec<_> = (0..10).map(|n| tokio::spawn(worker(n))).collect();
    for worker in workers {
        worker.await.unwrap();
    }
    for name in ["a", "b", "c"] {
        assert_eq!(f.used(name).await, (100, 0), "{name}");
    }
}
