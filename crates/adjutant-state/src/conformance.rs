//! The contract of [`StateStore`] as tests that every engine runs, one case per
//! sentence; [`suite!`](crate::suite) expands to them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests: a case's name is its sentence, and a case may stop at the first surprise"
)]

use std::{any::Any, future::Future, sync::Arc, time::Duration};

use adjutant_core::{
    Error, ErrorInfo, Fingerprint, Json, Limits, RunId, StepKind, StepOutcome, StepRecord,
    Timestamp,
};
use async_trait::async_trait;

use crate::{Checkpoint, DEFAULT_CHECKPOINTS_KEPT, History, StateStore, StateWrite};

/// Where runs with a good epoch come from.
#[async_trait]
pub trait Epochs: Send + Sync {
    /// A run that may be written, and the epoch to write with.
    async fn begin(&self) -> (RunId, u64);

    /// The next, higher epoch of a run; the one before is stale from now on.
    async fn next(&self, run: RunId, epoch: u64) -> u64;
}

/// For a store that holds no queue: any id is a run, and the first write with an epoch announces it.
pub struct FreeEpochs(pub Arc<dyn StateStore>);

#[async_trait]
impl Epochs for FreeEpochs {
    async fn begin(&self) -> (RunId, u64) {
        (RunId::new(), 1)
    }

    async fn next(&self, run: RunId, epoch: u64) -> u64 {
        self.0.write(run, epoch + 1, Vec::new()).await.unwrap();
        epoch + 1
    }
}

/// A fresh engine that keeps [`DEFAULT_CHECKPOINTS_KEPT`] checkpoints, with limits as by default.
pub struct Fixture {
    /// The engine.
    pub engine: Arc<dyn StateStore>,
    /// Where its runs come from.
    pub epochs: Box<dyn Epochs>,
    /// What has to live as long as the engine.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// Expands to a module `conformance` with one test per case of the state store's contract. The argument
/// is an async expression that makes a `conformance::Fixture`.
#[macro_export]
macro_rules! suite {
    ($fixture:expr) => {
        $crate::suite! { @cases $fixture;
            a_run_that_has_written_nothing_has_an_empty_history,
            steps_come_back_in_the_order_of_their_first_record,
            a_second_record_replaces_the_first_in_its_place,
            a_final_step_never_changes,
            a_write_with_a_conflict_writes_nothing,
            a_stale_epoch_writes_nothing,
            a_new_epoch_goes_on_where_the_old_one_stopped,
            checkpoints_count_from_one_and_the_latest_wins,
            checkpoints_are_kept_newest_first_up_to_the_bound,
            a_checkpoint_is_kept_to_the_letter,
            what_is_over_its_limit_is_refused,
            runs_do_not_see_each_other,
            forgetting_leaves_nothing,
            a_long_journal_stays_in_order,
            concurrent_writers_of_one_epoch_lose_nothing,
        }
    };
    (@cases $fixture:expr; $($case:ident,)*) => {
        mod conformance {
            #[allow(unused_imports, reason = "the fixture's expression may name anything of its place")]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let fixture: $crate::conformance::Fixture = $fixture.await;
                    $crate::conformance::in_time($crate::conformance::$case(&fixture)).await;
                }
            )*
        }
    };
}

/// Fails a case that hangs.
pub async fn in_time(case: impl Future<Output = ()>) {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, case)
        .await
        .expect("the case hangs");
}

fn step(key: &str, outcome: StepOutcome) -> StepRecord {
    StepRecord {
        key: key.to_owned(),
        kind: StepKind::Tool,
        input: Fingerprint(u64::MAX),
        outcome,
        attempts: 2,
        started_at: Timestamp::from_micros(1_600_000_000_000_001),
        recorded_at: Timestamp::from_micros(1_600_000_000_000_002),
    }
}

fn begun(key: &str) -> StepRecord {
    step(
        key,
        StepOutcome::Started {
            memo: Json::from("memo"),
        },
    )
}

fn done(key: &str) -> StepRecord {
    step(
        key,
        StepOutcome::Completed {
            result: Json::from("result"),
        },
    )
}

fn failed(key: &str) -> StepRecord {
    let error = ErrorInfo::permanent("kind", "message").with_details(Json::from("details"));
    step(key, StepOutcome::Failed { error })
}

fn steps(records: impl IntoIterator<Item = StepRecord>) -> Vec<StateWrite> {
    records.into_iter().map(StateWrite::Step).collect()
}

fn save(state: &str) -> StateWrite {
    StateWrite::Checkpoint(Json::from(state))
}

async fn history(f: &Fixture, run: RunId) -> History {
    f.engine.history(run).await.unwrap()
}

fn states(checkpoints: &[Checkpoint]) -> Vec<(u64, &str)> {
    checkpoints
        .iter()
        .map(|c| (c.seq, c.state.as_str()))
        .collect()
}

pub async fn a_run_that_has_written_nothing_has_an_empty_history(f: &Fixture) {
    let (run, epoch) = f.epochs.begin().await;
    for run in [run, RunId::new()] {
        assert_eq!(history(f, run).await, History::default());
        assert!(f.engine.checkpoints(run, 10).await.unwrap().is_empty());
    }
    assert_eq!(f.engine.write(run, epoch, Vec::new()).await.unwrap(), 0);
}

pub async fn steps_come_back_in_the_order_of_their_first_record(f: &Fixture) {
    let (run, epoch) = f.epochs.begin().await;
    let written = [done("z"), failed("a"), begun("m"), done("a#2")];
    f.engine
        .write(run, epoch, steps(written[..2].to_vec()))
        .await
        .unwrap();
    f.engine
        .write(run, epoch, steps(written[2..].to_vec()))
        .await
        .unwrap();
    assert_eq!(history(f, run).await.journal, written);
}

pub async fn a_second_record_replaces_the_first_in_its_place(f: &Fixture) {
    let (run, epoch) = f.epochs.begin().await;
    let mut again = begun("a");
    again.attempts = 9;
    f.engine
        .write(run, epoch, steps([begun("a"), begun("b")]))
        .await
        .unwrap();
    f.engine
        .write(run, epoch, steps([again.clone()]))
        .await
        .unwrap();
    assert_eq!(history(f, run).await.journal, [again, begun("b")]);
    f.engine
        .write(run, epoch, steps([done("a")]))
        .await
        .unwrap();
    assert_eq!(history(f, run).await.journal, [done("a"), begun("b")]);
    f.engine
        .write(run, epoch, steps([begun("c"), done("c")]))
        .await
        .unwrap();
    assert_eq!(history(f, run).await.journal[2], done("c"));
}

pub async fn a_final_step_never_changes(f: &Fixture) {
    let (run, epoch) = f.epochs.begin().await;
    let journal = [done("done"), failed("failed")];
    f.engine
        .write(run, epoch, steps(journal.clone()))
        .await
        .unwrap();
    for key in ["done", "failed"] {
        for record in [begun(key), done(key), failed(key)] {
            let error = f
                .engine
                .write(run, epoch, steps([record]))
                .await
                .unwrap_err();
            assert!(matches!(error, Error::Conflict { .. }), "{error}");
        }
    }
    let twice = f
        .engine
        .write(run, epoch, steps([done("new"), begun("new")]))
        .await;
    assert!(matches!(twice, Err(Error::Conflict { .. })));
    assert_eq!(history(f, run).await.journal, journal);
}

pub async fn a_write_with_a_conflict_writes_nothing(f: &Fixture) {
    let (run, epoch) = f.epochs.begin().await;
    let writes = vec![save("one"), StateWrite::Step(done("a"))];
    assert_eq!(f.engine.write(run, epoch, writes).await.unwrap(), 1);
    let before = history(f, run).await;
    let writes = vec![
        save("two"),
        StateWrite::Step(done("b")),
        StateWrite::Step(done("a")),
    ];
    assert!(f.engine.write(run, epoch, writes).await.is_err());
    assert_eq!(history(f, run).await, before);
    assert_eq!(f.engine.checkpoints(run, 10).await.unwrap().len(), 1);
}

pub async fn a_stale_epoch_writes_nothing(f: &Fixture) {
    let (run, old) = f.epochs.begin().await;
    f.engine.write(run, old, steps([begun("a")])).await.unwrap();
    let new = f.epochs.next(run, old).await;
    let before = history(f, run).await;
    let writes = vec![save("late"), StateWrite::Step(done("a"))];
    let error = f.engine.write(run, old, writes.clone()).await.unwrap_err();
    assert!(
        matches!(error, Error::LeaseLost { epoch, .. } if epoch == old),
        "{error}"
    );
    assert_eq!(history(f, run).await, before);
    assert_eq!(f.engine.write(run, new, writes).await.unwrap(), 1);
}

pub async fn a_new_epoch_goes_on_where_the_old_one_stopped(f: &Fixture) {
    let (run, old) = f.epochs.begin().await;
    f.engine
        .write(run, old, vec![save("one"), StateWrite::Step(done("a"))])
        .await
        .unwrap();
    let new = f.epochs.next(run, old).await;
    assert!(new > old);
    assert_eq!(f.engine.write(run, new, Vec::new()).await.unwrap(), 1);
    let seq = f
        .engine
        .write(run, new, vec![save("two"), StateWrite::Step(done("b"))])
        .await;
    assert_eq!(seq.unwrap(), 2);
    assert_eq!(history(f, run).await.journal, [done("a"), done("b")]);
}

pub async fn checkpoints_count_from_one_and_the_latest_wins(f: &Fixture) {
    let (run, epoch) = f.epochs.begin().await;
    assert_eq!(
        f.engine.write(run, epoch, vec![save("one")]).await.unwrap(),
        1
    );
    assert_eq!(
        f.engine
            .write(run, epoch, vec![save("two"), save("three")])
            .await
            .unwrap(),
        3
    );
    assert_eq!(
        f.engine
            .write(run, epoch, steps([done("a")]))
            .await
            .unwrap(),
        3
    );
    let latest = history(f, run).await.checkpoint.unwrap();
    assert_eq!((latest.seq, latest.state), (3, Json::from("three")));
}

pub async fn checkpoints_are_kept_newest_first_up_to_the_bound(f: &Fixture) {
    let (run, epoch) = f.epochs.begin().await;
    for n in 1..=DEFAULT_CHECKPOINTS_KEPT + 3 {
        f.engine
            .write(run, epoch, vec![save(&n.to_string())])
            .await
            .unwrap();
    }
    let kept = f.engine.checkpoints(run, 100).await.unwrap();
    assert_eq!(kept.len(), DEFAULT_CHECKPOINTS_KEPT);
    assert!(kept.iter().map(|c| c.seq).is_sorted_by(|a, b| *a == b + 1));
    let newest = f.engine.checkpoints(run, 2).await.unwrap();
    assert_eq!(states(&newest), [(13, "\"13\""), (12, "\"12\"")]);
    assert!(f.engine.checkpoints(run, 0).await.unwrap().is_empty());
}

pub async fn a_checkpoint_is_kept_to_the_letter(f: &Fixture) {
    let (run, epoch) = f.epochs.begin().await;
    let text = r#"{"z": 1.50, "a": [null, "ü\u0000\n"], "n": 123456789012345678901234567890}"#;
    let state = Json::parse(text.to_owned()).unwrap();
    let write = vec![StateWrite::Checkpoint(state)];
    f.engine.write(run, epoch, write).await.unwrap();
    assert_eq!(
        history(f, run).await.checkpoint.unwrap().state.as_str(),
        text
    );
}

pub async fn what_is_over_its_limit_is_refused(f: &Fixture) {
    let (run, epoch) = f.epochs.begin().await;
    let limits = Limits::default();
    let big = |bytes: usize| Json::from("x".repeat(bytes).as_str());
    let result = big(limits.step);
    let too_big = [
        StateWrite::Checkpoint(big(limits.checkpoint)),
        StateWrite::Step(step("a", StepOutcome::Completed { result })),
    ];
    for write in too_big {
        let error = f
            .engine
            .write(run, epoch, vec![save("ok"), write])
            .await
            .unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
    assert_eq!(history(f, run).await, History::default());
}

pub async fn runs_do_not_see_each_other(f: &Fixture) {
    let ((a, epoch_a), (b, epoch_b)) = (f.epochs.begin().await, f.epochs.begin().await);
    f.engine
        .write(a, epoch_a, vec![save("a"), StateWrite::Step(done("s"))])
        .await
        .unwrap();
    assert_eq!(history(f, b).await, History::default());
    assert_eq!(
        f.engine.write(b, epoch_b, vec![save("b")]).await.unwrap(),
        1
    );
    f.engine
        .write(b, epoch_b, steps([done("s")]))
        .await
        .unwrap();
    f.engine.forget(b).await.unwrap();
    assert_eq!(history(f, a).await.journal, [done("s")]);
}

pub async fn forgetting_leaves_nothing(f: &Fixture) {
    let (run, epoch) = f.epochs.begin().await;
    f.engine
        .write(run, epoch, vec![save("a"), StateWrite::Step(done("s"))])
        .await
        .unwrap();
    f.engine.forget(run).await.unwrap();
    assert_eq!(history(f, run).await, History::default());
    assert!(f.engine.checkpoints(run, 10).await.unwrap().is_empty());
    f.engine.forget(run).await.unwrap();
}

pub async fn a_long_journal_stays_in_order(f: &Fixture) {
    let (run, epoch) = f.epochs.begin().await;
    let keys: Vec<String> = (0..200).rev().map(|n| format!("step#{n}")).collect();
    for some in keys.chunks(7) {
        f.engine
            .write(run, epoch, steps(some.iter().map(|key| begun(key))))
            .await
            .unwrap();
    }
    for key in keys.iter().rev().step_by(3) {
        f.engine
            .write(run, epoch, steps([done(key)]))
            .await
            .unwrap();
    }
    let journal = history(f, run).await.journal;
    assert!(journal.iter().map(|step| &step.key).eq(&keys));
    let finals = journal
        .iter()
        .filter(|s| matches!(s.outcome, StepOutcome::Completed { .. }));
    assert_eq!(finals.count(), 67);
    assert!(
        f.engine
            .write(run, epoch, steps([begun(&keys[199])]))
            .await
            .is_err()
    );
}

pub async fn concurrent_writers_of_one_epoch_lose_nothing(f: &Fixture) {
    let (run, epoch) = f.epochs.begin().await;
    let writers = (0..8).map(|writer| {
        let engine = Arc::clone(&f.engine);
        tokio::spawn(async move {
            for n in 0..10 {
                let write = vec![save("s"), StateWrite::Step(done(&format!("{writer}/{n}")))];
                engine.write(run, epoch, write).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let history = history(f, run).await;
    assert_eq!(
        (history.journal.len(), history.checkpoint.unwrap().seq),
        (80, 80)
    );
}
