//! Isolation profiles, in each way of owning processes. What they keep away is shown by the crate that confines.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use adjutant_process::{
    Environment, Error, ExitReason, Helper, Isolation, LimitKind, Limits, NativeOptions,
    NativeProcesses, Network, Ownership, Part, ProcessManager, ProcessSpec, Profile, Spawned,
    StopCause, Transport, isolation_support,
};
use support::{Case, eventually, native};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

const PATIENCE: Duration = Duration::from_secs(60);

/// All ways that work here and can confine.
fn ways() -> Vec<(Ownership, NativeProcesses)> {
    let all = [
        Ownership::CgroupV2,
        Ownership::CgroupV1,
        Ownership::Processes,
    ];
    let working = all
        .into_iter()
        .filter_map(|way| Some((way, native(Some(way), true).ok()?)));
    working.collect()
}

/// A folder for an agent with one for temporary files beside it.
fn place() -> TempDir {
    let place = TempDir::new().unwrap();
    std::fs::create_dir(place.path().join("agent")).unwrap();
    std::fs::create_dir(place.path().join("tmp")).unwrap();
    place
}

fn shell(place: &TempDir, profile: Profile, script: &str) -> ProcessSpec {
    let mut env = Environment::inherited(std::env::vars());
    env.set("TMPDIR", place.path().join("tmp").to_string_lossy());
    ProcessSpec {
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned()],
        dir: place.path().join("agent"),
        env,
        limits: Limits::default(),
        isolation: Isolation::of(profile),
    }
}

async fn output(spawned: &mut Spawned) -> String {
    let mut text = String::new();
    spawned.stdout.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn an_agent_works_in_its_folder_and_its_end_is_told() {
    let script = r#"
        set -e
        echo x > "$ADJUTANT_WORK_DIR/made"
        echo x > "$TMPDIR/temporary"
        ! touch here 2> /dev/null
        cat /proc/self/status | grep NoNewPrivs
        exit 7"#;
    for (way, processes) in ways() {
        for profile in [Profile::Workspace, Profile::Isolated, Profile::Restricted] {
            let place = place();
            let mut spawned = processes
                .spawn(shell(&place, profile, script))
                .await
                .unwrap();
            assert_eq!(
                output(&mut spawned).await,
                "NoNewPrivs:\t1\n",
                "{way} {profile}"
            );
            let end = tokio::time::timeout(PATIENCE, spawned.process.wait())
                .await
                .unwrap();
            assert_eq!(end.unwrap(), ExitReason::Exited(7), "{way} {profile}");
            assert!(place.path().join("agent/work/made").exists());
        }
    }
}

#[tokio::test]
async fn stopping_reaches_the_agent_and_not_what_looks_after_it() {
    for (way, processes) in ways() {
        for profile in Profile::ALL {
            let script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
            let place = place();
            let mut spawned = processes
                .spawn(shell(&place, profile, script))
                .await
                .unwrap();
            let mut ready = [0; 6];
            spawned.stdout.read_exact(&mut ready).await.unwrap();
            let asked = Instant::now();
            let stopped = spawned.process.stop(StopCause::Finished, PATIENCE).await;
            assert_eq!(stopped.unwrap(), ExitReason::Stopped(StopCause::Finished));
            assert_eq!(output(&mut spawned).await, "asked\n", "{way} {profile}");
            assert!(asked.elapsed() < PATIENCE / 2, "{way} {profile}");
        }
    }
}

#[tokio::test]
async fn signals_and_limits_end_a_confined_agent_with_their_reason() {
    for (way, processes) in ways() {
        for profile in Profile::ALL {
            let place = place();
            let killed = shell(&place, profile, "kill -KILL $$");
            let mut spawned = processes.spawn(killed).await.unwrap();
            assert_eq!(
                spawned.process.wait().await.unwrap(),
                ExitReason::Signal(9),
                "{way} {profile}"
            );
            let mut slow = shell(&place, profile, "exec sleep 600");
            slow.limits.duration = Some(Duration::from_millis(100));
            let mut spawned = processes.spawn(slow).await.unwrap();
            let limit = ExitReason::Limit(LimitKind::Duration);
            assert_eq!(
                spawned.process.wait().await.unwrap(),
                limit,
                "{way} {profile}"
            );
        }
    }
}

#[tokio::test]
async fn dropping_ends_a_system_of_its_own_and_all_in_it() {
    for (_, processes) in ways() {
        let place = place();
        // A file that processes keep open, wherever they are.
        let script =
            "mkfifo $ADJUTANT_WORK_DIR/pipe; setsid sh -c 'sleep 600' & echo ready; sleep 600";
        let mut spawned = processes
            .spawn(shell(&place, Profile::Isolated, script))
            .await
            .unwrap();
        let mut ready = [0; 6];
        spawned.stdout.read_exact(&mut ready).await.unwrap();
        let folder = place.path().join("agent");
        assert!(working_in(&folder) > 0);
        drop(spawned);
        eventually("nobody works there", || working_in(&folder) == 0).await;
    }
}

/// How many processes of the machine work in a folder.
fn working_in(folder: &Path) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let cwd = |entry: std::fs::DirEntry| std::fs::read_link(entry.path().join("cwd")).ok();
    processes
        .filter_map(cwd)
        .filter(|cwd| cwd == folder)
        .count()
}

#[tokio::test]
async fn an_agent_cannot_change_how_it_is_started() {
    let (_, processes) = ways().remove(0);
    let place = place();
    let mut spec = shell(&place, Profile::Isolated, "true");
    spec.isolation.work = Some(spec.dir.clone());
    let refused = processes.spawn(spec).await.err().unwrap();
    assert!(
        refused
            .to_string()
            .contains("could change how it is started"),
        "{refused}"
    );
    assert!(!refused.retryable());
}

#[tokio::test]
async fn what_cannot_be_confined_is_refused_unless_that_is_allowed() {
    // Without a helper nobody can confine a process.
    let mut options = NativeOptions::default();
    options.helper = None;
    let refusing = NativeProcesses::with(options.clone()).unwrap();
    options.allow_degraded = true;
    let lenient = NativeProcesses::with(options).unwrap();
    for profile in [Profile::Workspace, Profile::Isolated, Profile::Restricted] {
        let place = place();
        let refused = refusing
            .spawn(shell(&place, profile, "true"))
            .await
            .err()
            .unwrap();
        assert!(matches!(refused, Error::Isolation { .. }), "{refused}");
        assert!(
            refused.to_string().contains("--allow-degraded"),
            "{refused}"
        );
        let mut spawned = lenient.spawn(shell(&place, profile, "true")).await.unwrap();
        assert_eq!(spawned.process.wait().await.unwrap(), ExitReason::Exited(0));
    }
}

#[tokio::test]
async fn a_contradiction_is_refused() {
    let (_, processes) = ways().remove(0);
    let place = place();
    let mut spec = shell(&place, Profile::Open, "true");
    spec.isolation.network = Some(Network::None);
    let refused = processes.spawn(spec).await.err().unwrap();
    assert!(refused.to_string().contains("network: none"), "{refused}");
}

#[tokio::test]
async fn the_wire_reaches_an_agent_without_network() {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adjutant-agent/python");
    for transport in [Transport::Stdio, Transport::Unix] {
        for profile in [Profile::Isolated, Profile::Restricted] {
            let mut case = Case::python("return run.step('add', lambda: 1 + run.data['n'])");
            let path = library.canonicalize().unwrap();
            case.manifest.env.set("PYTHONPATH", path.to_str().unwrap());
            case.manifest.transport = transport;
            case.manifest.isolation = Isolation {
                read: vec![library.clone()],
                ..Isolation::of(profile)
            };
            assert_eq!(case.output().await, 4, "{transport:?} {profile}");
        }
    }
}

#[test]
fn a_helper_tells_what_is_enforced() {
    let helper = Helper::new(env!("CARGO_BIN_EXE_adjutant-helper"));
    let here = isolation_support(Some(&helper));
    assert!(
        here.has(Part::Namespaces) && here.has(Part::Syscalls),
        "{here:?}"
    );
    assert!(!isolation_support(Some(&Helper::new("/bin/true"))).has(Part::Syscalls));
}
