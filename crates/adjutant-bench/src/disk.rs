//! Yardsticks: what the disk and SQLite allow without any of our code.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    bench::{Bench, Engine, Meter},
    report::Row,
};

pub const SERIAL: &str = "serial one-row commits (S)";
const APPEND: &str = "append 4 KiB + fdatasync";
const OVERWRITE: &str = "overwrite 4 KiB + fdatasync";

const BLOCK: usize = 4096;
const PREALLOCATED_BLOCKS: u64 = 16_384;
/// Settings that the store uses too, so that the comparison is fair.
const LOG_PAGES: &str = "4096";
const LOG_BYTES: &str = "67108864";

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let time = bench.time;
    if bench.wants(&[APPEND, OVERWRITE]) {
        let directory = bench.disk().to_owned();
        let (append, overwrite) = tokio::task::spawn_blocking(move || {
            anyhow::Ok((append(&directory, time)?, overwrite(&directory, time)?))
        })
        .await??;
        bench.push(Row::new(APPEND, append, "/s"));
        let row = Row::new(OVERWRITE, overwrite, "/s").over(bench.row(APPEND));
        bench.push(row);
    }
    if bench.wants(&[SERIAL, "runs sqlite disk, 1 in flight: p50"]) {
        let rate = serial(&bench.file(Engine::Disk), time).await?;
        bench.push(Row::new(SERIAL, rate, "commits/s").over(bench.row(OVERWRITE)));
    }
    Ok(())
}

/// How often a second `act` can be done, after a warm-up.
fn per_second(time: Duration, mut act: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    let mut meter = Meter::start(time);
    let mut count = 0;
    while meter.is_running() {
        act(count)?;
        count += 1;
        meter.count(Instant::now());
    }
    Ok(meter.rate())
}

fn append(directory: &Path, time: Duration) -> Result<f64> {
    let mut file = File::create(directory.join("append"))?;
    per_second(time, |_| {
        file.write_all(&[1; BLOCK])?;
        Ok(file.sync_data()?)
    })
}

fn overwrite(directory: &Path, time: Duration) -> Result<f64> {
    let mut file = File::create(directory.join("overwrite"))?;
    for _ in 0..PREALLOCATED_BLOCKS {
        file.write_all(&[1; BLOCK])?;
    }
    file.sync_all()?;
    per_second(time, |count| {
        let at = count % PREALLOCATED_BLOCKS * BLOCK as u64;
        file.write_all_at(&[2; BLOCK], at)?;
        Ok(file.sync_data()?)
    })
}

/// A connection with the store's settings to a new file with one table.
pub async fn open(path: &Path) -> Result<SqliteConnection> {
    let mut conn = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .pragma("journal_mode", "WAL")
        .pragma("synchronous", "FULL")
        .pragma("wal_autocheckpoint", LOG_PAGES)
        .pragma("journal_size_limit", LOG_BYTES)
        .connect()
        .await?;
    sqlx::query("create table t (id integer primary key, body text)")
        .execute(&mut conn)
        .await?;
    Ok(conn)
}

/// One row and one sync, one after another.
async fn serial(path: &Path, time: Duration) -> Result<f64> {
    let mut conn = open(path).await?;
    let body = "x".repeat(100);
    let mut meter = Meter::start(time);
    while meter.is_running() {
        insert(&mut conn, &body).await?;
        meter.count(Instant::now());
    }
    conn.close().await?;
    Ok(meter.rate())
}

/// Writes one row.
pub async fn insert(conn: &mut SqliteConnection, body: &str) -> Result<()> {
    sqlx::query("insert into t (body) values (?)")
        .bind(body)
        .execute(conn)
        .await?;
    Ok(())
}
