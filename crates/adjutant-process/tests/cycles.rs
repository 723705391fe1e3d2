//! Many starts and stops leave nothing: no process, no group, no file, no zombie.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{fs, time::Duration};

use adjutant_process::{
    Environment, Isolation, Limits, NativeProcesses, Ownership, ProcessManager, ProcessSpec,
    Spawned, StopCause,
};
use support::{eventually, native};
use tempfile::TempDir;

/// Starts and stops, in each way of owning processes. Fewer where processes are slow.
fn cycles() -> usize {
    let wanted = std::env::var("ADJUTANT_CYCLES").ok();
    wanted.map_or(500, |wanted| wanted.parse().unwrap())
}

/// Processes under way at once.
const AT_ONCE: usize = 10;

/// Has a child, and a grandchild that has run away; all of them have `MARK` in their arguments.
const AGENT: &str = "(env -i PATH=$PATH setsid sleep 600.MARK &) ; sleep 600.MARK & echo up; wait";

/// What nobody else has in the arguments.
fn mark() -> String {
    std::process::id().to_string()
}

/// Processes with the mark in their arguments.
fn marked() -> usize {
    // To the end of the argument: another suite's number may begin with this one's.
    let mark = format!("sleep 600.{} ", mark());
    let all = fs::read_dir("/proc").unwrap().flatten();
    let arguments = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let texts = arguments.map(|text| String::from_utf8_lossy(&text).replace('\0', " "));
    texts.filter(|text| text.contains(&mark)).count()
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Numbers and states of this program's children.
fn children() -> Vec<String> {
    let own = std::process::id().to_string();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let stats = all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let of_ours = |stat: &String| {
        let rest = stat.rsplit_once(") ").unwrap().1;
        rest.split(' ').nth(1) == Some(own.as_str())
    };
    stats.filter(of_ours).collect()
}

async fn cycle(processes: &NativeProcesses, dir: &TempDir, number: usize) {
    use tokio::io::AsyncReadExt;

    let spec = ProcessSpec {
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), AGENT.replace("MARK", &mark())],
        dir: dir.path().to_owned(),
        env: Environment::inherited(std::env::vars()),
        limits: Limits::default(),
        isolation: Isolation::default(),
    };
    let mut spawned: Spawned = processes.spawn(spec).await.unwrap();
    spawned.stdout.read_u8().await.unwrap();
    // One in three is dropped, one is killed, one is asked.
    match number % 3 {
        0 => drop(spawned),
        1 => {
            spawned.process.kill();
            spawned.process.wait().await.unwrap();
        }
        _ => {
            let patience = Duration::from_secs(60);
            let stopped = spawned.process.stop(StopCause::Finished, patience).await;
            stopped.unwrap();
        }
    }
}

#[tokio::test]
async fn many_starts_and_stops_leave_nothing() {
    for ownership in [
        Ownership::CgroupV2,
        Ownership::CgroupV1,
        Ownership::Processes,
    ] {
        let Ok(processes) = native(Some(ownership), true) else {
            continue;
        };
        let dir = TempDir::new().unwrap();
        cycle(&processes, &dir, 1).await;
        // The launcher, and the guardian where there are groups.
        eventually("settled", || children().len() <= 2).await;
        let (files, helpers) = (open_files(), children().len());
        for first in 0..cycles() / AT_ONCE {
            let batch = (0..AT_ONCE).map(|one| cycle(&processes, &dir, first + one));
            futures::future::join_all(batch).await;
        }
        // What the first cycle held may have been counted above before it was let go; what leaks is hundreds more.
        eventually("no children", || children().len() <= helpers).await;
        eventually("no files", || open_files() <= files).await;
        eventually("no processes", || marked() == 0).await;
    }
}
