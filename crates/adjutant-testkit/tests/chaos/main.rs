//! Storms: workers are killed and stopped, their connections cut in the middle of anything, and the server killed and
//! stopped for longer than a lease, all at random. What was accepted is not lost, ends once, and repeats nothing that
//! was recorded.
#![cfg(unix)]
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests, of which some is shared"
)]

#[path = "../crash/agents.rs"]
mod agents;
#[path = "../crash/check.rs"]
mod check;
#[path = "../support/dice.rs"]
mod dice;
#[path = "../crash/fencing.rs"]
mod fencing;
#[path = "../crash/site.rs"]
mod site;
#[path = "../crash/worker.rs"]
mod worker;

mod server;
mod storm;

use server::Server;

/// Not a test: this binary runs itself with a worker's settings in its environment.
#[test]
fn worker_process() {
    worker::main();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_outlasts_a_storm() {
    storm::check(Server::none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_outlasts_a_storm() {
    storm::check(Server::postgres()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_outlasts_a_storm() {
    storm::check(Server::redis()).await;
}
