//! `log-triage FILE`: an agent within a Rust program. It cuts a log into chunks, reads them in parallel child
//! runs, and writes a report, worst news first. Kill it and start it again: it goes on where it was.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its result and its progress"
)]

mod agents;
mod analysis;

use std::{path::PathBuf, sync::Arc, time::Duration};

use adjutant::{
    AgentRunner, Json, NewRun, Outcome, RunId, RunInput, RunnerConfig, Store, StoreOptions, events,
    open_store,
};
use anyhow::{Context, bail};
use clap::Parser;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

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
    let log = args
        .file
        .canonicalize()
        .with_context(|| format!("no log at {}", args.file.display()))?;
    let job = Job {
        log,
        report: std::path::absolute(args.report)?,
        pause_ms: args.pause_ms,
    };

    let store = open_store(&args.store, StoreOptions::default()).await?;
    let run = submit(&*store, &job).await?;
    let stop = CancellationToken::new();
    let worker = tokio::spawn(work(Arc::clone(&store), stop.clone()));
    show_events(Arc::clone(&store), run).await?;
    stop.cancel();
    worker.await??;

    let view = store.get(run).await?.context("the run is gone")?;
    store.close().await;
    match view.outcome {
        Some(Outcome::Succeeded(result)) => println!("{}", result.final_output),
        other => bail!("{run} did not succeed: {other:?}"),
    }
    Ok(())
}

/// Queues the job, or finds the run that the same job has already: its key is what it is to do.
async fn submit(store: &dyn Store, job: &Job) -> anyhow::Result<RunId> {
    let content = std::fs::read_to_string(&job.log)?;
    let mut run = NewRun::new("triage", &RunInput::data(serde_json::to_value(job)?))?;
    let what = (&run.input, content);
    run.idempotency_key = Some(format!(
        "triage-{:016x}",
        Json::from_value(&what)?.fingerprint().0
    ));
    let submitted = store.submit(vec![run]).await?;
    let submitted = submitted.first().context("the store did not answer")?;
    let verb = if submitted.created {
        "begins"
    } else {
        "goes on, or is done already"
    };
    eprintln!("{} {verb}", submitted.run);
    Ok(submitted.run)
}

async fn work(store: Arc<dyn Store>, stop: CancellationToken) -> anyhow::Result<()> {
    // Short leases: after a crash the next start does not wait long.
    let config = RunnerConfig {
        concurrency: 4,
        heartbeat_interval: Duration::from_millis(500),
        lease_ttl: Duration::from_secs(2),
        ..RunnerConfig::default()
    };
    AgentRunner::new(store, agents(), config)?
        .run_loop(stop)
        .await?;
    Ok(())
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
