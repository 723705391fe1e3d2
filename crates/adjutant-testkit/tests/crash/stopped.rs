//! A worker stands still for longer than its lease, and comes back when all is over.

use std::time::Duration;

use adjutant_core::{RunId, RunInput};
use adjutant_queue::RunQueue;
use adjutant_sqlite::SqliteConfig;
use adjutant_state::StateStore;
use serde_json::json;

use crate::{
    agents::HELD,
    check::{self, Lines, all_is_well},
    site::{Owner, Site, Worker, until},
};

#[tokio::test]
async fn a_stopped_worker_changes_nothing_when_it_comes_back() {
    let site = Site::new().await;
    let gate = site.file("gate");
    let run = Site::run(HELD, &RunInput::data(json!(gate)));
    let id = site.store.submit(vec![run.clone()]).await.unwrap()[0].run;

    let stopped = site.spawn(&site.orders(1));
    until("the step begins", || async {
        !Lines::read(&site).of(id, "hold").is_empty()
    })
    .await;
    stop_outside_a_transaction(&site, &stopped, &run).await;

    let heir = site.spawn(&site.orders(1));
    let mut owner = Owner::default();
    owner.open.push(id);
    owner.until_all_ended(&site).await;
    let before = everything(&site, id).await;
    assert_eq!(site.view(id).await.run.epoch, 2);

    std::fs::write(&gate, "").unwrap();
    stopped.go_on();
    until("the stopped worker finds its lease lost", || async {
        let log = stopped.log();
        log.contains(&id.to_string()) && log.contains("(epoch 1) is lost")
    })
    .await;
    assert_eq!(everything(&site, id).await, before);
    let lines = Lines::read(&site);
    assert_eq!(lines.of(id, "hold").len(), 2);
    assert_eq!(lines.of(id, "after").len(), 1, "it went on without a lease");
    all_is_well(&site, &[id], &lines).await;
    drop(heir);
}

/// A process that is stopped while it writes keeps all others from writing; that is SQLite's nature and
/// not what this is about.
async fn stop_outside_a_transaction(site: &Site, worker: &Worker, run: &adjutant_queue::NewRun) {
    let probe = SqliteConfig {
        busy_timeout: Duration::from_millis(50),
        ..SqliteConfig::at(site.file("runs.db"))
    };
    let probe = adjutant_sqlite::open(probe).await.unwrap();
    loop {
        worker.stop();
        if probe.submit(vec![run.clone()]).await.is_ok() {
            return;
        }
        worker.go_on();
    }
}

async fn everything(site: &Site, run: RunId) -> String {
    let view = site.view(run).await;
    let history = site.store.history(run).await.unwrap();
    let events = check::events(site, run).await;
    format!("{view:?}\n{history:?}\n{events:?}")
}
