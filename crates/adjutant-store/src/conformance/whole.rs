//! The store as a whole.

use std::{sync::Arc, time::Duration};

use adjutant_budget::{Account, Amount, Caps, Claim, ReservationKey, Reserve};
use adjutant_core::{Error, Json, RunId, RunState};
use adjutant_queue::{AgentFilter, PrunePolicy, RunFilter};
use adjutant_state::History;
use futures::StreamExt;

use super::{
    Fixture,
    fixture::{note, request, save},
};
use crate::Op;

const WAIT: Duration = Duration::from_secs(20);

pub async fn a_sound_store_passes_its_check(f: &Fixture) {
    let lease = f.running().await;
    f.commit(lease, vec![f.done("a"), save("s"), note("n")], None)
        .await;
    f.submitted().await;
    let report = f.engine.check().await.unwrap();
    assert!(report.is_sound() && !report.checks.is_empty(), "{report:?}");
}

/// What the copy holds is for the engine's own tests, which know how to open one.
pub async fn a_backup_is_a_copy_or_refused(f: &Fixture) {
    f.submitted().await;
    let name = format!("adjutant-backup-{}", RunId::new());
    let to = std::env::temp_dir().join(name);
    match f.engine.backup(&to).await {
        Ok(()) => {
            let size = std::fs::metadata(&to).unwrap().len();
            assert!(size > 0);
            let again = f.engine.backup(&to).await;
            assert!(matches!(again, Err(Error::Invalid { .. })));
            assert_eq!(std::fs::metadata(&to).unwrap().len(), size);
            std::fs::remove_file(&to).unwrap();
        }
        Err(error) => {
            assert!(matches!(error, Error::Invalid { .. }), "{error}");
            assert!(!to.exists());
        }
    }
    assert!(!f.engine.info().engine.is_empty());
}

pub async fn pruning_forgets_journal_checkpoints_and_events(f: &Fixture) {
    let lease = f.running().await;
    f.commit(lease, vec![f.done("a"), save("s"), note("n")], None)
        .await;
    f.succeed(lease).await;
    let kept = f.running().await;
    f.commit(kept, vec![f.done("a"), save("s"), note("n")], None)
        .await;
    let before = f.snapshot(kept.run).await;
    f.clock.advance(Duration::from_secs(1));
    let finished_before = adjutant_core::Clock::now(&f.clock);
    let policy = PrunePolicy {
        finished_before,
        limit: 10,
    };
    assert_eq!(f.engine.prune(policy).await.unwrap(), 1);
    assert!(f.engine.get(lease.run).await.unwrap().is_none());
    assert_eq!(
        f.engine.history(lease.run).await.unwrap(),
        History::default()
    );
    assert!(f.engine.checkpoints(lease.run, 9).await.unwrap().is_empty());
    let events = f.engine.read(lease.run, 0, 10).await;
    assert!(events.is_ok_and(|events| events.is_empty()) || is_gone(f, lease.run).await);
    assert_eq!(f.snapshot(kept.run).await, before);
    assert!(f.engine.check().await.unwrap().is_sound());
}

async fn is_gone(f: &Fixture, run: RunId) -> bool {
    matches!(f.engine.read(run, 0, 10).await, Err(Error::RunNotFound(_)))
}

pub async fn a_closed_store_says_so_and_wakes_who_waits(f: &Fixture) {
    let run = f.submitted().await;
    let mut request = request(AgentFilter::Only(vec!["nobody".into()]), 1);
    request.wait = WAIT;
    let engine = Arc::clone(&f.engine);
    let claiming = tokio::spawn(async move { engine.claim(request).await });
    let engine = Arc::clone(&f.engine);
    let settling = tokio::spawn(async move { engine.settled(run, WAIT).await });
    tokio::task::yield_now().await;
    f.engine.close().await;
    assert!(
        claiming
            .await
            .unwrap()
            .map_or(true, |claimed| claimed.is_empty())
    );
    let view = settling.await.unwrap();
    assert!(view.map_or(true, |view| view.run.state == RunState::Pending));
    assert!(matches!(
        f.engine.submit(vec![f.run()]).await,
        Err(Error::Closed)
    ));
    assert!(matches!(f.engine.get(run).await, Err(Error::Closed)));
    let ledger = f.engine.ledger();
    let account = Account::run(run);
    assert!(matches!(ledger.balance(&account).await, Err(Error::Closed)));
    assert!(matches!(ledger.reset(&account).await, Err(Error::Closed)));
    f.engine.close().await;
}

/// A run's calls, each reserved, recorded and settled, while other runs do the same.
pub async fn commits_and_reservations_at_once_are_all_there(f: &Fixture) {
    const RUNS: u64 = 8;
    const CALLS: u64 = 6;
    let caps = Caps {
        model_calls: Some(RUNS * CALLS),
        ..Caps::default()
    };
    let amount = Amount {
        model_calls: 1,
        ..Amount::ZERO
    };
    let tenant = Account::tenant("t").unwrap();
    let calls = async || {
        let lease = f.claim_one().await.lease;
        for call in 0..CALLS {
            let name = format!("call-{call}");
            let key = ReservationKey::step(lease.run, lease.epoch, &name).unwrap();
            let accounts = [Account::run(lease.run), tenant.clone()];
            let reserve = Reserve {
                key: key.clone(),
                run: lease.run,
                claims: accounts.map(|account| Claim::new(account, caps)).to_vec(),
                amount,
            };
            let ledger = f.engine.ledger();
            assert!(ledger.reserve(reserve).await.unwrap().is_granted());
            f.commit(lease, vec![f.done(&name)], None).await;
            ledger.settle(&key, amount).await.unwrap();
        }
        f.succeed(lease).await;
        lease.run
    };
    for _ in 0..RUNS {
        f.submitted().await;
    }
    let runs = futures::future::join_all((0..RUNS).map(|_| calls())).await;
    let spent = async |account: &Account| {
        let balance = f.engine.ledger().balance(account).await.unwrap().unwrap();
        assert!(balance.reserved.is_zero());
        balance.spent.model_calls
    };
    for run in runs {
        assert_eq!(f.state(run).await, RunState::Succeeded);
        let journal = f.snapshot(run).await.history.journal;
        assert_eq!(u64::try_from(journal.len()).unwrap(), CALLS);
        assert_eq!(spent(&Account::run(run)).await, CALLS);
    }
    assert_eq!(spent(&tenant).await, RUNS * CALLS);
    assert!(f.engine.check().await.unwrap().is_sound());
}

pub async fn a_tail_follows_a_run_to_its_end(f: &Fixture) {
    let run = f.submitted().await;
    let bus: Arc<dyn adjutant_events::EventBus> = f.engine.clone();
    let tail = adjutant_events::tail(bus, run, 0).map(|event| event.unwrap().event_type);
    let (told, ()) = tokio::join!(tail.collect::<Vec<_>>(), async {
        let lease = f.claim_one().await.lease;
        tokio::task::yield_now().await;
        f.commit(lease, vec![note("n")], None).await;
        f.succeed(lease).await;
    });
    let told: Vec<_> = told.iter().map(|event_type| event_type.as_str()).collect();
    assert_eq!(told, ["run.queued", "run.started", "note", "run.succeeded"]);
}

pub async fn limits_are_those_it_keeps(f: &Fixture) {
    let limits = f.engine.limits();
    let lease = f.running().await;
    let fits = Json::from("x".repeat(limits.event - 2).as_str());
    assert_eq!(fits.len(), limits.event);
    let event = adjutant_core::NewEvent::new("big", fits);
    f.commit(lease, vec![Op::Event(event)], None).await;
    assert_eq!(f.engine.list(RunFilter::default()).await.unwrap().len(), 1);
}
