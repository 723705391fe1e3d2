//! The atomic commit.

use std::sync::Arc;

use adjutant_core::{
    Error, ErrorInfo, EventType, Json, Limits, NewEvent, RunId, RunResult, RunState, StepOutcome,
};
use adjutant_queue::{Command, Disposition, Lease, WakeOn, conformance::LEASE};

use super::{
    Fixture,
    fixture::{note, save, wait_for},
};
use crate::{Commit, Op};

pub async fn a_commit_writes_everything_at_once(f: &Fixture) {
    let lease = f.running().await;
    let child = f.child(lease.run, "g");
    let spawn = Op::Spawn(Box::new(child.clone()));
    let ops = vec![
        f.done("a"),
        save("s"),
        note("n"),
        spawn,
        f.begun("b"),
        save("t"),
        note("m"),
    ];
    let committed = f.commit(lease, ops, None).await;
    assert_eq!((committed.last_seq, committed.checkpoint), (4, 2));
    assert_eq!(committed.state, RunState::Running);
    let s = f.snapshot(lease.run).await;
    assert_eq!(s.told(), ["run.queued", "run.started", "note", "note"]);
    assert_eq!(s.history.journal.len(), 2);
    assert_eq!(s.history.checkpoint.unwrap().state, Json::from("t"));
    let record = s.view.unwrap().run;
    assert_eq!(
        (record.steps, record.checkpoint, record.children),
        (2, 2, 1)
    );
    assert_eq!(f.snapshot(child.id).await.told(), ["run.queued"]);
    assert_eq!(f.claim_one().await.lease.run, child.id);
}

/// One op of each kind that must be refused.
async fn bad_ops(f: &Fixture, lease: Lease) -> Vec<(&'static str, Vec<Op>)> {
    let limits = Limits::default();
    let big = |bytes: usize| Json::from("x".repeat(bytes).as_str());
    let result = big(limits.step);
    let mut taken = f.run();
    taken.idempotency_key = Some("taken".to_owned());
    f.engine.submit(vec![taken.clone()]).await.unwrap();
    let mut clash = f.child(lease.run, "g");
    clash.idempotency_key = taken.idempotency_key.clone();
    clash.agent = "another".into();
    let mut huge = f.child(lease.run, "g");
    huge.input = big(limits.input);
    vec![
        ("final step", vec![f.begun("final")]),
        (
            "final step of the same commit",
            vec![f.done("x"), f.begun("x")],
        ),
        (
            "step",
            vec![Op::Step(f.step("y", StepOutcome::Completed { result }))],
        ),
        ("checkpoint", vec![Op::Checkpoint(big(limits.checkpoint))]),
        (
            "event",
            vec![Op::Event(NewEvent::new("big", big(limits.event)))],
        ),
        ("signal", vec![Op::TakeSignal(99)]),
        ("signal twice", vec![Op::TakeSignal(1), Op::TakeSignal(1)]),
        ("no parent", vec![Op::Spawn(Box::new(f.run()))]),
        (
            "other parent",
            vec![Op::Spawn(Box::new(f.child(taken.id, "g")))],
        ),
        ("taken key", vec![Op::Spawn(Box::new(clash))]),
        ("huge input", vec![Op::Spawn(Box::new(huge))]),
    ]
}

pub async fn a_commit_with_one_bad_op_changes_nothing(f: &Fixture) {
    let lease = f.running().await;
    let child = f.child(lease.run, "old");
    let ops = vec![
        f.done("final"),
        save("s"),
        Op::Spawn(Box::new(child.clone())),
    ];
    f.commit(lease, ops, None).await;
    f.signal(lease.run, "go").await;
    let group = Arc::from("old");
    let reason = "r".to_owned();
    let bad_ops = bad_ops(f, lease).await;
    let stats = f.engine.stats().await.unwrap();
    let before = (f.snapshot(lease.run).await, f.snapshot(child.id).await);
    for (what, bad) in bad_ops {
        // Only the queue knows its keys: a store of several parts has written to the journal by then.
        if what == "taken key" && f.engine.info().engine == "composed" {
            continue;
        }
        let new = f.child(lease.run, "new");
        let spawn = Op::Spawn(Box::new(new.clone()));
        let mut ops = vec![f.done("good"), save("good"), note("good"), spawn];
        let (group, reason) = (Arc::clone(&group), reason.clone());
        ops.push(Op::CancelGroup { group, reason });
        if what != "signal twice" {
            ops.push(Op::TakeSignal(1));
        }
        ops.extend(bad);
        let end = Some(Disposition::Succeeded(RunResult::default()));
        assert!(
            f.engine.commit(Commit { lease, ops, end }).await.is_err(),
            "{what}"
        );
        let after = (f.snapshot(lease.run).await, f.snapshot(child.id).await);
        assert_eq!(after, before, "{what}");
        assert!(f.engine.get(new.id).await.unwrap().is_none(), "{what}");
        assert_eq!(f.engine.stats().await.unwrap(), stats, "{what}");
    }
    assert_eq!(f.succeed(lease).await.state, RunState::Succeeded);
}

pub async fn a_stale_lease_commits_nothing(f: &Fixture) {
    let old = f.running().await;
    f.signal(old.run, "go").await;
    f.after(LEASE).await;
    let new = f.claim_one().await.lease;
    let stolen = Lease {
        worker: old.worker,
        ..new
    };
    let unknown = Lease {
        run: RunId::new(),
        ..old
    };
    let before = f.snapshot(old.run).await;
    let group = Arc::from("g");
    let reason = "r".to_owned();
    let ops = [
        f.done("a"),
        save("s"),
        note("n"),
        Op::Spawn(Box::new(f.child(old.run, "g"))),
        Op::TakeSignal(1),
        Op::CancelGroup { group, reason },
    ];
    let ends = [
        None,
        Some(Disposition::Succeeded(RunResult::default())),
        Some(Disposition::Failed(ErrorInfo::retriable("x", "y"))),
        wait_for(WakeOn::Signal("go".to_owned())),
    ];
    for lease in [old, stolen, unknown] {
        for op in &ops {
            for end in &ends {
                let commit = Commit {
                    lease,
                    ops: vec![op.clone()],
                    end: end.clone(),
                };
                let error = f.engine.commit(commit).await.unwrap_err();
                // A child that does not name the lease's run may be found out first.
                let of_another = matches!(error, Error::Invalid { .. }) && lease.run != old.run;
                assert!(
                    of_another || matches!(error, Error::LeaseLost { .. }),
                    "{op:?}: {error}"
                );
            }
        }
    }
    assert_eq!(f.snapshot(old.run).await, before);
    f.succeed(new).await;
    let before = f.snapshot(old.run).await;
    let commit = Commit {
        lease: new,
        ops: vec![note("late")],
        end: None,
    };
    assert!(matches!(
        f.engine.commit(commit).await,
        Err(Error::LeaseLost { .. })
    ));
    assert_eq!(f.snapshot(old.run).await, before);
}

pub async fn a_final_step_never_changes(f: &Fixture) {
    let lease = f.running().await;
    f.commit(lease, vec![f.begun("a"), f.done("a")], None).await;
    let commit = Commit {
        lease,
        ops: vec![f.done("a")],
        end: None,
    };
    assert!(matches!(
        f.engine.commit(commit).await,
        Err(Error::Conflict { .. })
    ));
}

pub async fn numbers_of_events_and_records_agree(f: &Fixture) {
    let lease = f.running().await;
    let mut last = 2;
    for n in 1..=5_usize {
        let ops = (0..n).map(|n| note(&n.to_string())).collect();
        let committed = f.commit(lease, ops, None).await;
        last += n as u64;
        assert_eq!(committed.last_seq, last);
    }
    let event = NewEvent::new(EventType::Log, Json::null());
    assert_eq!(
        f.engine.append(lease.run, vec![event]).await.unwrap(),
        last + 1
    );
    f.succeed(lease).await;
    let s = f.snapshot(lease.run).await;
    assert_eq!(s.view.unwrap().run.last_seq, last + 2);
    let seqs = s.events.iter().map(|event| event.seq);
    assert!(seqs.eq(1..=last + 2));
}

pub async fn every_change_of_state_is_told_by_an_event(f: &Fixture) {
    let mut run = f.run();
    run.max_deaths = 1;
    f.engine.submit(vec![run.clone()]).await.unwrap();
    let claim = async || f.claim_one().await.lease;
    let reason = "drain".to_owned();
    f.commit(
        claim().await,
        Vec::new(),
        Some(Disposition::Released { reason }),
    )
    .await;
    let error = ErrorInfo::retriable("x", "y");
    f.commit(claim().await, Vec::new(), Some(Disposition::Failed(error)))
        .await;
    f.after(LEASE).await;
    f.commit(
        claim().await,
        Vec::new(),
        wait_for(WakeOn::Signal("go".to_owned())),
    )
    .await;
    f.control(run.id, Command::Pause).await;
    f.control(run.id, Command::Resume).await;
    claim().await;
    f.after(LEASE).await;
    claim().await;
    f.after(LEASE).await;
    f.control(run.id, Command::Redrive).await;
    let last = claim().await;
    f.cancel(run.id).await;
    let reason = "test".to_owned();
    f.commit(last, Vec::new(), Some(Disposition::Cancelled { reason }))
        .await;
    let told = f.snapshot(run.id).await;
    let expected = "run.queued run.started run.released run.started run.retrying run.started \
                    run.waiting run.paused run.resumed run.started lease.lost run.started \
                    lease.lost run.parked run.resumed run.started run.cancel_requested \
                    run.cancelled";
    assert_eq!(told.told().join(" "), expected);
}

pub async fn a_commit_that_ends_the_run_says_so(f: &Fixture) {
    let lease = f.running().await;
    let end = Some(Disposition::Succeeded(RunResult::output(Json::from("out"))));
    let committed = f.commit(lease, vec![note("n"), f.done("a")], end).await;
    assert_eq!(
        (committed.state, committed.last_seq),
        (RunState::Succeeded, 4)
    );
    let s = f.snapshot(lease.run).await;
    assert_eq!(s.told()[2..], ["note", "run.succeeded"]);
    assert_eq!(
        s.view.unwrap().outcome.unwrap().state(),
        RunState::Succeeded
    );
}

pub async fn concurrent_commits_leave_no_gap(f: &Fixture) {
    let leases = [f.running().await, f.running().await];
    let writers = (0..8_usize).map(|writer| {
        let (engine, lease) = (Arc::clone(&f.engine), leases[writer % 2]);
        tokio::spawn(async move {
            for n in 0..20 {
                let ops = vec![note(&format!("{writer}/{n}")), save("s")];
                engine
                    .commit(Commit {
                        lease,
                        ops,
                        end: None,
                    })
                    .await
                    .unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    for lease in leases {
        let s = f.snapshot(lease.run).await;
        assert!(s.events.iter().map(|event| event.seq).eq(1..=82));
        assert_eq!(s.history.checkpoint.unwrap().seq, 80);
    }
}

/// Either the end comes first and the signal is refused, or the signal comes first: never both.
pub async fn a_command_and_a_commit_at_once_keep_one_order(f: &Fixture) {
    for _ in 0..20 {
        let lease = f.running().await;
        let (name, payload) = ("go".to_owned(), Json::null());
        let end = Some(Disposition::Succeeded(RunResult::default()));
        let (signalled, committed) = tokio::join!(
            f.engine
                .control(lease.run, Command::Signal { name, payload }),
            f.engine.commit(Commit {
                lease,
                ops: Vec::new(),
                end
            }),
        );
        committed.unwrap();
        let s = f.snapshot(lease.run).await;
        let told = s.told();
        assert_eq!(told.last(), Some(&"run.succeeded"));
        assert_eq!(told.contains(&"signal.received"), signalled.is_ok());
    }
}
