//! Nothing that an agent starts outlives it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::time::Duration;

use adjutant_process::{
    Environment, ExitReason, Isolation, Limits, NativeProcesses, ProcessManager, ProcessSpec,
    Protocol, Spawned, StopCause,
};
use support::{Case, eventually, is_alive};

/// Ignores TERM, has a child of its own, and writes down both numbers.
const STUBBORN: &str = "trap '' TERM; sleep 600 & echo $! > child; echo $$ > self; wait; sleep 600";

fn pids(case: &Case) -> Vec<String> {
    [case.lines("child"), case.lines("self")].concat()
}

async fn all_dead(case: &Case) {
    let pids = pids(case);
    assert_eq!(pids.len(), 2);
    eventually("all dead", || !pids.iter().any(|pid| is_alive(pid))).await;
}

async fn spawn(case: &Case, script: &str) -> Spawned {
    let spec = ProcessSpec {
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned()],
        dir: case.dir.path().to_owned(),
        env: Environment::inherited(std::env::vars()),
        limits: Limits::default(),
        isolation: Isolation::default(),
    };
    NativeProcesses::new().unwrap().spawn(spec).await.unwrap()
}

#[tokio::test]
async fn dropping_an_attempt_ends_the_process_and_its_children() {
    for protocol in [Protocol::Exec, Protocol::Wire] {
        let mut case = Case::shell(STUBBORN);
        case.manifest.protocol = protocol;
        {
            let attempt = std::pin::pin!(case.attempt(1));
            let started = eventually("started", || pids(&case).len() == 2);
            tokio::select! {
                end = attempt => panic!("{end:?}"),
                () = started => {}
            }
        }
        all_dead(&case).await;
    }
}

#[test]
fn dropping_a_process_outside_of_a_runtime_ends_it_too() {
    let case = Case::shell("");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let spawned = runtime.block_on(async {
        let spawned = spawn(&case, STUBBORN).await;
        eventually("started", || pids(&case).len() == 2).await;
        spawned
    });
    drop(runtime);
    drop(spawned);
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(all_dead(&case));
}

#[tokio::test]
async fn what_a_process_leaves_behind_ends_with_it() {
    let case = Case::shell("");
    let mut spawned = spawn(&case, "sleep 600 & echo $! > child; echo $$ > self; exit 7").await;
    assert_eq!(spawned.process.wait().await.unwrap(), ExitReason::Exited(7));
    assert_eq!(spawned.process.wait().await.unwrap(), ExitReason::Exited(7));
    all_dead(&case).await;
}

#[tokio::test]
async fn stopping_is_polite_first_and_final_in_the_end() {
    let case = Case::shell("");
    let mut polite = spawn(
        &case,
        "trap 'touch bye; exit' TERM; echo up; while :; do sleep 0.05; done",
    )
    .await;
    read_line(&mut polite).await;
    let stopped = polite
        .process
        .stop(StopCause::Finished, Duration::from_secs(60))
        .await;
    assert_eq!(stopped.unwrap(), ExitReason::Stopped(StopCause::Finished));
    assert!(case.file("bye").exists());

    let mut stubborn = spawn(&case, STUBBORN).await;
    eventually("started", || pids(&case).len() == 2).await;
    let stopped = stubborn
        .process
        .stop(StopCause::Cancelled, Duration::from_millis(50))
        .await;
    assert_eq!(stopped.unwrap(), ExitReason::Stopped(StopCause::Cancelled));
    all_dead(&case).await;
}

async fn read_line(spawned: &mut Spawned) {
    use tokio::io::AsyncReadExt;
    while spawned.stdout.read_u8().await.unwrap() != b'\n' {}
}

#[tokio::test]
async fn a_finished_run_leaves_nothing() {
    let case = Case::by_hand(
        "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\n\
         open('child', 'w').write(str(child.pid))\nopen('self', 'w').write(str(os.getpid()))\nend(1)\ntime.sleep(600)",
    );
    case.attempt(1).await.unwrap();
    all_dead(&case).await;
}

/// Runs as a program of its own, in the test below.
#[test]
#[ignore = "started by `a_process_dies_with_the_program_that_started_it`"]
fn start_one_and_wait() {
    let dir = std::env::var("OWNERSHIP_DIR").unwrap();
    let spec = ProcessSpec {
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), "echo $$ > self; exec sleep 600".to_owned()],
        dir: dir.into(),
        env: Environment::inherited(std::env::vars()),
        limits: Limits::default(),
        isolation: Isolation::default(),
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let _spawned = NativeProcesses::new().unwrap().spawn(spec).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
    });
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_process_dies_with_the_program_that_started_it() {
    let case = Case::shell("");
    let mut program = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "start_one_and_wait"])
        .env("OWNERSHIP_DIR", case.dir.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("started", || !case.lines("self").is_empty()).await;
    program.kill().await.unwrap();
    let pid = case.lines("self").remove(0);
    eventually("dead", || !is_alive(&pid)).await;
}
