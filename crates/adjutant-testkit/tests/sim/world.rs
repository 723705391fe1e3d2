//! One simulated world: a store, workers, an operator, and a seed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
};

use adjutant_core::{RunId, RunState};
use adjutant_store::{MemoryConfig, MemoryStore};
use adjutant_testkit::VirtualClock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{check, dice::Dice, observer::Observer, operator, workers};

pub struct World {
    pub clock: VirtualClock,
    pub observer: Arc<Observer>,
    pub submitted: Mutex<Vec<RunId>>,
    /// From here on nothing fails.
    pub calm: CancellationToken,
    /// Everything has ended.
    pub over: CancellationToken,
    /// How workers died.
    pub died: Mutex<Vec<&'static str>>,
}

/// What happened in one world or many.
#[derive(Debug, Default)]
pub struct Summary {
    states: BTreeMap<RunState, u64>,
    pub children: u64,
    pub steps: u64,
    pub effects: u64,
    pub epochs: u64,
    deaths: u64,
}

impl World {
    pub fn store(&self) -> &MemoryStore {
        &self.observer.store
    }
}

/// Simulates a world; the errors are the promises that did not hold.
pub fn simulate(seed: u64) -> Result<Summary, Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(history(seed))
}

async fn history(seed: u64) -> Result<Summary, Vec<String>> {
    let mut dice = Dice::new(seed);
    let clock = VirtualClock::new();
    let store = MemoryStore::with(MemoryConfig {
        clock: Arc::new(clock),
        ..MemoryConfig::default()
    });
    let world = Arc::new(World {
        clock,
        observer: Observer::new(store),
        submitted: Mutex::default(),
        calm: CancellationToken::new(),
        over: CancellationToken::new(),
        died: Mutex::default(),
    });
    let mut workers = JoinSet::new();
    for _ in 0..2 + dice.below(2) {
        workers.spawn(workers::live(Arc::clone(&world), dice.split()));
    }
    operator::meddle(&world, dice.split()).await;
    world.calm.cancel();
    operator::help_out(&world).await;
    operator::pester(&world).await;
    world.over.cancel();
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    let mut sum = check::everything(&world).await;
    sum.effects = world.observer.effects.load(SeqCst);
    sum.deaths = world.died.lock().unwrap().len() as u64;
    let broken = world.observer.all_broken();
    if broken.is_empty() {
        Ok(sum)
    } else {
        Err(broken)
    }
}

impl Summary {
    pub fn count(&mut self, state: RunState) {
        *self.states.entry(state).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (state, count) in &other.states {
            *self.states.entry(*state).or_default() += count;
        }
        self.children += other.children;
        self.steps += other.steps;
        self.effects += other.effects;
        self.epochs += other.epochs;
        self.deaths += other.deaths;
    }

    /// Whether there was enough of everything to mean something.
    pub fn is_lively(&self) -> bool {
        let runs: u64 = self.states.values().sum();
        let all_ends = [
            RunState::Succeeded,
            RunState::Failed,
            RunState::Cancelled,
            RunState::TimedOut,
        ];
        all_ends.iter().all(|state| self.states.contains_key(state))
            && self.children > 0
            && self.deaths > 100
            && self.epochs > runs * 2
    }
}
