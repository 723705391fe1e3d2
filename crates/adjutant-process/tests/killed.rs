//! When a runtime is killed, nothing it has started is there a second later.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{path::Path, time::Duration};

use adjutant_process::{Environment, Isolation, Limits, Ownership, ProcessManager, ProcessSpec};
use support::{eventually, is_alive, native};
use tempfile::TempDir;

/// How often a runtime is killed, in each way of owning processes. Fewer where processes are slow.
fn kills() -> usize {
    let wanted = std::env::var("ADJUTANT_KILLS").ok();
    wanted.map_or(100, |wanted| wanted.parse().unwrap())
}

/// The time after which nothing may be left.
const GRACE: Duration = Duration::from_secs(1);

const AGENTS: usize = 3;

/// Has a child, and a grandchild that has run away.
const AGENT: &str = r#"
(env -i PATH="$PATH" setsid sh -c 'echo $$ >> pids; exec sleep 600' &)
sleep 600 & echo $! >> pids
echo $$ >> pids
exec sleep 600
"#;

/// Runs as a program of its own, in the tests below.
#[test]
#[ignore = "started by the other tests of this file"]
fn start_some_and_wait() {
    let dir = std::env::var("KILLED_DIR").unwrap();
    let ownership = match std::env::var("KILLED_OWNERSHIP").unwrap().as_str() {
        "v2" => Ownership::CgroupV2,
        "v1" => Ownership::CgroupV1,
        _ => Ownership::Processes,
    };
    let helper = std::env::var("KILLED_HELPER").is_ok();
    let spec = ProcessSpec {
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), AGENT.to_owned()],
        dir: dir.into(),
        env: Environment::inherited(std::env::vars()),
        limits: Limits::default(),
        isolation: Isolation::default(),
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let processes = native(Some(ownership), helper).unwrap();
        let mut all = Vec::new();
        for _ in 0..AGENTS {
            all.push(processes.spawn(spec.clone()).await.unwrap());
        }
        tokio::time::sleep(Duration::from_secs(600)).await;
    });
}

fn pids(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("pids")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn groups_of(program: u32) -> usize {
    let found = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name"])
        .arg(format!("adjutant-*-{program}-*"))
        .output()
        .unwrap();
    String::from_utf8(found.stdout).unwrap().lines().count()
}

/// Starts a runtime with agents and kills it; its number, and those of the agents and what they have started.
async fn kill_one(ownership: &str, helper: bool) -> (u32, Vec<String>) {
    let dir = TempDir::new().unwrap();
    let mut program = tokio::process::Command::new(std::env::current_exe().unwrap());
    program
        .args(["--ignored", "--exact", "start_some_and_wait"])
        .env("KILLED_DIR", dir.path())
        .env("KILLED_OWNERSHIP", ownership)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true);
    if helper {
        program.env("KILLED_HELPER", "1");
    }
    let mut program = program.spawn().unwrap();
    let id = program.id().unwrap();
    eventually("started", || pids(dir.path()).len() == 3 * AGENTS).await;
    let pids = pids(dir.path());
    assert!(pids.iter().all(|pid| is_alive(pid)));
    program.kill().await.unwrap();
    (id, pids)
}

/// The kinds of control groups that can be used here; there is one at least where these tests are run.
fn groups() -> Vec<&'static str> {
    let kinds = [("v2", Ownership::CgroupV2), ("v1", Ownership::CgroupV1)];
    let usable = |(_, kind): &(&str, Ownership)| native(Some(*kind), false).is_ok();
    let usable: Vec<_> = kinds
        .into_iter()
        .filter(usable)
        .map(|(name, _)| name)
        .collect();
    assert!(!usable.is_empty(), "no control groups can be used here");
    usable
}

async fn nothing_is_left(ownership: &str) {
    for round in 0..kills() {
        let (program, pids) = kill_one(ownership, true).await;
        let gone = eventually("all dead", || !pids.iter().any(|pid| is_alive(pid)));
        let gone = tokio::time::timeout(GRACE, gone).await;
        assert!(gone.is_ok(), "{ownership}, round {round}: {pids:?}");
        eventually("no groups", || groups_of(program) == 0).await;
    }
}

#[tokio::test]
async fn nothing_is_left_with_control_groups_of_version_2() {
    if groups().contains(&"v2") {
        nothing_is_left("v2").await;
    }
}

#[tokio::test]
async fn nothing_is_left_with_control_groups_of_version_1() {
    if groups().contains(&"v1") {
        nothing_is_left("v1").await;
    }
}

#[tokio::test]
async fn nothing_is_left_without_control_groups() {
    nothing_is_left("none").await;
}

#[tokio::test]
async fn the_next_start_sweeps_what_nobody_else_has() {
    for ownership in groups() {
        let (program, pids) = kill_one(ownership, false).await;
        assert!(pids.iter().any(|pid| is_alive(pid)), "nothing to sweep");
        let ownership = match ownership {
            "v1" => Ownership::CgroupV1,
            _ => Ownership::CgroupV2,
        };
        let _next = native(Some(ownership), false).unwrap();
        eventually("all dead", || !pids.iter().any(|pid| is_alive(pid))).await;
        eventually("no groups", || groups_of(program) == 0).await;
    }
}
