//! Two workers are killed again and again, at random moments and while they recover each other's runs.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use adjutant_core::RunId;
use adjutant_queue::RunQueue;

use crate::{
    agents::{FLAKY, WHOLE, paced},
    check::{Lines, all_is_well},
    site::{Owner, Site, Worker, within},
};

const ROUNDS: u64 = 150;
/// Runs kept under way.
const OPEN: usize = 40;
/// Each round that this divides kills the worker that takes over as well.
const TAKEOVER_EVERY: u64 = 6;
const CONCURRENCY: usize = 8;

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn seeded() -> Self {
        let seed = std::env::var("CRASH_SEED").map_or_else(
            |_| {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                u64::try_from(now.as_micros()).unwrap()
            },
            |seed| seed.parse().expect("CRASH_SEED is a number"),
        );
        eprintln!("CRASH_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[test]
fn workers_may_die_at_any_moment() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(rounds());
}

async fn rounds() {
    let began = Instant::now();
    let mut dice = Dice::seeded();
    let site = Site::new().await;
    let mut owner = Owner::default();
    let mut runs = Vec::new();
    let mut workers = [(); 2].map(|()| site.spawn(&site.orders(CONCURRENCY)));
    let (mut kills, mut takeovers) = (0_u64, 0_u64);
    for round in 1..=ROUNDS {
        top_up(&site, &mut owner, &mut runs, &mut dice).await;
        let delay = Duration::from_millis(5 + dice.below(150));
        tokio::time::sleep(delay).await;
        for worker in &mut workers {
            assert!(!worker.has_died(), "died by itself: {}", worker.log());
        }
        let victim = usize::try_from(dice.below(2)).unwrap();
        workers[victim].kill();
        kills += 1;
        workers[victim] = site.spawn(&site.orders(CONCURRENCY));
        if round % TAKEOVER_EVERY == 0 && kill_the_heir(&site, &mut workers).await {
            kills += 1;
            takeovers += 1;
        }
    }
    let killing = began.elapsed();
    owner.until_all_ended(&site).await;
    drop(workers);
    let working = began.elapsed();
    let lines = Lines::read(&site);
    let in_all = all_is_well(&site, &runs, &lines).await;
    eprintln!(
        "{kills} kills, {takeovers} of them while recovering; {} runs, {in_all} with children; \
         {} unrecorded steps done again; {} parked children put back",
        runs.len(),
        lines.repeated(),
        owner.redriven,
    );
    eprintln!(
        "{killing:?} killing, {working:?} working, {:?} in all",
        began.elapsed()
    );
    assert!(kills >= 150 && takeovers > 0);
}

async fn top_up(site: &Site, owner: &mut Owner, runs: &mut Vec<RunId>, dice: &mut Dice) {
    owner.look_after(site).await;
    let mut new = Vec::new();
    let mut early = Vec::new();
    while owner.open.len() + new.len() < OPEN {
        let agent = if dice.below(3) == 0 { FLAKY } else { WHOLE };
        let run = Site::run(agent, &paced(dice.below(12)));
        if agent == WHOLE && dice.below(4) == 0 {
            early.push(run.id);
        }
        new.push(run);
    }
    for submitted in site.store.submit(new).await.unwrap() {
        owner.open.push(submitted.run);
        runs.push(submitted.run);
    }
    owner.tell(site, early).await;
}

/// Kills the worker that has just taken back runs of a dead one.
async fn kill_the_heir(site: &Site, workers: &mut [Worker; 2]) -> bool {
    let recovered = |worker: &Worker| worker.log().matches("recovered runs").count();
    let before = workers.each_ref().map(recovered);
    let heir = |workers: &[Worker; 2]| {
        (0..workers.len()).find(|index| recovered(&workers[*index]) > before[*index])
    };
    let took_over = within(Duration::from_secs(2), || {
        std::future::ready(heir(workers).is_some())
    });
    if !took_over.await {
        return false;
    }
    let Some(index) = heir(workers) else {
        return false;
    };
    workers[index].kill();
    workers[index] = site.spawn(&site.orders(CONCURRENCY));
    true
}
