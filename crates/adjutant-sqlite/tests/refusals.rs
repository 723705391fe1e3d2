//! Files and disks that a store cannot work with, and how it says so.

#![allow(clippy::unwrap_used, missing_docs, reason = "these are tests")]

use std::{
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use adjutant_budget::BalanceFilter;
use adjutant_core::{Error, Json, RetryAdvice, WorkerId};
use adjutant_queue::{AgentFilter, ClaimRequest, Command, NewRun, RunLookup, RunQueue};
use adjutant_sqlite::{EngineStore, SqliteConfig};
use adjutant_store::Store;
use sqlx::{ConnectOptions, Connection, Executor, sqlite::SqliteConnectOptions};

fn run(bytes: usize) -> NewRun {
    NewRun::with_json("a", Json::from("x".repeat(bytes).as_str()))
}

async fn open(path: &Path) -> Result<EngineStore, Error> {
    adjutant_sqlite::open(SqliteConfig::at(path)).await
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    open(&file).await.unwrap().close().await;
    let mut conn = SqliteConnectOptions::new()
        .filename(&file)
        .connect()
        .await
        .unwrap();
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                 values (99, 'from the future', true, x'00', 0)";
    conn.execute(newer).await.unwrap();
    conn.close().await.unwrap();
    let error = open(&file).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::SchemaTooNew {
                found: 99,
                known: 2
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_store_from_before_the_ledger_gets_one_and_keeps_its_runs() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    let store = open(&file).await.unwrap();
    let id = store.submit(vec![run(5)]).await.unwrap()[0].run;
    store.close().await;
    let mut conn = SqliteConnectOptions::new()
        .filename(&file)
        .connect()
        .await
        .unwrap();
    let older = "drop table accounts; drop table reservations; \
                 delete from _sqlx_migrations where version = 2";
    conn.execute(older).await.unwrap();
    conn.close().await.unwrap();
    let store = open(&file).await.unwrap();
    assert_eq!(store.info().schema, Some(2));
    assert!(store.get(id).await.unwrap().is_some());
    let balances = store.ledger().balances(&BalanceFilter::default()).await;
    assert_eq!(balances.unwrap(), []);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    std::fs::write(
        &file,
        "just some text, and rather more of it than a header has\n".repeat(99),
    )
    .unwrap();
    let error = open(&file).await.unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt { location, .. } if location.contains("store.db")),
        "{error:?}"
    );
}

#[tokio::test]
async fn damage_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    let store = open(&file).await.unwrap();
    let id = store
        .submit((0..200).map(|_| run(500)).collect())
        .await
        .unwrap()[0]
        .run;
    assert!(store.check().await.unwrap().is_sound());
    store.close().await;
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[4096 * 4..middle].fill(0x5a);
    std::fs::write(&file, bytes).unwrap();
    match open(&file).await {
        Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error:?}"),
        Ok(store) => {
            let unsound = store
                .check()
                .await
                .map_or(true, |report| !report.is_sound());
            let unread = matches!(store.get(id).await, Err(Error::Corrupt { .. }));
            assert!(unsound || unread);
        }
    }
}

#[tokio::test]
async fn a_contradiction_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    let store = open(&file).await.unwrap();
    store.submit(vec![run(1)]).await.unwrap();
    let mut conn = SqliteConnectOptions::new()
        .filename(&file)
        .connect()
        .await
        .unwrap();
    conn.execute("update runs set last_seq = 7").await.unwrap();
    conn.close().await.unwrap();
    let report = store.check().await.unwrap();
    let problem = report
        .checks
        .iter()
        .find(|(name, _)| name == "events")
        .unwrap()
        .1
        .clone();
    assert!(problem.unwrap().contains("counts 7 events"));
}

#[tokio::test]
async fn a_damaged_record_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    let store = open(&file).await.unwrap();
    let ids: Vec<_> = store.submit(vec![run(1), run(2)]).await.unwrap();
    let mut conn = SqliteConnectOptions::new()
        .filename(&file)
        .connect()
        .await
        .unwrap();
    let damage = sqlx::query("update runs set more = 'not json' where id = ?");
    let damage = damage.bind(ids[0].run.as_bytes().to_vec());
    damage.execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let claimed = store
        .claim(ClaimRequest {
            worker: WorkerId::new(),
            capacity: 1,
            agents: AgentFilter::Any,
            lease_ttl: Duration::from_secs(60),
            wait: Duration::ZERO,
        })
        .await
        .unwrap();
    assert_eq!(claimed[0].lease.run, ids[1].run);
    let command = Command::Pause;
    let error = store.control(ids[0].run, command).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    store.submit(vec![run(3)]).await.unwrap();
}

#[tokio::test]
async fn a_missing_file_is_made_only_if_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let config = SqliteConfig {
        create_if_missing: false,
        ..SqliteConfig::at(directory.path().join("store.db"))
    };
    assert!(adjutant_sqlite::open(config.clone()).await.is_err());
    assert!(!config.path.exists());
}

/// A file system of 4 MiB of its own, unmounted again when dropped. Only an administrator may have one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mut mount = process::Command::new("mount");
        let mounted = mount
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(at)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Self(at.to_owned()))
    }

    fn make_read_only(&self) {
        let mut mount = process::Command::new("mount");
        assert!(
            mount
                .args(["-o", "remount,ro"])
                .arg(&self.0)
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Left over at worst.
        let _unmounted = process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

/// Submits until it is refused, and says how often it went well.
async fn fill(store: &EngineStore) -> (u64, Error) {
    let mut accepted = 0;
    loop {
        match store.submit(vec![run(20_000)]).await {
            Ok(_) => accepted += 1,
            Err(error) => return (accepted, error),
        }
        assert!(accepted < 10_000, "it never fills");
    }
}

async fn check_full(config: SqliteConfig) {
    let store = adjutant_sqlite::open(config.clone()).await.unwrap();
    let (accepted, error) = fill(&store).await;
    assert!(matches!(error, Error::StorageFull { .. }), "{error:?}");
    assert!(matches!(error.retry(), RetryAdvice::After(_)));
    assert!(accepted > 10);
    // What was accepted is there, what was refused is not, and reading goes on.
    assert_eq!(store.stats().await.unwrap().ready, accepted);
    let report = store.check().await.unwrap();
    assert!(report.is_sound(), "{report:?}");
}

#[tokio::test]
async fn a_full_store_says_so_and_stays_whole() {
    let directory = tempfile::tempdir().unwrap();
    let config = SqliteConfig::at(directory.path().join("store.db"));
    check_full(SqliteConfig {
        max_pages: Some(300),
        ..config
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_says_so_and_leaves_the_store_whole() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(directory.path()) else {
        return; // `a_full_store_says_so_and_stays_whole` has to do for those who may not mount.
    };
    check_full(SqliteConfig::at(directory.path().join("store.db"))).await;
}

#[tokio::test]
async fn a_read_only_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    let disk = SmallDisk::mount(directory.path());
    match &disk {
        Some(disk) => disk.make_read_only(),
        None => {
            let mut mode = std::fs::metadata(directory.path()).unwrap().permissions();
            mode.set_readonly(true);
            std::fs::set_permissions(directory.path(), mode).unwrap();
        }
    }
    let error = open(&file).await.unwrap_err();
    assert!(
        matches!(&error, Error::ReadOnly { location } if location.contains("store.db")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_disk_that_became_read_only_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    let Some(disk) = SmallDisk::mount(directory.path()) else {
        return; // `a_read_only_directory_is_named` has to do for those who may not mount.
    };
    open(&file).await.unwrap().close().await;
    disk.make_read_only();
    let error = match open(&file).await {
        Err(error) => error,
        Ok(store) => store.submit(vec![run(1)]).await.unwrap_err(),
    };
    assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
}
