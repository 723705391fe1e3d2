//! `log-triage FILE`: an agent within a Rust program. It cuts a log into chunks, reads them in parallel child
//! runs, and writes a report, worst news first. Kill it and start it again: it goes on where it was.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its result and its progress"
)]

mod agents;
mod analysis;
mod log;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use adjutant::{
    AgentRunner, CancellationToken, Command, Json, NewRun, Outcome, RunFilter, RunId, RunInput,
    RunState, RunnerConfig, Store, StoreOptions, StreamExt, events, open_store,
};
use anyhow::{Context, bail};
use clap::Parser;
use tokio::task::JoinHandle;

use crate::agents::{Job, agents};

/// Triages a log file.
#[derive(Parser)]
struct Args {
    /// The log.
    file: PathBuf,
    /// Where runs are kept.
    #[arg(long, default_value = "sqlite:log-triage.db")]
    store: String,
    /// Where the report goes.
    #[arg(long, default_value = "triage.md")]
    report: PathBuf,
    /// A pause in each chunk, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pause_ms: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let job = job(&args.file, &args.report)?;

    let store = open_store(&args.store, StoreOptions::default()).await?;
    let run = submit(&*store, &job).await?;
    put_back_parked(&*store, run).await?;
    let stop = CancellationToken::new();
    let pause = Duration::from_millis(args.pause_ms);
    let mut worker = tokio::spawn(work(Arc::clone(&store), pause, stop.clone()));
    follow(Arc::clone(&store), run, &mut worker).await?;
    stop.cancel();
    worker.await??;

    let view = store.get(run).await?.context("the run is gone")?;
    store.close().await;
    match view.outcome {
        Some(Outcome::Succeeded(result)) => println!("{}", result.final_output),
        Some(Outcome::Failed { error }) => bail!("{run} failed: {error}"),
        other => bail!("{run} did not succeed: {other:?}"),
    }
    Ok(())
}

/// What is to be done, with paths that do not depend on how they were spelled.
fn job(file: &Path, report: &Path) -> anyhow::Result<Job> {
    let log = file
        .canonicalize()
        .with_context(|| format!("no log at {}", file.display()))?;
    let content = log::fingerprint(&log::read(&log)?);
    let report = std::path::absolute(report)?;
    let (Some(folder), Some(name)) = (report.parent(), report.file_name()) else {
        bail!("{} is no file for a report", report.display());
    };
    let folder = folder
        .canonicalize()
        .with_context(|| format!("no folder {} for the report", folder.display()))?;
    Ok(Job {
        log,
        content,
        report: folder.join(name),
    })
}

/// Queues the job, or finds the run that the same job has already: its key is what it is to do. A run that did not
/// succeed is no reason never to try again.
async fn submit(store: &dyn Store, job: &Job) -> anyhow::Result<RunId> {
    let job = serde_json::to_value(job)?;
    let key = Json::from(job.clone()).fingerprint().0;
    for round in 1.. {
        let mut run = NewRun::new("triage", &RunInput::data(job.clone()))?;
        run.idempotency_key = Some(format!("triage-{key:016x}-{round}"));
        let submitted = store.submit(vec![run]).await?;
        let submitted = submitted.first().context("the store did not answer")?;
        let view = store.get(submitted.run).await?.context("the run is gone")?;
        let verb = match (submitted.created, view.run.state) {
            (true, _) => "begins",
            (_, RunState::Succeeded) => "is done already",
            (_, state) if state.is_terminal() => continue,
            _ => "goes on",
        };
        eprintln!("{} {verb}", submitted.run);
        return Ok(submitted.run);
    }
    bail!("the job has failed too often")
}

/// A run whose workers died too often is set aside until somebody asks for it. Whoever starts this again does.
async fn put_back_parked(store: &dyn Store, run: RunId) -> anyhow::Result<()> {
    let children = RunFilter {
        states: vec![RunState::Parked],
        parent: Some(run),
        limit: 1000,
        ..RunFilter::default()
    };
    let mut parked: Vec<RunId> = store
        .list(children)
        .await?
        .iter()
        .map(|run| run.id)
        .collect();
    let itself = store.get(run).await?;
    parked.extend(
        itself
            .filter(|view| view.run.state == RunState::Parked)
            .map(|_| run),
    );
    for run in parked {
        store.control(run, Command::Redrive).await?;
    }
    Ok(())
}

async fn work(
    store: Arc<dyn Store>,
    pause: Duration,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // Short leases: after a crash the next start does not wait long.
    let config = RunnerConfig {
        concurrency: 4,
        heartbeat_interval: Duration::from_millis(500),
        lease_ttl: Duration::from_secs(2),
        ..RunnerConfig::default()
    };
    AgentRunner::new(store, agents(pause), config)?
        .run_loop(stop)
        .await?;
    Ok(())
}

/// Shows the run to its end. Without its worker it would never end.
async fn follow(
    store: Arc<dyn Store>,
    run: RunId,
    worker: &mut JoinHandle<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        shown = show_events(store, run) => shown,
        ended = worker => {
            ended?.context("the worker failed")?;
            bail!("the worker ended before the run")
        }
    }
}

/// Prints the run's events as they happen, to the last one.
async fn show_events(store: Arc<dyn Store>, run: RunId) -> anyhow::Result<()> {
    let mut tail = std::pin::pin!(events::tail(store, run, 0));
    while let Some(event) = tail.next().await {
        let event = event?;
        eprintln!(
            "{:>4}  {:<18} {}",
            event.seq,
            event.event_type.as_str(),
            short(&event.payload)
        );
    }
    Ok(())
}

fn short(payload: &Json) -> String {
    payload.as_str().chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use adjutant::{
        MemoryStore, RunLookup, RunQueue, WorkerId,
        queue::{AgentFilter, ClaimRequest},
    };

    use super::*;

    const LOG: &str = "1 ERROR no user 7\n2 INFO took 3 ms\n";

    fn written(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("a.log");
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn asked(store: &dyn Store, file: &Path, report: &Path) -> RunId {
        submit(store, &job(file, report).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn the_same_job_is_the_same_run_however_its_paths_are_spelled() {
        let dir = tempfile::tempdir().unwrap();
        let file = written(dir.path(), LOG);
        std::fs::create_dir(dir.path().join("x")).unwrap();
        let spelled = dir.path().join("x/../a.log");
        let report = |name: &str| dir.path().join(name);
        let store = MemoryStore::new();
        let first = asked(&store, &file, &report("r.md")).await;
        assert_eq!(first, asked(&store, &spelled, &report("x/../r.md")).await);
        assert_ne!(first, asked(&store, &file, &report("other.md")).await);
        written(dir.path(), &LOG.replace("took 3", "took 4"));
        assert_ne!(first, asked(&store, &file, &report("r.md")).await);
    }

    #[tokio::test]
    async fn a_job_whose_run_was_cancelled_can_be_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let (file, report) = (written(dir.path(), LOG), dir.path().join("r.md"));
        let store = MemoryStore::new();
        let first = asked(&store, &file, &report).await;
        let reason = "test".to_owned();
        store
            .control(first, Command::Cancel { reason })
            .await
            .unwrap();
        assert_ne!(first, asked(&store, &file, &report).await);
    }

    #[tokio::test]
    async fn a_run_that_was_set_aside_is_put_back_by_who_asks_for_it_again() {
        let store = MemoryStore::new();
        let mut run = NewRun::new("triage", &RunInput::default()).unwrap();
        run.max_deaths = 0;
        let run = store.submit(vec![run]).await.unwrap()[0].run;
        let dying = ClaimRequest {
            worker: WorkerId::new(),
            capacity: 1,
            agents: AgentFilter::Any,
            lease_ttl: Duration::from_millis(1),
            wait: Duration::ZERO,
        };
        store.claim(dying).await.unwrap();
        let state = async || store.get(run).await.unwrap().unwrap().run.state;
        while state().await != RunState::Parked {
            store.sweep(1, Duration::from_millis(50)).await.unwrap();
        }
        put_back_parked(&store, run).await.unwrap();
        assert_eq!(state().await, RunState::Pending);
    }

    #[tokio::test]
    async fn who_follows_a_run_is_told_when_its_worker_fails() {
        let dir = tempfile::tempdir().unwrap();
        let (file, report) = (written(dir.path(), LOG), dir.path().join("r.md"));
        let store = Arc::new(MemoryStore::new());
        let run = asked(&*store, &file, &report).await;
        let mut worker = tokio::spawn(async { bail!("no more disk") });
        let followed = follow(store, run, &mut worker);
        let followed = tokio::time::timeout(Duration::from_secs(20), followed).await;
        let error = followed.expect("it hangs").unwrap_err();
        assert!(format!("{error:#}").contains("no more disk"), "{error:#}");
    }
}
