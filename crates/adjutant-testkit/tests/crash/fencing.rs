//! After a takeover nothing that the former holder sends is written.

use std::{sync::Arc, time::Duration};

use adjutant_core::{
    Error, ErrorInfo, EventType, Fingerprint, Json, NewEvent, RunId, RunInput, RunResult, StepKind,
    StepOutcome, StepRecord, Timestamp, WorkerId,
};
use adjutant_queue::{
    AgentFilter, Beat, ClaimRequest, Command, Disposition, Lease, ParentLink, RunLookup, RunQueue,
    Wait, WakeOn,
};
use adjutant_sqlite::EngineStore;
use adjutant_state::{StateStore, StateWrite};
use adjutant_store::{Commit, Op, Store};
use serde_json::json;

use crate::{
    check::events,
    site::{Site, until},
};

async fn claim(store: &EngineStore, lease_ttl: Duration) -> Lease {
    let request = ClaimRequest {
        worker: WorkerId::new(),
        capacity: 1,
        agents: AgentFilter::Any,
        lease_ttl,
        wait: Duration::from_secs(10),
    };
    store.claim(request).await.unwrap()[0].lease
}

fn step(outcome: StepOutcome) -> StepRecord {
    StepRecord {
        key: "step".to_owned(),
        kind: StepKind::Code,
        input: Fingerprint(0),
        outcome,
        attempts: 1,
        started_at: Timestamp::default(),
        recorded_at: Timestamp::default(),
    }
}

fn ops(run: RunId) -> Vec<Op> {
    let error = ErrorInfo::permanent("broken", "broken");
    let (memo, result) = (Json::from("memo"), Json::from("result"));
    let mut child = Site::run("child", &RunInput::default());
    let group: Arc<str> = Arc::from("group");
    child.parent = Some(ParentLink {
        run,
        group: Arc::clone(&group),
    });
    vec![
        Op::Step(step(StepOutcome::Started { memo })),
        Op::Step(step(StepOutcome::Completed { result })),
        Op::Step(step(StepOutcome::Failed { error })),
        Op::Checkpoint(Json::from("state")),
        Op::Event(NewEvent::new(EventType::Log, json!({}))),
        Op::Spawn(Box::new(child)),
        Op::TakeSignal(1),
        Op::CancelGroup {
            group,
            reason: "no more".to_owned(),
        },
    ]
}

fn ends() -> Vec<Disposition> {
    vec![
        Disposition::Succeeded(RunResult::default()),
        Disposition::Failed(ErrorInfo::retriable("broken", "broken")),
        Disposition::Failed(ErrorInfo::permanent("broken", "broken")),
        Disposition::Cancelled {
            reason: "no more".to_owned(),
        },
        Disposition::TimedOut {
            timeout: Duration::from_secs(1),
        },
        Disposition::Waiting(Wait {
            wake_on: vec![WakeOn::Signal("go".to_owned())],
            input_required: false,
        }),
        Disposition::Released {
            reason: "drain".to_owned(),
        },
    ]
}

async fn everything(site: &Site, run: RunId) -> String {
    let view = site.view(run).await;
    let history = site.store.history(run).await.unwrap();
    let stats = site.store.stats().await.unwrap().by_state;
    format!(
        "{view:?}\n{history:?}\n{stats:?}\n{:?}",
        events(site, run).await
    )
}

/// Sends everything there is under a lost lease, each alone and with each end.
async fn refuses_all(site: &Site, stale: Lease) {
    let store = &site.store;
    let before = everything(site, stale.run).await;
    let lost = |what: &str, answer: Result<(), Error>| {
        let refused = matches!(answer, Err(Error::LeaseLost { run, epoch })
            if run == stale.run && epoch == stale.epoch);
        assert!(refused, "{what}: {answer:?}");
    };
    let with_end = ends().into_iter().map(Some).chain([None]);
    for end in with_end {
        for ops in ops(stale.run)
            .into_iter()
            .map(|op| vec![op])
            .chain([vec![]])
        {
            let commit = Commit {
                lease: stale,
                ops,
                end: end.clone(),
            };
            let what = format!("{commit:?}");
            lost(&what, store.commit(commit).await.map(drop));
        }
    }
    for end in ends() {
        let what = format!("{end:?}");
        lost(&what, store.settle(stale, end).await.map(drop));
    }
    let result = Json::from("result");
    for write in [
        StateWrite::Step(step(StepOutcome::Completed { result })),
        StateWrite::Checkpoint(Json::from("state")),
    ] {
        let what = format!("{write:?}");
        let answer = store.write(stale.run, stale.epoch, vec![write]).await;
        lost(&what, answer.map(drop));
    }
    let beats = store.heartbeat(&[stale], Duration::from_secs(60)).await;
    assert_eq!(beats.unwrap(), [Beat::Lost]);
    assert_eq!(everything(site, stale.run).await, before);
}

/// Leaves one run behind.
pub async fn former_holders_are_refused(site: &Site) {
    let run = site.submit("agent", &RunInput::default()).await;
    let signal = Command::Signal {
        name: "go".to_owned(),
        payload: Json::null(),
    };
    site.store.control(run, signal).await.unwrap();
    let stale = claim(&site.store, Duration::from_millis(1)).await;
    until("the lease expires", || async {
        let swept = site.store.sweep(10, Duration::from_millis(10)).await;
        swept.unwrap().recovered == 1
    })
    .await;

    // Taken back, taken over, finished.
    refuses_all(site, stale).await;
    let heir = claim(&site.store, Duration::from_secs(600)).await;
    assert!(heir.epoch > stale.epoch);
    refuses_all(site, stale).await;
    let imposter = Lease {
        worker: stale.worker,
        ..heir
    };
    let answer = site.store.settle(imposter, ends().remove(0)).await;
    assert!(matches!(answer, Err(Error::LeaseLost { .. })), "{answer:?}");
    let end = Disposition::Succeeded(RunResult::default());
    site.store.settle(heir, end).await.unwrap();
    refuses_all(site, stale).await;
    refuses_all(site, heir).await;
}
