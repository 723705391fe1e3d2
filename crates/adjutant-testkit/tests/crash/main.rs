//! Kills workers at every write and at random moments, and stops one for longer than its lease: real
//! processes over one SQLite file. Nothing that was accepted may be lost, and nothing recorded done again.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

mod agents;
mod check;
mod site;
mod worker;

mod errors;
mod fencing;
mod points;
mod random;
mod stopped;

/// Not a test: this binary runs itself with a worker's settings in its environment.
#[test]
fn worker_process() {
    worker::main();
}

#[tokio::test]
async fn a_former_holder_is_refused_whatever_it_sends() {
    fencing::former_holders_are_refused(&site::Site::new().await).await;
}
