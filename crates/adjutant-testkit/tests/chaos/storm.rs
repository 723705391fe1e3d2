//! Everything at once, at random.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

use adjutant_core::RunId;
use adjutant_queue::{NewRun, RunQueue};
use tokio::task::block_in_place;

use crate::{
    agents::{FLAKY, WHOLE, paced},
    check::{Lines, all_is_well},
    dice::Dice,
    fencing,
    server::Server,
    site::{Owner, Site, Worker},
    worker::LEASE_TTL,
};

/// How long it storms, unless `CHAOS_SECONDS` says otherwise.
const SECONDS: u64 = 30;
/// Runs kept under way.
const OPEN: usize = 30;
const WORKERS: usize = 3;
const CONCURRENCY: usize = 8;

/// What was done.
#[derive(Debug, Default)]
struct Faults {
    worker_kills: u32,
    worker_stops: u32,
    server_kills: u32,
    server_stops: u32,
    cuts: u64,
}

pub async fn check(mut server: Server) {
    let mut dice = Dice::seeded("CHAOS_SEED");
    let seconds = std::env::var("CHAOS_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let mut site = server.site().await;
    site.is_stormy = true;

    let calm = AtomicBool::new(false);
    let owner_dice = Dice(dice.below(u64::MAX));
    let until = Instant::now() + Duration::from_secs(seconds);
    let (faults, (mut owner, runs)) = futures::future::join(
        async {
            let faults = storm(&site, &mut server, &mut dice, until).await;
            calm.store(true, SeqCst);
            faults
        },
        submit(&site, owner_dice, &calm),
    )
    .await;

    let stormed = Instant::now();
    // The workers that were there at the end have gone with the storm.
    let workers = [(); WORKERS].map(|()| site.spawn(&site.orders(CONCURRENCY)));
    owner.until_all_ended(&site).await;
    let recovered = stormed.elapsed();
    let lines = Lines::read(&site);
    let in_all = all_is_well(&site, &runs, &lines).await;
    // Workers would take the run away.
    drop(workers);
    fencing::former_holders_are_refused(&site).await;
    eprintln!(
        "{faults:?}; {} runs, {in_all} with children; {} unrecorded steps done again; {} children put back; all \
         ended {recovered:?} after the storm of {seconds} s",
        runs.len(),
        lines.repeated(),
        owner.redriven,
    );
}

/// Submits runs and looks after them until it is calm.
async fn submit(site: &Site, mut dice: Dice, calm: &AtomicBool) -> (Owner, Vec<RunId>) {
    let (mut owner, mut runs) = (Owner::default(), Vec::new());
    while !calm.load(SeqCst) {
        owner.look_after(site).await;
        let missing = OPEN.saturating_sub(owner.open.len());
        let new: Vec<NewRun> = (0..missing).map(|_| new_run(&mut dice)).collect();
        // What was not acknowledged is asked for again: it is one run.
        for submitted in site.insist(|| site.store.submit(new.clone())).await {
            owner.open.push(submitted.run);
            runs.push(submitted.run);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (owner, runs)
}

fn new_run(dice: &mut Dice) -> NewRun {
    let agent = if dice.below(3) == 0 { FLAKY } else { WHOLE };
    let mut run = Site::run(agent, &paced(dice.below(12)));
    // A step whose record could not be written fails its attempt.
    run.retry.max_attempts = NonZeroU32::MAX;
    run
}

async fn storm(site: &Site, server: &mut Server, dice: &mut Dice, until: Instant) -> Faults {
    let mut faults = Faults::default();
    let mut workers = [(); WORKERS].map(|()| site.spawn(&site.orders(CONCURRENCY)));
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20 + dice.below(200))).await;
        for worker in &mut workers {
            assert!(!worker.has_died(), "died by itself: {}", worker.log());
        }
        let victim = &mut workers[dice.index(WORKERS)];
        match dice.below(12) {
            0..=3 => {
                victim.kill();
                *victim = site.spawn(&site.orders(CONCURRENCY));
                faults.worker_kills += 1;
            }
            4 if server.is_there() => {
                stop(victim).await;
                faults.worker_stops += 1;
            }
            5 if server.is_there() => {
                let away = Duration::from_millis(dice.below(300));
                block_in_place(|| server.kill(away));
                faults.server_kills += 1;
            }
            6 if server.is_there() => {
                block_in_place(|| server.pause());
                faults.server_stops += 1;
            }
            // In the middle of what happens to come by: calls are some hundred bytes long.
            _ => server.cut_after(1 + dice.below(5000)),
        }
    }
    faults.cuts = server.cuts();
    faults
}

/// Stops a worker for longer than its leases.
async fn stop(worker: &Worker) {
    worker.stop();
    tokio::time::sleep(LEASE_TTL * 2).await;
    worker.go_on();
}
