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
use tokio::sync::{mpsc, oneshot};

use crate::{
    bench::{Bench, Engine},
    report::Row,
};

pub const SERIAL: &str = "serial one-row commits (S)";
const APPEND: &str = "append 4 KiB + fdatasync";
const OVERWRITE: &str = "overwrite 4 KiB + fdatasync";

const BLOCK: usize = 4096;
const PREALLOCATED_BLOCKS: u64 = 16_384;
/// Awaited writes that a run takes: submit, claim, checkpoint, result.
const WRITES_PER_RUN: usize = 4;
/// Settings that the store uses too, so that the comparison is fair.
const LOG_PAGES: &str = "4096";
const LOG_BYTES: &str = "67108864";

/// The name of the bare group-commit loop's row.
pub fn grouped(in_flight: usize) -> String {
    format!("bare group commit, {in_flight} in flight")
}

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

/// The yardstick of one row; it is measured right before that row, since disks change from minute to minute.
pub async fn measure_group(bench: &mut Bench, in_flight: usize) -> Result<()> {
    let path = bench.file(Engine::Disk);
    let rate = group_commit(&path, in_flight, bench.time).await?;
    bench.push(Row::new(grouped(in_flight), rate, "runs/s"));
    Ok(())
}

fn per_second(count: u64, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

fn append(directory: &Path, time: Duration) -> Result<f64> {
    let mut file = File::create(directory.join("append"))?;
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < time {
        file.write_all(&[1; BLOCK])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(per_second(count, started))
}

fn overwrite(directory: &Path, time: Duration) -> Result<f64> {
    let mut file = File::create(directory.join("overwrite"))?;
    for _ in 0..PREALLOCATED_BLOCKS {
        file.write_all(&[1; BLOCK])?;
    }
    file.sync_all()?;
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < time {
        let at = count % PREALLOCATED_BLOCKS * BLOCK as u64;
        file.write_all_at(&[2; BLOCK], at)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(per_second(count, started))
}

async fn open(path: &Path) -> Result<SqliteConnection> {
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

async fn insert(conn: &mut SqliteConnection, body: &str) -> Result<()> {
    sqlx::query("insert into t (body) values (?)")
        .bind(body)
        .execute(conn)
        .await?;
    Ok(())
}

/// One row and one sync, one after another.
async fn serial(path: &Path, time: Duration) -> Result<f64> {
    let mut conn = open(path).await?;
    let body = "x".repeat(100);
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < time {
        insert(&mut conn, &body).await?;
        count += 1;
    }
    let rate = per_second(count, started);
    conn.close().await?;
    Ok(rate)
}

type OneWrite = (String, oneshot::Sender<()>);

/// The least that a store with grouped commits could do for a run: four rows, each awaited.
async fn group_commit(path: &Path, in_flight: usize, time: Duration) -> Result<f64> {
    let conn = open(path).await?;
    let (send, receive) = mpsc::channel::<OneWrite>(1024);
    let writer = tokio::spawn(write(conn, receive));
    let started = Instant::now();
    let clients = (0..in_flight).map(|_| {
        let send = send.clone();
        tokio::spawn(async move {
            let mut runs = 0;
            while started.elapsed() < time {
                for _ in 0..WRITES_PER_RUN {
                    let (reply, answer) = oneshot::channel();
                    send.send(("x".repeat(100), reply)).await?;
                    answer.await?;
                }
                runs += 1;
            }
            anyhow::Ok(runs)
        })
    });
    let clients: Vec<_> = clients.collect();
    drop(send);
    let mut runs = 0;
    for client in clients {
        runs += client.await??;
    }
    let rate = per_second(runs, started);
    writer.await??;
    Ok(rate)
}

async fn write(mut conn: SqliteConnection, mut receive: mpsc::Receiver<OneWrite>) -> Result<()> {
    while let Some(first) = receive.recv().await {
        let mut group = vec![first];
        while let Ok(next) = receive.try_recv() {
            group.push(next);
        }
        let mut transaction = conn.begin().await?;
        for (body, _) in &group {
            insert(&mut transaction, body).await?;
        }
        transaction.commit().await?;
        for (_, reply) in group {
            // A client whose time is over does not listen any more.
            let _ = reply.send(());
        }
    }
    conn.close().await?;
    Ok(())
}
