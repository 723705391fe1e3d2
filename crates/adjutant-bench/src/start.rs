//! How long a command takes that has nothing to do.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    bench::{self, Bench},
    report::{Row, Times},
};

const BEST: &str = "start of `agent version`: best";
const MEDIAN: &str = "start of `agent version`: median";
const SPAWNS: usize = 30;

pub fn measure(bench: &mut Bench) -> Result<()> {
    if !bench.wants(&[BEST, MEDIAN]) {
        return Ok(());
    }
    let agent = bench::build_dir()?.join("agent");
    if !agent.exists() {
        build()?;
    }
    let times = (0..SPAWNS)
        .map(|_| spawn(&agent))
        .collect::<Result<Vec<_>>>()?;
    let times = Times::new(times);
    bench.push(Row::new(BEST, times.percentile(0) / 1000.0, "ms").at_most(10.0));
    bench.push(Row::new(MEDIAN, times.percentile(50) / 1000.0, "ms").at_most(10.0));
    Ok(())
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

fn spawn(agent: &Path) -> Result<Duration> {
    let begin = Instant::now();
    let status = Command::new(agent)
        .arg("version")
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("failed to start {}", agent.display()))?;
    let took = begin.elapsed();
    if !status.success() {
        bail!("`agent version` failed with {status}");
    }
    Ok(took)
}
