//! Looking, and starting anew by hand.

use super::{
    Fixture,
    fixture::{account, claim, key, tokens},
};
use crate::{BalanceFilter, MOST_LISTED};

async fn names(f: &Fixture, filter: BalanceFilter) -> Vec<String> {
    let balances = f.ledger.balances(&filter).await.unwrap();
    balances.into_iter().map(|b| b.account.into()).collect()
}

pub async fn balances_are_listed_by_name_page_by_page(f: &Fixture) {
    for name in [
        "tenant:b",
        "agent:x",
        "tenant:a",
        "tenant_c",
        "tenant:c",
        "tenant:a2",
    ] {
        f.granted(name, vec![claim(name, 10)], tokens(1)).await;
    }
    let mut filter = BalanceFilter {
        prefix: "tenant:".to_owned(),
        limit: 2,
        ..BalanceFilter::default()
    };
    assert_eq!(names(f, filter.clone()).await, ["tenant:a", "tenant:a2"]);
    filter.after = Some(account("tenant:a2"));
    assert_eq!(names(f, filter.clone()).await, ["tenant:b", "tenant:c"]);
    filter.after = Some(account("tenant:c"));
    assert_eq!(names(f, filter.clone()).await, [""; 0]);
    // Before the first of the prefix.
    filter.after = Some(account("agent:x"));
    assert_eq!(names(f, filter.clone()).await, ["tenant:a", "tenant:a2"]);
    filter.limit = 0;
    assert_eq!(names(f, filter).await, [""; 0]);
    assert_eq!(names(f, BalanceFilter::default()).await.len(), 6);
    let all = BalanceFilter {
        limit: usize::MAX,
        ..BalanceFilter::default()
    };
    assert!(names(f, all).await.len() <= MOST_LISTED);
    assert_eq!(f.ledger.balance(&account("tenant")).await.unwrap(), None);
}

pub async fn odd_names_stay_what_they_are(f: &Fixture) {
    let odd = [
        "tenant:100%",
        "tenant:a_b",
        r"tenant:\",
        "tenant:'q' \"r\"",
        "tenant:ü漢😀",
        "tenant:{x}:*[1]",
    ];
    for name in odd {
        f.granted(name, vec![claim(name, 10)], tokens(3)).await;
        f.settle(name, tokens(2)).await;
    }
    for name in odd {
        assert_eq!(f.used(name).await, (2, 0), "{name}");
        let filter = BalanceFilter {
            prefix: name.to_owned(),
            ..BalanceFilter::default()
        };
        assert_eq!(names(f, filter).await, [name]);
    }
}

pub async fn a_reset_forgets_what_was_spent_and_keeps_what_is_reserved(f: &Fixture) {
    assert_eq!(f.ledger.reset(&account("a")).await.unwrap(), None);
    f.granted("1", vec![claim("a", 10)], tokens(6)).await;
    f.settle("1", tokens(6)).await;
    f.granted("2", vec![claim("a", 10)], tokens(4)).await;
    let before = f.ledger.reset(&account("a")).await.unwrap().unwrap();
    assert_eq!((before.spent, before.reserved), (tokens(6), tokens(4)));
    assert_eq!(f.used("a").await, (0, 4));
    f.ledger.settle(&key("2"), tokens(3)).await.unwrap();
    assert_eq!(f.used("a").await, (3, 0));
    f.granted("3", vec![claim("a", 10)], tokens(7)).await;
}
