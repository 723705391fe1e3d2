//! What is done through one handle is heard of by those who wait at another one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_core::{EventType, Json, NewEvent, RunId, RunInput, RunResult, RunState, WorkerId};
use adjutant_queue::{AgentFilter, Beat, ClaimRequest, Command, Disposition, Lease, NewRun};
use adjutant_store::Store;
use futures::future::join;

use crate::place::{Engine, Place};

/// How long a call waits at most.
pub const LONG: Duration = Duration::from_secs(30);

const ROUNDS: u32 = 25;

/// What the waits of a round may take on average. Nodes on servers look by themselves every second at the most, and
/// SQLite, which tells nobody, every 20 ms.
const WAIT: Duration = Duration::from_millis(100);

pub type Handle = Arc<dyn Store>;

pub async fn two(engine: Engine) -> (Handle, Handle, Place) {
    let mut place = Place::new(engine, 2, None).await;
    let (other, one) = (place.handles.remove(1), place.handles.remove(0));
    (one, other, place)
}

pub fn claim(capacity: usize, wait: Duration) -> ClaimRequest {
    ClaimRequest {
        worker: WorkerId::new(),
        capacity,
        agents: AgentFilter::Any,
        lease_ttl: Duration::from_secs(60),
        wait,
    }
}

pub fn new_run() -> NewRun {
    NewRun::new("agent", &RunInput::text("hello")).unwrap()
}

pub async fn submit(at: &Handle) -> RunId {
    at.submit(vec![new_run()]).await.unwrap()[0].run
}

pub fn done() -> Disposition {
    Disposition::Succeeded(RunResult::output("done"))
}

/// A run's way with one of the handles waiting each time; returns how long was waited in all.
async fn round(one: &Handle, other: &Handle) -> Duration {
    let began = Instant::now();
    let waiting = tokio::spawn({
        let other = Arc::clone(other);
        async move { other.claim(claim(1, LONG)).await.unwrap() }
    });
    let run = submit(one).await;
    let lease = waiting.await.unwrap()[0].lease;
    assert_eq!(lease.run, run);

    let last = one.get(run).await.unwrap().unwrap().run.last_seq;
    let note = NewEvent::new(EventType::Log, Json::from("news"));
    let (heard, told) = join(one.changed(run, last, LONG), other.append(run, vec![note])).await;
    heard.unwrap();
    assert_eq!(told.unwrap(), last + 1);
    assert_eq!(one.read(run, last, 10).await.unwrap().len(), 1);

    beats(one, other, lease).await;

    let (settled, told) = join(one.settled(run, LONG), other.settle(lease, done())).await;
    told.unwrap();
    assert_eq!(settled.unwrap().run.state, RunState::Succeeded);
    began.elapsed()
}

/// The next heartbeat brings what the other handle was asked for.
async fn beats(one: &Handle, other: &Handle, lease: Lease) {
    let beat = async || {
        let beats = other.heartbeat(&[lease], LONG).await.unwrap();
        beats.into_iter().next().unwrap()
    };
    let alive = |cancel: Option<&str>, pause| Beat::Alive {
        cancel: cancel.map(str::to_owned),
        pause,
    };
    assert_eq!(beat().await, alive(None, false));
    one.control(lease.run, Command::Pause).await.unwrap();
    assert_eq!(beat().await, alive(None, true));
    one.control(lease.run, Command::Resume).await.unwrap();
    assert_eq!(beat().await, alive(None, false));
    let reason = "enough".to_owned();
    let cancel = Command::Cancel { reason };
    one.control(lease.run, cancel).await.unwrap();
    assert_eq!(beat().await, alive(Some("enough"), false));
}

async fn hears(engine: Engine) {
    let (one, other, _place) = two(engine).await;
    // The first ones find both listening.
    for _ in 0..3 {
        round(&one, &other).await;
        round(&other, &one).await;
    }
    let mut took = Duration::ZERO;
    for _ in 0..ROUNDS {
        took += round(&one, &other).await;
        took += round(&other, &one).await;
    }
    let each = took / (2 * ROUNDS * 3);
    eprintln!("{engine:?}: {each:?} for each wait");
    assert!(each < WAIT, "they look by themselves: {each:?}");
}

/// A sweeper that sleeps at one handle wakes for what becomes due through the other.
async fn sweeps(engine: Engine) {
    let (one, other, _place) = two(engine).await;
    for _ in 0..3 {
        let run = submit(&one).await;
        let sweeper = tokio::spawn({
            let other = Arc::clone(&other);
            async move { other.sweep(10, LONG).await.unwrap() }
        });
        let request = ClaimRequest {
            lease_ttl: Duration::from_millis(50),
            ..claim(1, LONG)
        };
        let lease = one.claim(request).await.unwrap()[0].lease;
        let began = Instant::now();
        assert_eq!(sweeper.await.unwrap().recovered, 1);
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
        // Its former holder hears of it from its own handle, which knew better.
        assert_eq!(one.heartbeat(&[lease], LONG).await.unwrap(), [Beat::Lost]);
        let heir = one.claim(claim(1, LONG)).await.unwrap()[0].lease;
        assert_eq!((heir.run, heir.epoch), (run, 2));
        other.settle(heir, done()).await.unwrap();
    }
}

macro_rules! engines {
    ($($name:ident: $check:ident, $engine:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $check(Engine::$engine).await;
            }
        )*
    };
}

engines! {
    sqlite_handles_hear_of_each_other: hears, Sqlite;
    postgres_handles_hear_of_each_other: hears, Postgres;
    redis_handles_hear_of_each_other: hears, Redis;
    sqlite_sweepers_wake_for_others: sweeps, Sqlite;
    postgres_sweepers_wake_for_others: sweeps, Postgres;
    redis_sweepers_wake_for_others: sweeps, Redis;
}
