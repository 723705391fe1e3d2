//! The yardstick for whole runs: the least that a store with grouped commits could do for them, on bare
//! SQLite. Four awaited one-row writes a run: submit, claim, checkpoint, result.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::{
    bench::{Bench, Engine, Meter},
    disk,
    report::Row,
};

/// Awaited writes that a run takes.
const WRITES_PER_RUN: usize = 4;
/// Writes that may wait for the writer.
const QUEUE: usize = 1024;

/// The name of the row.
pub fn name(in_flight: usize) -> String {
    format!("bare group commit, {in_flight} in flight")
}

/// Measured right before the row that it is for, since disks change from minute to minute.
pub async fn measure(bench: &mut Bench, in_flight: usize) -> Result<()> {
    let path = bench.file(Engine::Disk);
    let rate = group_commit(&path, in_flight, bench.time).await?;
    bench.push(Row::new(name(in_flight), rate, "runs/s"));
    Ok(())
}

/// A row to write, and who waits for it to be durable.
type Call = (String, oneshot::Sender<()>);

async fn group_commit(path: &Path, in_flight: usize, time: Duration) -> Result<f64> {
    let conn = disk::open(path).await?;
    let (to_writer, writes) = mpsc::channel(QUEUE);
    let writer = tokio::spawn(write(conn, writes));
    let meter = Meter::start(time);
    let clients: Vec<_> = (0..in_flight)
        .map(|_| tokio::spawn(client(meter.clone(), to_writer.clone())))
        .collect();
    drop(to_writer);
    let mut all = meter;
    for client in clients {
        all.add(&client.await??);
    }
    writer.await??;
    Ok(all.rate())
}

async fn client(mut meter: Meter, writer: mpsc::Sender<Call>) -> Result<Meter> {
    while meter.is_running() {
        for _ in 0..WRITES_PER_RUN {
            let (reply, answer) = oneshot::channel();
            writer.send(("x".repeat(100), reply)).await?;
            answer.await?;
        }
        meter.count(Instant::now());
    }
    Ok(meter)
}

/// One transaction for all that has queued up.
async fn write(mut conn: SqliteConnection, mut calls: mpsc::Receiver<Call>) -> Result<()> {
    while let Some(first) = calls.recv().await {
        let mut group = vec![first];
        while let Ok(next) = calls.try_recv() {
            group.push(next);
        }
        let mut transaction = conn.begin().await?;
        for (body, _) in &group {
            disk::insert(&mut transaction, body).await?;
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
