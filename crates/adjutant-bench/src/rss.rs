//! Memory of a worker's process. Each figure comes from a child of its own, since an allocator seldom
//! gives back what a measurement before has used.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use adjutant_core::{AgentFn, AgentRegistry, Clock, RunResult, SystemClock, WorkerId};
use adjutant_executor::{AgentRunner, RunnerConfig};
use adjutant_queue::{Disposition, Wait, WakeOn};
use adjutant_store::Commit;
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;

use crate::{
    bench::{self, Bench, Engine},
    claims,
    report::Row,
};

/// How long the worker idles before its memory is read.
const IDLE: Duration = Duration::from_secs(1);
/// Runs that are made waiting at a time.
const BATCH: usize = 1000;
/// When the waiting runs are due.
const FAR: Duration = Duration::from_secs(1_000_000_000);

/// What a child of this program does.
#[derive(Debug, Subcommand)]
pub enum Child {
    /// Fills a store with waiting runs.
    #[command(hide = true)]
    FillWaiting { path: PathBuf, runs: usize },
    /// Opens a store, runs a worker, and prints the resident memory in KiB.
    #[command(hide = true)]
    Idle { path: PathBuf },
}

impl Child {
    pub async fn run(self) -> Result<()> {
        match self {
            Self::FillWaiting { path, runs } => fill_waiting(&path, runs).await,
            Self::Idle { path } => {
                crate::print_line(&idle(&path).await?.to_string());
                Ok(())
            }
        }
    }
}

pub async fn measure(bench: &mut Bench) -> Result<()> {
    const EMPTY: &str = "resident, idle worker, empty store";
    let runs = if bench.quick { 10_000 } else { 1_000_000 };
    let full = format!("resident, idle worker, {runs} runs waiting");
    if bench.wants(&[EMPTY]) {
        let path = bench.file(Engine::Disk);
        let row = Row::new(EMPTY, resident(&path).await?, "MB").at_most(30.0);
        bench.push(row);
    }
    if bench.wants(&[&full]) {
        let path = bench.file(Engine::Ram);
        child(&[
            "fill-waiting".as_ref(),
            path.as_os_str(),
            runs.to_string().as_ref(),
        ])
        .await?;
        let row = Row::new(full, resident(&path).await?, "MB").over(bench.row(EMPTY));
        bench.push(row.at_most(60.0));
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

async fn resident(path: &Path) -> Result<f64> {
    let kib = child(&["idle".as_ref(), path.as_os_str()]).await?;
    let kib: f64 = kib.trim().parse().context("the child gave no figure")?;
    Ok(kib * 1024.0 / 1e6)
}

/// This program again, in a process of its own.
async fn child(args: &[&std::ffi::OsStr]) -> Result<String> {
    let exe = std::env::current_exe()?;
    let mut command = std::process::Command::new(exe);
    command.args(args).stderr(std::process::Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    if !output.status.success() {
        bail!("a child of this program failed with {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

async fn idle(path: &Path) -> Result<u64> {
    let store = bench::open(path).await?;
    let agents = AgentRegistry::new().with(AgentFn::new("noop", |_| async {
        Ok(RunResult::output("done"))
    }));
    let runner = AgentRunner::new(Arc::clone(&store), agents, RunnerConfig::default())?;
    let stop = CancellationToken::new();
    let worker = tokio::spawn({
        let stop = stop.clone();
        async move { runner.run_loop(stop).await }
    });
    tokio::time::sleep(IDLE).await;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no VmRSS in /proc/self/status")?
        .parse()?;
    stop.cancel();
    worker.await??;
    store.close().await;
    Ok(resident)
}

async fn fill_waiting(path: &Path, runs: usize) -> Result<()> {
    let store = bench::open(path).await?;
    let due = SystemClock.now() + FAR;
    let worker = WorkerId::new();
    let mut left = runs;
    while left > 0 {
        claims::fill(&store, left.min(BATCH)).await?;
        let claimed = store
            .claim(claims::request(worker, left.min(BATCH)))
            .await?;
        if claimed.is_empty() {
            bail!("{left} runs could not be claimed");
        }
        left -= claimed.len();
        let waits = claimed.iter().map(|run| {
            store.commit(Commit {
                lease: run.lease,
                ops: Vec::new(),
                end: Some(Disposition::Waiting(Wait {
                    wake_on: vec![WakeOn::At(due)],
                    input_required: false,
                })),
            })
        });
        try_join_all(waits).await?;
    }
    store.close().await;
    Ok(())
}
