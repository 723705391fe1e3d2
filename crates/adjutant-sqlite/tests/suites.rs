//! The contracts' suites on this engine, and the comparison with the memory engine.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

use std::sync::Arc;

use adjutant_sqlite::{SqliteConfig, Synchronous};
use adjutant_store::{
    MemoryConfig, MemoryStore,
    conformance::{Fixture, ManualClock, model},
};

/// A new store in a directory of its own. Nothing here pulls the plug, so nothing has to be synced.
async fn fresh() -> Fixture {
    let keep = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    let config = SqliteConfig {
        clock: Arc::new(clock.clone()),
        synchronous: Synchronous::Off,
        ..SqliteConfig::at(keep.path().join("store.db"))
    };
    Fixture {
        engine: Arc::new(adjutant_sqlite::open(config).await.unwrap()),
        clock,
        keep: Box::new(keep),
    }
}

adjutant_store::suite!(super::super::fresh());

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
    model::compare(&memory, &fresh().await, seed, 3000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_give_the_answers_of_the_memory_engine() {
    for seed in 1..=4 {
        compare_with_memory(seed).await;
    }
}
