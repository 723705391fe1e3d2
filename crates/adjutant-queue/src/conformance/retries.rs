//! How attempts end.

use std::time::Duration;

use adjutant_core::{Error, ErrorInfo, Json, Limits, Outcome, RunId, RunResult, RunState};

use super::{
    Fixture, LEASE,
    fixture::{is_illegal, is_lost},
};
use crate::{Command, Disposition, Lease};

fn failed(message: &str) -> Disposition {
    Disposition::Failed(ErrorInfo::retriable("flaky", message))
}

async fn outcome(f: &Fixture, run: RunId) -> Outcome {
    f.engine
        .get(run)
        .await
        .unwrap()
        .unwrap()
        .outcome
        .expect("the run has ended")
}

pub async fn a_failed_attempt_comes_back_after_its_back_off(f: &Fixture) {
    let lease = f.running().await;
    let retry_at = f.now() + Duration::from_secs(2);
    let record = f.settle(lease, failed("one")).await;
    assert_eq!(
        (record.state, record.not_before),
        (RunState::Pending, Some(retry_at))
    );
    assert_eq!(record.error.unwrap().message, "one");
    f.after(Duration::from_millis(1999)).await;
    assert!(f.claim(1).await.is_empty());
    f.after(Duration::from_millis(1)).await;
    let again = f.claim_one().await;
    assert_eq!((again.run.attempt, again.run.deaths), (2, 0));
}

pub async fn a_permanent_failure_ends_the_run(f: &Fixture) {
    let lease = f.running().await;
    let error = ErrorInfo::permanent("bad_input", "no").with_details(Json::from("x"));
    let record = f.settle(lease, Disposition::Failed(error.clone())).await;
    assert_eq!((record.state, record.attempt), (RunState::Failed, 1));
    assert_eq!(outcome(f, lease.run).await, Outcome::Failed { error });
}

pub async fn the_last_attempts_failure_ends_the_run(f: &Fixture) {
    let run = f.submitted().await;
    for attempt in 1..=3 {
        let lease = f.claim_one().await.lease;
        f.settle(lease, failed(&format!("attempt {attempt}"))).await;
        f.after(Duration::from_secs(600)).await;
    }
    assert_eq!(f.state(run).await, RunState::Failed);
    let Outcome::Failed { error } = outcome(f, run).await else {
        panic!("it failed");
    };
    assert_eq!(error.message, "attempt 3");
}

pub async fn a_result_ends_the_run_with_its_output(f: &Fixture) {
    let lease = f.running().await;
    f.clock.advance(Duration::from_secs(1));
    let result = RunResult::output(Json::from("done"));
    let record = f
        .settle(lease, Disposition::Succeeded(result.clone()))
        .await;
    assert_eq!((record.state, record.held), (RunState::Succeeded, None));
    assert_eq!(record.finished_at, Some(f.now()));
    assert_eq!(record, f.record(lease.run).await);
    assert_eq!(outcome(f, lease.run).await, Outcome::Succeeded(result));
}

pub async fn a_time_out_ends_the_run(f: &Fixture) {
    let lease = f.running().await;
    let timeout = Duration::from_millis(1500);
    let record = f.settle(lease, Disposition::TimedOut { timeout }).await;
    assert_eq!(record.state, RunState::TimedOut);
    let timeout_seconds = 1.5;
    assert_eq!(
        outcome(f, lease.run).await,
        Outcome::TimedOut { timeout_seconds }
    );
}

/// One run in each terminal state.
async fn ended(f: &Fixture) -> Vec<Lease> {
    let mut leases = Vec::new();
    for end in [
        Disposition::Succeeded(RunResult::default()),
        Disposition::Failed(ErrorInfo::permanent("x", "y")),
        Disposition::Cancelled {
            reason: "r".to_owned(),
        },
        Disposition::TimedOut { timeout: LEASE },
    ] {
        let lease = f.running().await;
        f.settle(lease, end).await;
        leases.push(lease);
    }
    leases
}

pub async fn an_ended_run_never_changes(f: &Fixture) {
    for lease in ended(f).await {
        let run = lease.run;
        let before = f.engine.get(run).await.unwrap().unwrap();
        let reason = "again".to_owned();
        let cancelled = f.engine.control(run, Command::Cancel { reason }).await;
        assert_eq!(cancelled.is_ok(), before.run.state == RunState::Cancelled);
        let signal = Command::Signal {
            name: "s".to_owned(),
            payload: Json::null(),
        };
        for command in [Command::Pause, Command::Resume, Command::Redrive, signal] {
            assert!(is_illegal(f.engine.control(run, command).await));
        }
        assert!(is_lost(f.engine.settle(lease, failed("late")).await));
        f.after(LEASE * 100).await;
        assert!(f.claim(1).await.is_empty());
        assert_eq!(f.engine.get(run).await.unwrap().unwrap(), before);
    }
}

pub async fn a_result_over_the_limit_is_refused_and_the_lease_goes_on(f: &Fixture) {
    let lease = f.running().await;
    let output = Json::from("x".repeat(Limits::default().output).as_str());
    let too_large = Disposition::Succeeded(RunResult::output(output));
    let error = f.engine.settle(lease, too_large).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(f.succeed(lease).await.state, RunState::Succeeded);
}
