//! Runs that go from one store to another.

use std::{sync::Arc, time::Duration};

use adjutant_core::{Error, Json, NewEvent, Outcome, RunId, RunState};
use adjutant_events::EventBus;
use adjutant_queue::{AgentFilter, Command, NewRun, RunQueue, RunRecord};
use adjutant_state::StateWrite;

use super::{
    Fixture, Snapshot,
    fixture::{note, request, save, wait_for_group},
};
use crate::{MemoryConfig, MemoryStore, Op, Package, Store};

const LONG: Duration = Duration::from_hours(1000);

/// Another store on the same clock.
fn other(f: &Fixture) -> MemoryStore {
    MemoryStore::with(MemoryConfig {
        clock: Arc::new(f.clock.clone()),
        ..MemoryConfig::default()
    })
}

async fn packed(store: &dyn Store, run: RunId) -> Package {
    store.export(run).await.unwrap().expect("the run is there")
}

/// A paused run with something of everything, and its two children, one ended and one paused.
async fn family(f: &Fixture) -> [RunId; 3] {
    let mut new = f.run();
    new.idempotency_key = Some("the one".to_owned());
    new.metadata = Json::from("mine");
    f.engine.submit(vec![new]).await.unwrap();
    let parent = f.claim_one().await.lease;
    for n in 0..12 {
        f.commit(parent, vec![save(&n.to_string())], None).await;
    }
    let children = ["g", "h"].map(|group| f.child(parent.run, group));
    let ids = children.each_ref().map(|child| child.id);
    let mut ops = vec![f.done("a"), f.begun("b"), note("x"), note("y")];
    ops.extend(children.map(|child| Op::Spawn(Box::new(child))));
    f.commit(parent, ops, wait_for_group("h", false)).await;
    f.succeed(f.claim_one().await.lease).await;
    f.signal(parent.run, "hello").await;
    f.engine.trim(parent.run, 3).await.unwrap();
    for run in [parent.run, ids[1]] {
        f.control(run, Command::Pause).await;
    }
    [parent.run, ids[0], ids[1]]
}

/// What a store tells of a run, with the events that are left.
async fn told(store: &dyn Store, run: RunId) -> Snapshot {
    let mut snapshot = Snapshot::of(store, run).await;
    snapshot.events = packed(store, run).await.events;
    snapshot
}

pub async fn a_run_goes_over_whole_and_comes_back(f: &Fixture) {
    let family = family(f).await;
    let there = other(f);
    for run in family {
        let package = packed(&*f.engine, run).await;
        there.import(package.clone()).await.unwrap();
        assert_eq!(packed(&there, run).await, package);
        assert_eq!(told(&there, run).await, told(&*f.engine, run).await);
    }
    assert!(there.check().await.unwrap().is_sound());
    let package = packed(&there, family[0]).await;
    assert_eq!(package.signals.len(), 1);
    assert_eq!(package.groups.len(), 2);
    assert_eq!(package.journal.len(), 2);
    assert_eq!(package.checkpoints.len(), 10);
    assert_eq!(package.events[0].seq, 4);
    assert_eq!(f.engine.export(RunId::new()).await.unwrap(), None);
}

pub async fn a_run_comes_from_another_store_and_goes_on(f: &Fixture) {
    let there = Fixture {
        engine: Arc::new(other(f)),
        clock: f.clock.clone(),
        keep: Box::new(()),
    };
    let [parent, done, open] = family(&there).await;
    for run in [parent, done, open] {
        let package = packed(&*there.engine, run).await;
        f.engine.import(package.clone()).await.unwrap();
        // Twice is once.
        f.engine.import(package).await.unwrap();
    }
    for run in [parent, done, open] {
        let sent = packed(&*there.engine, run).await;
        assert_eq!(packed(&*f.engine, run).await, sent);
        assert_eq!(told(&*f.engine, run).await, told(&*there.engine, run).await);
    }
    assert_eq!(f.claim(10).await, []);
    assert_eq!(f.engine.sweep(10, Duration::ZERO).await.unwrap().woken, 0);
    f.control(parent, Command::Resume).await;
    let claimed = f.claim_one().await;
    assert_eq!((claimed.lease.run, claimed.lease.epoch), (parent, 2));
    assert_eq!(claimed.signals.len(), 1);
    let settled = f
        .commit(claimed.lease, vec![f.done("b"), save("13")], None)
        .await;
    assert_eq!(settled.checkpoint, 13);
    f.commit(claimed.lease, Vec::new(), wait_for_group("h", false))
        .await;
    f.control(open, Command::Resume).await;
    f.succeed(f.claim_one().await.lease).await;
    let woken = f.claim_one().await;
    assert_eq!(woken.lease.run, parent);
    f.succeed(woken.lease).await;
    let kept = f.engine.read(parent, 3, 1000).await.unwrap();
    let numbers = kept.iter().map(|event| event.seq);
    assert!(numbers.eq(4..4 + kept.len() as u64));
    let again = NewRun {
        idempotency_key: Some("the one".to_owned()),
        ..f.run()
    };
    let submitted = f.engine.submit(vec![again]).await.unwrap()[0];
    assert_eq!((submitted.run, submitted.created), (parent, false));
    assert!(f.engine.check().await.unwrap().is_sound());
}

/// A run as the holder of its queue would tell of it, driven there under this epoch.
async fn driven_elsewhere(f: &Fixture, epoch: u64) -> Package {
    let there = other(f);
    let run = there.submit(vec![f.run()]).await.unwrap()[0].run;
    let package = packed(&there, run).await;
    Package {
        run: RunRecord {
            state: RunState::Running,
            epoch,
            last_seq: 0,
            ..package.run
        },
        events: Vec::new(),
        ..package
    }
}

pub async fn a_run_that_is_driven_elsewhere_is_only_written_to(f: &Fixture) {
    let mut package = driven_elsewhere(f, 3).await;
    let run = package.run.id;
    f.engine.import(package.clone()).await.unwrap();
    let write = || vec![StateWrite::Checkpoint(Json::from("s"))];
    assert_eq!(f.engine.write(run, 3, write()).await.unwrap(), 1);
    package.run.epoch = 4;
    f.engine.import(package.clone()).await.unwrap();
    let stale = f.engine.write(run, 3, write()).await.unwrap_err();
    assert!(
        matches!(stale, Error::LeaseLost { epoch: 3, .. }),
        "{stale}"
    );
    assert_eq!(f.engine.write(run, 4, write()).await.unwrap(), 2);
    let record = f.engine.get(run).await.unwrap().unwrap().run;
    assert_eq!((record.checkpoint, record.state), (2, RunState::Running));
    assert_eq!(f.after(LONG).await.recovered, 0);
    assert!(
        f.engine
            .claim(request(AgentFilter::Any, 9))
            .await
            .unwrap()
            .is_empty()
    );
    package.run.epoch = 3;
    let stale = f.engine.import(package.clone()).await.unwrap_err();
    assert!(
        matches!(stale, Error::LeaseLost { epoch: 3, .. }),
        "{stale}"
    );
    package.run.epoch = 4;
    package.run.state = RunState::Cancelled;
    package.run.finished_at = Some(package.run.created_at);
    let reason = "enough".to_owned();
    package.outcome = Some(Outcome::Cancelled { reason });
    f.engine.import(package.clone()).await.unwrap();
    let view = f.engine.get(run).await.unwrap().unwrap();
    assert_eq!(
        (view.run.state, &view.outcome),
        (RunState::Cancelled, &package.outcome)
    );
    assert!(f.engine.write(run, 4, write()).await.is_err());
    f.engine.import(package.clone()).await.unwrap();
    package.run.state = RunState::Running;
    let ended = f.engine.import(package).await.unwrap_err();
    assert!(matches!(ended, Error::Conflict { .. }), "{ended}");
    assert!(f.engine.check().await.unwrap().is_sound());
}

pub async fn copied_events_keep_their_numbers_and_follow_each_other(f: &Fixture) {
    let mut package = driven_elsewhere(f, 1).await;
    let run = package.run.id;
    let there = other(f);
    there.import(package.clone()).await.unwrap();
    for n in 0..6 {
        let event = NewEvent::new("note", Json::parse(n.to_string()).unwrap());
        there.append(run, vec![event]).await.unwrap();
    }
    let events = there.read(run, 0, 10).await.unwrap();
    for part in [0..2, 0..4, 1..3] {
        package.events = events[part].to_vec();
        package.run.last_seq = 6;
        if f.engine.get(run).await.unwrap().is_none() {
            package.run.last_seq = 2;
        }
        f.engine.import(package.clone()).await.unwrap();
    }
    assert_eq!(f.engine.read(run, 0, 10).await.unwrap(), events[..4]);
    package.events = events[5..].to_vec();
    let gap = f.engine.import(package.clone()).await.unwrap_err();
    assert!(matches!(gap, Error::Conflict { .. }), "{gap}");
    package.events = events[3..].to_vec();
    f.engine.import(package).await.unwrap();
    assert_eq!(f.engine.read(run, 0, 10).await.unwrap(), events);
    assert_eq!(f.engine.read(run, 4, 10).await.unwrap(), events[4..]);
}

pub async fn what_could_be_claimed_is_not_taken_in(f: &Fixture) {
    let there = other(f);
    let run = there.submit(vec![f.run()]).await.unwrap()[0].run;
    let refused = f
        .engine
        .import(packed(&there, run).await)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, Error::Invalid { field: "state", .. }),
        "{refused}"
    );

    there.control(run, Command::Pause).await.unwrap();
    let package = packed(&there, run).await;
    let mut orphan = package.clone();
    orphan.run.parent = f.child(RunId::new(), "g").parent;
    let refused = f.engine.import(orphan).await.unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Invalid {
                field: "parent",
                ..
            }
        ),
        "{refused}"
    );

    let taken = NewRun {
        idempotency_key: Some("k".to_owned()),
        ..f.run()
    };
    f.engine.submit(vec![taken]).await.unwrap();
    let mut twin = package.clone();
    twin.run.idempotency_key = Some("k".to_owned());
    let refused = f.engine.import(twin).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict { .. }), "{refused}");
    assert_eq!(f.engine.get(run).await.unwrap(), None);

    f.engine.import(package.clone()).await.unwrap();
    assert_eq!(f.state(run).await, RunState::Paused);
    f.claim_one().await;
    f.control(run, Command::Resume).await;
    assert_eq!(f.claim_one().await.lease.run, run);
    let held = f.engine.import(package).await.unwrap_err();
    let refused = matches!(held, Error::Conflict { .. } | Error::LeaseLost { .. });
    assert!(refused, "{held}");
}
