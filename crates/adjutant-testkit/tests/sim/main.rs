//! Deterministic simulation: real workers on a store that fails, dies and delays by a seed, in virtual
//! time, held to the runtime's promises.
//!
//! `ADJUTANT_SIM_SEEDS=5000` simulates more seeds, `ADJUTANT_SIM_SEED=17` just that one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

mod agents;
mod check;
mod dice;
mod observer;
mod operator;
mod workers;
mod world;

use std::time::Instant;

/// Seeds that are simulated when nobody says otherwise.
const SEEDS: u64 = 300;

#[test]
fn promises_hold_whatever_fails() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>());
    let (first, count) = match number("ADJUTANT_SIM_SEED") {
        Some(seed) => (seed.unwrap(), 1),
        None => (
            0,
            number("ADJUTANT_SIM_SEEDS").map_or(SEEDS, Result::unwrap),
        ),
    };
    let began = Instant::now();
    let mut sum = world::Summary::default();
    for seed in first..first + count {
        match world::simulate(seed) {
            Ok(summary) => sum.add(&summary),
            Err(broken) => panic!(
                "seed {seed}: {} broken; ADJUTANT_SIM_SEED={seed} runs it alone\n{}",
                broken.len(),
                broken.join("\n")
            ),
        }
    }
    eprintln!("{count} seeds in {:?}: {sum:?}", began.elapsed());
    // A simulation in which nothing goes wrong proves nothing.
    assert!(count < 100 || sum.is_lively(), "{sum:?}");
}
