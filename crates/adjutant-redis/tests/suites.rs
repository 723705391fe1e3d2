//! The contracts' suites on this engine, and the comparison with the memory engine.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

mod support;

use std::sync::Arc;

use adjutant_store::{
    MemoryConfig, MemoryStore,
    conformance::{Fixture, ManualClock, model},
};

adjutant_store::suite!(super::super::support::fresh());

async fn compare_with_memory(seed: u64) {
    let clock = ManualClock::default();
    let memory = Fixture {
        engine: Arc::new(MemoryStore::with(MemoryConfig {
            clock: Arc::new(clock.clone()),
            ..MemoryConfig::default()
        })),
        clock,
        keep: Box::new(()),
    };
    model::compare(&memory, &support::fresh().await, seed, 3000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_give_the_answers_of_the_memory_engine() {
    for seed in 1..=4 {
        compare_with_memory(seed).await;
    }
}
