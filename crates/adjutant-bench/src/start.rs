//! How long a command takes that has next to nothing to do.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    bench::{self, Bench, Engine},
    claims,
    report::{Row, Times},
};

const VERSION: &str = "start of `agent version`";
const LIST: &str = "start of `agent runs list`";
const SPAWNS: usize = 30;
/// Runs in the store that is listed.
const RUNS: usize = 1000;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    if names(VERSION).iter().any(|name| bench.wants(&[name])) {
        let agent = agent()?;
        push(bench, VERSION, &measured(&agent, &["version"])?, 10.0);
    }
    if names(LIST).iter().any(|name| bench.wants(&[name])) {
        let agent = agent()?;
        let path = bench.file(Engine::Disk);
        let store = bench::open(&path).await?;
        claims::fill(&store, RUNS).await?;
        store.close().await;
        let url = format!("sqlite:{}", path.display());
        let times = measured(&agent, &["runs", "list", "--store", &url])?;
        push(bench, LIST, &times, 20.0);
    }
    Ok(())
}

fn names(what: &str) -> [String; 2] {
    [format!("{what}: best"), format!("{what}: median")]
}

fn push(bench: &mut Bench, what: &str, times: &Times, aim: f64) {
    for (name, percent) in names(what).into_iter().zip([0, 50]) {
        bench.push(Row::new(name, times.percentile(percent) / 1000.0, "ms").at_most(aim));
    }
}

fn measured(agent: &Path, args: &[&str]) -> Result<Times> {
    let times = (0..SPAWNS).map(|_| spawn(agent, args));
    Ok(Times::new(times.collect::<Result<_>>()?))
}

/// The release binary beside this one.
fn agent() -> Result<PathBuf> {
    let agent = bench::build_dir()?.join("agent");
    if !agent.exists() {
        build()?;
    }
    Ok(agent)
}

fn build() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--release",
            "-p",
            "adjutant-cli",
            "--bin",
            "agent",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("failed to start cargo")?;
    if !status.success() {
        bail!("failed to build `agent`");
    }
    Ok(())
}

fn spawn(agent: &Path, args: &[&str]) -> Result<Duration> {
    let begin = Instant::now();
    let status = Command::new(agent)
        .args(args)
        .stdout(Stdio::null())
        // The hint for more rows.
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("failed to start {}", agent.display()))?;
    let took = begin.elapsed();
    if !status.success() {
        bail!("`agent {}` failed with {status}", args.join(" "));
    }
    Ok(took)
}
