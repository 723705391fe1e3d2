//! Measures Adjutant beside what the machine allows, and prints a table.
//!
//! `cargo xtask bench -- --help`; `docs/guide/performance.md` says what each row means.

#![allow(clippy::print_stdout, reason = "the table is its output")]

mod bench;
mod report;

mod disk;
mod group;
mod servers;

mod claims;
mod events;
mod pool;
mod processes;
mod replay;
mod rss;
mod runs;
mod start;
mod wire;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};

use crate::{bench::Bench, report::Machine};

/// As in `agent`: records and events are made on one thread and dropped on another all the time, which is what
/// the system's own allocator is slowest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Adjutant beside what the machine allows.
#[derive(Debug, Parser)]
#[command(name = "adjutant-bench", bin_name = "cargo xtask bench --")]
struct Args {
    /// Time for each row.
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// One second for each row, and fewer runs where there would be a million.
    #[arg(long)]
    quick: bool,
    /// Only rows with this in their names, and the yardsticks they need.
    #[arg(long, value_name = "SUBSTR")]
    only: Option<String>,
    /// A directory on the disk to measure; the default is the build directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    child: Option<rss::Child>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// The one place that prints.
fn print_line(text: &str) {
    println!("{text}");
}

fn main() -> Result<ExitCode> {
    // This program is the helper of the processes that it measures.
    if let Some(status) = adjutant_process::helper_main() {
        return Ok(status);
    }
    if let Some(status) = pool::agent_main().or_else(wire::child_main) {
        return Ok(status);
    }
    run().map(|()| ExitCode::SUCCESS)
}

#[tokio::main]
async fn run() -> Result<()> {
    let args = Args::parse();
    if let Some(child) = args.child {
        return child.run().await;
    }
    let seconds = args.seconds.unwrap_or(if args.quick { 1.0 } else { 3.0 });
    let time = Duration::try_from_secs_f64(seconds)?;
    let print = args.output == Output::Table;
    let mut bench = Bench::new(time, args.quick, args.only, args.dir, print)?;
    let machine = Machine::now();
    if print {
        print_line(&format!("before: {machine}"));
    }
    tokio::select! {
        result = Box::pin(measure(&mut bench)) => result?,
        // Returning removes the temporary directories.
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
    if bench.rows().is_empty() {
        bail!("no row has such a name");
    }
    if print {
        print_line(&format!("after: {}", Machine::now()));
        print_line("docs/guide/performance.md says how each figure is made");
    } else {
        let report =
            serde_json::json!({ "before": machine, "after": Machine::now(), "rows": bench.rows() });
        print_line(&serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}

async fn measure(bench: &mut Bench) -> Result<()> {
    bench.heading();
    disk::measure(bench).await?;
    servers::yardsticks(bench).await?;
    runs::measure(bench).await?;
    servers::wake_ups(bench).await?;
    claims::measure(bench).await?;
    events::measure(bench).await?;
    replay::measure(bench).await?;
    rss::measure(bench).await?;
    processes::measure(bench).await?;
    pool::measure(bench).await?;
    wire::measure(bench)?;
    start::measure(bench).await
}
