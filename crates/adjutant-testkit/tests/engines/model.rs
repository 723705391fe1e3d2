//! The same random operations on the memory engine and on another one: all answers are the same.

use std::{sync::Arc, time::Instant};

use adjutant_store::conformance::{Fixture, ManualClock, model};

use crate::{
    counts::Counts,
    dice::Dice,
    place::{Engine, Place},
    several::Several,
};

/// Operations on one pair of stores, before both begin anew.
const STEPS: usize = 2500;

/// Some kinds of operations succeed seldom: so many more are made until all have.
const PATIENCE: usize = 4;

/// Makes this many operations on both, times `MODEL_TIMES`.
async fn compare(engine: Engine, handles: usize, operations: usize) {
    let began = Instant::now();
    let mut dice = Dice::seeded("MODEL_SEED");
    let times = std::env::var("MODEL_TIMES").map_or(1, |times| times.parse().unwrap());
    let counts = [(); 2].map(|()| Arc::<Counts>::default());
    let wanted = (operations * times).div_ceil(STEPS);
    let mut rounds = 0;
    while rounds < wanted || (!counts[1].missing().is_empty() && rounds < wanted * PATIENCE) {
        round(engine, handles, dice.below(u64::MAX), &counts).await;
        rounds += 1;
    }
    for counts in &counts {
        assert_eq!(counts.missing(), [""; 0], "never seen, of {counts:?}");
    }
    eprintln!("{:?}", counts[1]);
    let (made, took) = (rounds * STEPS, began.elapsed());
    eprintln!("{made} operations on {engine:?} through {handles} handles in {took:?}");
}

async fn round(engine: Engine, handles: usize, seed: u64, counts: &[Arc<Counts>; 2]) {
    // Each has a clock of its own: an operation that moves it is carried out on both.
    let clocks = [(); 2].map(|()| ManualClock::default());
    let memory = Place::memory(Arc::new(clocks[0].clone()));
    let other = Place::new(engine, handles, Some(Arc::new(clocks[1].clone()))).await;
    let places = [memory, other].into_iter().zip(&clocks).zip(counts);
    let mut fixtures = places.map(|((place, clock), counts)| Fixture {
        engine: Arc::new(Several::new(place.handles, seed, Arc::clone(counts))),
        clock: clock.clone(),
        keep: place.keep,
    });
    let (memory, other) = (fixtures.next().unwrap(), fixtures.next().unwrap());
    model::compare(&memory, &other, seed, STEPS).await;
    other.engine.close().await;
}

macro_rules! engines {
    ($($name:ident: $engine:ident, $handles:literal, $operations:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                compare(Engine::$engine, $handles, $operations).await;
            }
        )*
    };
}

// Nodes on Redis hear a moment later which runs others have made ready, so that claims at two of them may come in
// another order. What has to hold of them is in `races`.
engines! {
    sqlite_answers_as_memory_does: Sqlite, 1, 30_000;
    sqlite_through_two_handles_is_one_store: Sqlite, 2, 20_000;
    postgres_answers_as_memory_does: Postgres, 1, 15_000;
    postgres_through_two_handles_is_one_store: Postgres, 2, 12_500;
    redis_answers_as_memory_does: Redis, 1, 25_000;
}
