//! Forks.

use adjutant_core::{Error, ErrorInfo, Json, RunId, StepOutcome};
use adjutant_queue::{Lease, NewRun, Origin};

use super::{Fixture, fixture::save};
use crate::{Fork, Op};

/// A run with the steps `a` (done), `b` (failed), `c` (begun), `d` (done) and two checkpoints.
async fn source(f: &Fixture) -> Lease {
    let lease = f.running().await;
    let error = ErrorInfo::permanent("x", "y");
    let failed = Op::Step(f.step("b", StepOutcome::Failed { error }));
    let ops = vec![
        f.done("a"),
        failed,
        f.begun("c"),
        f.done("d"),
        save("one"),
        save("two"),
    ];
    f.commit(lease, ops, None).await;
    lease
}

fn fork(f: &Fixture, source: RunId, steps: Option<usize>) -> Fork {
    let origin = Some(Origin::ForkOf(source));
    let run = NewRun { origin, ..f.run() };
    Fork { source, run, steps }
}

async fn keys(f: &Fixture, run: RunId) -> Vec<String> {
    let journal = f.engine.history(run).await.unwrap().journal;
    journal.into_iter().map(|step| step.key).collect()
}

pub async fn a_fork_starts_with_completed_steps_and_the_checkpoint(f: &Fixture) {
    let source = source(f).await.run;
    let fork = fork(f, source, None);
    assert!(f.engine.fork(fork.clone()).await.unwrap().created);
    assert_eq!(keys(f, fork.run.id).await, ["a", "d"]);
    let s = f.snapshot(fork.run.id).await;
    let checkpoint = s.history.checkpoint.clone().unwrap();
    assert_eq!((checkpoint.seq, checkpoint.state), (1, Json::from("two")));
    let record = s.view.clone().unwrap().run;
    assert_eq!((record.steps, record.checkpoint, record.attempt), (2, 1, 0));
    assert_eq!(record.origin, Some(Origin::ForkOf(source)));
    assert_eq!(s.told(), ["run.queued"]);
    let original = f.engine.history(source).await.unwrap().journal;
    assert_eq!(
        s.history.journal,
        [original[0].clone(), original[3].clone()]
    );
    assert_eq!(f.claim_one().await.lease.run, fork.run.id);
}

pub async fn a_fork_takes_the_first_steps(f: &Fixture) {
    let source = source(f).await.run;
    for (steps, expected) in [(0, &[][..]), (1, &["a"]), (2, &["a", "b"])] {
        let fork = fork(f, source, Some(steps));
        f.engine.fork(fork.clone()).await.unwrap();
        assert_eq!(keys(f, fork.run.id).await, expected);
        assert_eq!(
            f.engine.history(fork.run.id).await.unwrap().checkpoint,
            None
        );
    }
}

pub async fn a_fork_is_a_value(f: &Fixture) {
    let source = source(f).await;
    let fork = fork(f, source.run, None);
    f.engine.fork(fork.clone()).await.unwrap();
    let before = f.snapshot(fork.run.id).await;
    f.commit(source, vec![f.done("e"), f.done("c"), save("three")], None)
        .await;
    f.succeed(source).await;
    assert_eq!(f.snapshot(fork.run.id).await, before);
}

pub async fn a_fork_of_nothing_says_so(f: &Fixture) {
    let fork = fork(f, RunId::new(), None);
    let error = f.engine.fork(fork.clone()).await.unwrap_err();
    assert!(
        matches!(error, Error::RunNotFound(run) if run == fork.source),
        "{error}"
    );
    assert!(f.engine.get(fork.run.id).await.unwrap().is_none());
}

pub async fn forking_twice_is_forking_once(f: &Fixture) {
    let source = source(f).await.run;
    let mut fork = fork(f, source, None);
    f.engine.fork(fork.clone()).await.unwrap();
    let before = f.snapshot(fork.run.id).await;
    assert!(!f.engine.fork(fork.clone()).await.unwrap().created);
    assert_eq!(f.snapshot(fork.run.id).await, before);
    fork.run.agent = "another".into();
    assert!(matches!(
        f.engine.fork(fork).await,
        Err(Error::Conflict { .. })
    ));
}
