//! What instances cost that do nothing.

use std::time::{Duration, Instant};

use adjutant_process::ProcessManager;
use anyhow::{Context, Result};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::{IN_FLIGHT, Ways, name, spec};
use crate::{
    bench::{self, Bench},
    report::Row,
};

pub(super) const IDLE: &str = "idle instances";

/// Time for what starting has stirred up to settle.
const SETTLE: Duration = Duration::from_secs(1);

/// Processor time and memory of this process while many instances live.
pub(super) async fn measure(bench: &mut Bench, ways: &Ways) -> Result<()> {
    let count = if bench.quick { 100 } else { 1000 };
    for (way, processes) in ways {
        let before = resident()?;
        let starts = (0..count).map(|_| processes.spawn(spec("/bin/sleep", &["600"])));
        let starts = stream::iter(starts).buffer_unordered(IN_FLIGHT);
        let all: Vec<_> = starts.try_collect().await?;
        tokio::time::sleep(SETTLE).await;
        let (begun, used) = (Instant::now(), bench::processor_time());
        tokio::time::sleep(bench.time).await;
        let used = bench::processor_time() - used;
        let percent = 100.0 * used.as_secs_f64() / begun.elapsed().as_secs_f64();
        let each = (resident()? - before).max(0.0) / f64::from(count);
        drop(all);
        let group = format!("{IDLE}, {count}, processor");
        bench.push(Row::new(name(&group, way), percent, "% of one").at_most(1.0));
        bench.push(Row::new(
            name(&format!("{IDLE}, memory of each"), way),
            each,
            "KiB",
        ));
    }
    Ok(())
}

/// Resident memory of this process, in KiB.
fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.context("no VmRSS in /proc/self/status")?;
    let number = words.split_whitespace().next().context("an empty VmRSS")?;
    Ok(number.parse()?)
}
