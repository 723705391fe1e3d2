//! All engines against the memory engine, through one handle and through several: the same random operations, the
//! same answers; and what one handle does, the others hear of.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

#[path = "../support/dice.rs"]
mod dice;

mod counts;
mod ledgers;
mod place;
mod several;

mod budgets;
mod handles;
mod model;
mod pace;
mod races;
