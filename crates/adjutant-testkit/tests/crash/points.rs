//! A worker dies before or after each of its writes in turn; another one finishes.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use adjutant_testkit::Moment;

use crate::{
    agents::{FLAKY, WHOLE, paced},
    check::{Lines, all_is_well},
    site::{Owner, PATIENCE, Site},
};

/// Passes under way at a time: they mostly wait for leases to expire.
const AT_ONCE: usize = 6;
/// Fewer writes than a clean pass has.
const LEAST: u64 = 20;

#[test]
fn a_worker_may_die_before_any_of_its_writes() {
    at_every_write(Moment::Before);
}

#[test]
fn a_worker_may_die_after_any_of_its_writes() {
    at_every_write(Moment::After);
}

fn at_every_write(moment: Moment) {
    let (next, killed, end) = (AtomicU64::new(1), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                while end.load(SeqCst) == 0 {
                    let number = next.fetch_add(1, SeqCst);
                    if runtime.block_on(pass(moment, number)) {
                        killed.fetch_add(1, SeqCst);
                    } else {
                        end.store(number, SeqCst);
                    }
                }
            });
        }
    });
    let (killed, end) = (killed.into_inner(), end.into_inner());
    eprintln!("{moment:?}: {killed} kills; a pass without a kill has fewer than {end} writes");
    assert!(killed >= LEAST, "only {killed} kills");
}

/// Says whether the worker died; if not, the pass has fewer writes than `number`.
async fn pass(moment: Moment, number: u64) -> bool {
    let site = Site::new().await;
    let mut owner = Owner::default();
    let runs = [
        site.submit(WHOLE, &paced(0)).await,
        site.submit(FLAKY, &paced(0)).await,
    ];
    owner.open = runs.to_vec();
    let mut orders = site.orders(1);
    match moment {
        Moment::Before => orders.kill_before = Some(number),
        Moment::After => orders.kill_after = Some(number),
    }
    let mut doomed = site.spawn(&orders);
    let began = Instant::now();
    let died = loop {
        owner.look_after(&site).await;
        if doomed.has_died() {
            break true;
        }
        if owner.open.is_empty() {
            break false;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{moment:?} {number}: neither done nor dead"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let log = doomed.log();
    if died {
        assert!(
            log.contains("killed "),
            "{moment:?} {number}: died of something else: {log}"
        );
        let _heir = site.spawn(&site.orders(1));
        owner.until_all_ended(&site).await;
    }
    let lines = Lines::read(&site);
    all_is_well(&site, &runs, &lines).await;
    // The step that is announced may die between its line and its record; so may any at a heartbeat,
    // which goes its own way.
    let mut repeated = lines.repeated_steps();
    if moment == Moment::After && !log.contains("Heartbeat") {
        repeated.retain(|(_, step)| step != "slow");
        assert!(
            repeated.is_empty(),
            "{moment:?} {number}: recorded and done again: {repeated:?}"
        );
    }
    assert!(
        lines.repeated() <= 1,
        "{moment:?} {number}: one death, done again: {repeated:?}"
    );
    died
}
