//! How fast the ledgers are, for `docs/guide/budgets.md`: run by hand, in a release build, on a quiet machine.
//!
//! ```text
//! cargo test -p adjutant-testkit --release --test engines -- --ignored --nocapture pace
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use adjutant_budget::{
    Account, Amount, BudgetLedger, Caps, Claim, MemoryLedger, ReservationKey, Reserve,
};
use adjutant_core::RunId;
use adjutant_sqlite::SqliteConfig;
use adjutant_store::Store;

use crate::place::{Engine, Place};

/// For how long each row is measured.
const TIME: Duration = Duration::from_secs(3);

/// Calls of one run, one after another: a reservation at four accounts, of which two are everybody's, and what it came
/// to.
async fn calls(ledger: Arc<dyn BudgetLedger>, until: Instant) -> u64 {
    let run = RunId::new();
    let caps = Caps {
        tokens: Some(Amount::MOST),
        ..Caps::default()
    };
    let accounts = [
        Account::run(run),
        Account::tree(run),
        Account::agent(&"agent".into()).unwrap(),
        Account::tenant("tenant").unwrap(),
    ];
    let amount = Amount {
        tokens: 4000,
        model_calls: 1,
        ..Amount::ZERO
    };
    let mut done = 0;
    while Instant::now() < until {
        let key = ReservationKey::step(run, 1, &format!("call-{done}")).unwrap();
        let claims = accounts
            .iter()
            .map(|account| Claim::new(account.clone(), caps));
        let reserve = Reserve {
            key: key.clone(),
            run,
            claims: claims.collect(),
            amount,
        };
        assert!(ledger.reserve(reserve).await.unwrap().is_granted());
        ledger.settle(&key, amount).await.unwrap();
        done += 1;
    }
    done
}

async fn pace(name: &str, ledger: Arc<dyn BudgetLedger>) {
    for runs in [1, 64] {
        let began = Instant::now();
        let tasks = (0..runs).map(|_| tokio::spawn(calls(Arc::clone(&ledger), began + TIME)));
        let mut done = 0;
        for task in tasks.collect::<Vec<_>>() {
            done += task.await.unwrap();
        }
        let took = began.elapsed();
        let each = took * runs / u32::try_from(done).unwrap();
        let rate = done as f64 / took.as_secs_f64();
        eprintln!("{name:<16} {runs:>3} runs: {rate:>9.0} calls/s, {each:?} each");
    }
}

#[ignore = "measures; see above"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pace_of_all_engines() {
    pace("memory", Arc::new(MemoryLedger::default())).await;
    let dir = tempfile::tempdir().unwrap();
    let file = SqliteConfig::at(dir.path().join("store.db"));
    let sqlite = adjutant_sqlite::open(file).await.unwrap();
    pace("sqlite, synced", sqlite.ledger()).await;
    for engine in [Engine::Postgres, Engine::Redis] {
        let place = Place::new(engine, 1, None).await;
        pace(&format!("{engine:?}"), place.handles[0].ledger()).await;
    }
}
