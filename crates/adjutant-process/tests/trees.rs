//! Whole trees end, however a process tries to get away from its own, in each way of owning them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use adjutant_process::{
    Environment, ExitReason, Isolation, Limits, NativeProcesses, Ownership, ProcessManager,
    ProcessSpec, Spawned, StopCause,
};
use support::{eventually, is_alive, native};
use tempfile::TempDir;

/// Forks twice, makes a session of its own and forgets its environment.
const ESCAPE: &str = r#"
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open("pids", "a") as file: file.write(f"{os.getpid()}\n")
        os.execve("/bin/sleep", ["sleep", "600"], KEPT)
    os._exit(0)
os.wait()
with open("pids", "a") as file: file.write(f"{os.getpid()}\n")
time.sleep(END)
"#;

/// All ways that work here. One of the first two is always there where these tests are run by CI.
fn ways() -> Vec<(Ownership, bool, NativeProcesses)> {
    let mut ways = Vec::new();
    for ownership in [
        Ownership::CgroupV2,
        Ownership::CgroupV1,
        Ownership::Processes,
    ] {
        for helper in [true, false] {
            if let Ok(processes) = native(Some(ownership), helper) {
                ways.push((ownership, helper, processes));
            }
        }
    }
    assert!(ways.len() > 2, "no control groups can be used here");
    ways
}

fn spec(dir: &Path, program: &str, args: &[&str]) -> ProcessSpec {
    ProcessSpec {
        program: program.into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        dir: dir.to_owned(),
        env: Environment::inherited(std::env::vars()),
        limits: Limits::default(),
        isolation: Isolation::default(),
    }
}

async fn escaping(way: &(Ownership, bool, NativeProcesses), dir: &Path, end: &str) -> Spawned {
    // Without control groups and without a keeper only the environment gives such a process away.
    let blind = way.0 == Ownership::Processes && !way.1;
    let kept = if blind { "os.environ" } else { "{}" };
    let script = ESCAPE.replace("KEPT", kept).replace("END", end);
    let spec = spec(dir, "/usr/bin/env", &["python3", "-c", &script]);
    way.2.spawn(spec).await.unwrap()
}

fn pids(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("pids")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn alive(dir: &Path) -> Vec<String> {
    pids(dir).into_iter().filter(|pid| is_alive(pid)).collect()
}

/// The groups that this program has made.
fn groups() -> Vec<String> {
    let own = format!("-{}-", std::process::id());
    let found = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name", "adjutant-*"])
        .output()
        .unwrap();
    let list = String::from_utf8(found.stdout).unwrap();
    list.lines()
        .filter(|name| name.contains(&own))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn stopping_ends_what_has_run_away() {
    for way in ways() {
        let dir = TempDir::new().unwrap();
        let mut spawned = escaping(&way, dir.path(), "600").await;
        eventually("escaped", || pids(dir.path()).len() == 2).await;
        let stopped = spawned
            .process
            .stop(StopCause::Finished, Duration::from_secs(60))
            .await;
        assert_eq!(stopped.unwrap(), ExitReason::Stopped(StopCause::Finished));
        assert_eq!(alive(dir.path()), [""; 0], "{way:?}");
        assert_eq!(groups(), [""; 0], "{way:?}");
    }
}

#[tokio::test]
async fn an_end_of_its_own_ends_what_has_run_away() {
    for way in ways() {
        let dir = TempDir::new().unwrap();
        let mut spawned = escaping(&way, dir.path(), "0); sys.exit(7").await;
        assert_eq!(spawned.process.wait().await.unwrap(), ExitReason::Exited(7));
        assert_eq!(alive(dir.path()), [""; 0], "{way:?}");
        assert_eq!(spawned.process.wait().await.unwrap(), ExitReason::Exited(7));
    }
}

#[tokio::test]
async fn dropping_ends_what_has_run_away() {
    for way in ways() {
        let dir = TempDir::new().unwrap();
        let spawned = escaping(&way, dir.path(), "600").await;
        eventually("escaped", || pids(dir.path()).len() == 2).await;
        drop(spawned);
        eventually("all dead", || alive(dir.path()).is_empty()).await;
        eventually("no groups", || groups().is_empty()).await;
    }
}

#[tokio::test]
async fn a_stopped_process_still_gets_the_request_to_end() {
    for way in ways() {
        let dir = TempDir::new().unwrap();
        let script = "trap 'touch bye; exit' TERM; echo $$ > pids; kill -STOP $$; sleep 600";
        let mut spawned = way
            .2
            .spawn(spec(dir.path(), "/bin/sh", &["-c", script]))
            .await
            .unwrap();
        eventually("stopped", || {
            let stat = pids(dir.path())
                .first()
                .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
            stat.is_some_and(|stat| stat.contains(") T "))
        })
        .await;
        let long = Duration::from_secs(60);
        spawned
            .process
            .stop(StopCause::Cancelled, long)
            .await
            .unwrap();
        assert!(dir.path().join("bye").exists(), "{way:?}");
    }
}

#[tokio::test]
async fn how_a_process_ended_is_told_in_every_way() {
    for way in ways() {
        let dir = TempDir::new().unwrap();
        let run = async |script: &str| {
            let spec = spec(dir.path(), "/bin/sh", &["-c", script]);
            let mut spawned = way.2.spawn(spec).await.unwrap();
            spawned.process.wait().await.unwrap()
        };
        assert_eq!(run("exit 0").await, ExitReason::Exited(0), "{way:?}");
        assert_eq!(run("exit 3").await, ExitReason::Exited(3), "{way:?}");
        assert_eq!(run("kill -15 $$").await, ExitReason::Signal(15), "{way:?}");
        assert_eq!(run("kill -9 $$").await, ExitReason::Signal(9), "{way:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_started_is_told_with_the_step_and_leaves_nothing() {
    for way in ways() {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("text"), "no program").unwrap();
        for program in ["/nonexistent", dir.path().join("text").to_str().unwrap()] {
            let error = way.2.spawn(spec(dir.path(), program, &[])).await;
            let error = error.map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), "process_start_failed", "{way:?}");
            assert!(error.to_string().contains(program), "{way:?}: {error}");
        }
        eventually("no groups", || groups().is_empty()).await;
    }
}

#[tokio::test]
async fn the_streams_end_with_the_process_and_hold_nothing_else() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    // Whoever runs this test may have left files open for all, as this does.
    let left_open = fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&left_open, rustix::io::FdFlags::empty()).unwrap();
    for way in ways() {
        let dir = TempDir::new().unwrap();
        let script = "read line; echo got $line; ls /proc/self/fd | wc -l; echo log >&2; exec >&- 2>&-; sleep 600";
        let Spawned {
            mut stdin,
            mut stdout,
            mut stderr,
            process,
        } = way
            .2
            .spawn(spec(dir.path(), "/bin/sh", &["-c", script]))
            .await
            .unwrap();
        stdin.write_all(b"it\n").await.unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        stdout.read_to_string(&mut out).await.unwrap();
        stderr.read_to_string(&mut err).await.unwrap();
        let files: usize = out
            .strip_prefix("got it\n")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        if way.1 {
            // Three streams and the folder that `ls` reads.
            assert_eq!(files, 4, "{way:?}");
        } else {
            assert!(files > 4, "{way:?}: the test has left nothing open");
        }
        assert_eq!(err, "log\n", "{way:?}");
        drop(process);
    }
}

#[tokio::test]
async fn nothing_of_an_agent_is_in_the_arguments_or_the_environment_of_its_helper() {
    let processes = native(Some(Ownership::Processes), true).unwrap();
    let dir = TempDir::new().unwrap();
    let mut secret = spec(
        dir.path(),
        "/bin/sh",
        &["-c", "echo $PPID > pids; sleep 600"],
    );
    secret.env.set("TOKEN", "s3cret");
    let _spawned = processes.spawn(secret).await.unwrap();
    eventually("started", || !pids(dir.path()).is_empty()).await;
    let keeper = pids(dir.path()).remove(0);
    let file = |name| std::fs::read(format!("/proc/{keeper}/{name}")).unwrap();
    let arguments = String::from_utf8(file("cmdline")).unwrap();
    assert!(
        arguments.ends_with("adjutant-helper\0__launch\0"),
        "{arguments}"
    );
    assert_eq!(file("environ"), b"");
}

#[tokio::test]
async fn fifty_that_leave_at_once_are_stopped_in_under_a_second() {
    for (ownership, helper, processes) in ways() {
        let dir = TempDir::new().unwrap();
        let spawn = || processes.spawn(spec(dir.path(), "/bin/sleep", &["600"]));
        let mut all = futures::future::try_join_all((0..50).map(|_| spawn()))
            .await
            .unwrap();
        let begun = Instant::now();
        let long = Duration::from_secs(60);
        let stops = all
            .iter_mut()
            .map(|spawned| spawned.process.stop(StopCause::Finished, long));
        futures::future::try_join_all(stops).await.unwrap();
        let took = begun.elapsed();
        assert!(
            took < Duration::from_secs(1),
            "{ownership:?} {helper}: {took:?}"
        );
    }
}
