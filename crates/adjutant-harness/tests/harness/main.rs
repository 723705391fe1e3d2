//! Equipped agents on the real executor, in virtual time, with scripted models and tools that count.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod support;

mod assistant;
mod budgets;
mod crashes;
mod tools;
mod traces;
