//! The executor over the memory engine, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod support;

mod cancel;
mod children;
mod effects;
mod failures;
mod plan;
mod steering;
mod steps;
mod waits;
mod workers;
