//! Thresholds.

use super::{
    Fixture,
    fixture::{account, claim, tokens},
};
use crate::{Figure, Warning};

fn warning(used: u64) -> Warning {
    Warning {
        account: account("a"),
        what: Figure::Tokens,
        used,
        cap: 100,
    }
}

pub async fn a_threshold_is_told_when_it_is_reached_and_not_again(f: &Fixture) {
    let claims = || vec![claim("a", 100), claim("b", 1000)];
    assert_eq!(f.granted("1", claims(), tokens(79)).await, []);
    assert_eq!(f.granted("2", claims(), tokens(1)).await, [warning(80)]);
    assert_eq!(f.granted("2", claims(), tokens(1)).await, []);
    assert_eq!(f.granted("3", claims(), tokens(20)).await, []);
    // Nothing of it was spent, so it is reached once more.
    f.ledger.release(&super::fixture::key("3")).await.unwrap();
    f.ledger.release(&super::fixture::key("2")).await.unwrap();
    assert_eq!(f.granted("4", claims(), tokens(21)).await, [warning(100)]);
}

pub async fn what_is_settled_may_reach_a_threshold(f: &Fixture) {
    assert_eq!(f.granted("1", vec![claim("a", 100)], tokens(10)).await, []);
    assert_eq!(f.settle("1", tokens(120)).await, [warning(120)]);
    assert_eq!(f.settle("1", tokens(120)).await, []);
}

pub async fn whoever_wants_no_warning_gets_none(f: &Fixture) {
    let mut silent = claim("a", 100);
    silent.warn_percent = None;
    assert_eq!(f.granted("1", vec![silent], tokens(100)).await, []);
    assert_eq!(f.settle("1", tokens(200)).await, []);
}
