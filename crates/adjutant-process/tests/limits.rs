//! Limits hold, and who goes over one is told which.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, its helpers too"
)]

mod support;

use std::{num::NonZeroU64, path::Path, time::Duration};

use adjutant_process::{
    ByteSize, Enforcement, Environment, ExitReason, Isolation, LimitKind, Limits, NativeProcesses,
    Ownership, ProcessManager, ProcessSpec, Protocol, Spawned,
};
use serde_json::{Value, json};
use support::{Case, native};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

fn ways() -> Vec<NativeProcesses> {
    let kinds = [
        Ownership::CgroupV2,
        Ownership::CgroupV1,
        Ownership::Processes,
    ];
    let both = |kind| [native(Some(kind), true), native(Some(kind), false)];
    let ways: Vec<_> = kinds.into_iter().flat_map(both).flatten().collect();
    assert!(ways.len() > 2, "no control groups can be used here");
    ways
}

async fn start(way: &NativeProcesses, dir: &Path, script: &str, limits: Limits) -> Spawned {
    let spec = ProcessSpec {
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.to_owned()],
        dir: dir.to_owned(),
        env: Environment::inherited(std::env::vars()),
        limits,
        isolation: Isolation::default(),
    };
    way.spawn(spec).await.unwrap()
}

/// How a script ends under limits, and what it prints.
async fn end(way: &NativeProcesses, script: &str, limits: Limits) -> (ExitReason, String) {
    let dir = TempDir::new().unwrap();
    let Spawned {
        mut process,
        stdin: _stdin,
        mut stdout,
        mut stderr,
    } = start(way, dir.path(), script, limits).await;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let read = async {
        let streams =
            futures::future::join(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
        streams.await
    };
    let (reason, _) = futures::future::join(process.wait(), read).await;
    (reason.unwrap(), String::from_utf8_lossy(&out).into_owned())
}

/// Takes 256 MiB and no more, whether or not anything holds it.
const MEMORY_HOG: &str = "exec python3 -c 'import time
hog = []
for _ in range(64):
    hog.append(bytearray(4 << 20))
    time.sleep(0.002)
time.sleep(5)'";

/// Tries to have 60 processes, each for a few seconds.
const FORKS: &str = r#"exec python3 -c 'import os, sys, time
made = 0
for _ in range(60):
    try: pid = os.fork()
    except OSError: break
    if pid == 0:
        time.sleep(5)
        os._exit(0)
    made += 1
print(made)
sys.exit(7 if made < 60 else 0)'"#;

#[tokio::test]
async fn a_memory_hog_dies_alone() {
    for way in ways() {
        let limits = Limits {
            memory: Some(ByteSize(96 << 20)),
            ..Limits::default()
        };
        let dir = TempDir::new().unwrap();
        let mut other = start(&way, dir.path(), "echo up; read x; exit 5", limits).await;
        assert_eq!(other.stdout.read_u8().await.unwrap(), b'u');
        let (reason, _) = end(&way, MEMORY_HOG, limits).await;
        assert_eq!(reason, ExitReason::Oom, "{way:?}");
        drop(other.stdin);
        let reason = other.process.wait().await.unwrap();
        assert_eq!(reason, ExitReason::Exited(5), "{way:?}");
    }
}

#[tokio::test]
async fn a_hog_among_the_children_ends_the_whole_tree() {
    for way in ways() {
        let limits = Limits {
            memory: Some(ByteSize(96 << 20)),
            ..Limits::default()
        };
        let script = format!("({MEMORY_HOG}) & sleep 600");
        let (reason, _) = end(&way, &script, limits).await;
        assert_eq!(reason, ExitReason::Oom, "{way:?}");
    }
}

#[tokio::test]
async fn a_process_gets_the_share_of_the_processor_that_it_may_have() {
    let spin = "exec python3 -c 'import time
end = time.monotonic() + 1.5
while time.monotonic() < end: pass
print(time.process_time())'";
    let mut held = 0;
    for way in ways() {
        if way.capabilities().enforcement(LimitKind::Cpu) == Enforcement::None {
            continue;
        }
        let limits = Limits {
            cpu: Some(0.1),
            ..Limits::default()
        };
        let (reason, out) = end(&way, spin, limits).await;
        assert_eq!(reason, ExitReason::Exited(0));
        let seconds: f64 = out.trim().parse().unwrap();
        assert!(seconds < 0.75, "{seconds} s of processor time in 1.5 s");
        held += 1;
    }
    assert!(held > 0, "no control group for processors can be used here");
}

#[tokio::test]
async fn a_tree_has_no_more_processes_than_it_may() {
    let mut held = 0;
    for way in ways() {
        if way.capabilities().enforcement(LimitKind::Pids) != Enforcement::Cgroup {
            continue;
        }
        let limits = Limits {
            pids: NonZeroU64::new(12),
            ..Limits::default()
        };
        let (reason, out) = end(&way, FORKS, limits).await;
        assert_eq!(out, "11\n", "{way:?}");
        assert_eq!(reason, ExitReason::Limit(LimitKind::Pids), "{way:?}");
        held += 1;
    }
    assert!(held > 0, "no control group for processes can be used here");
}

#[tokio::test]
async fn without_control_groups_a_tree_that_has_grown_too_large_is_ended() {
    let way = native(Some(Ownership::Processes), true).unwrap();
    let enforcement = way.capabilities().enforcement(LimitKind::Pids);
    assert_eq!(enforcement, Enforcement::Sampled);
    let limits = Limits {
        pids: NonZeroU64::new(12),
        ..Limits::default()
    };
    // It grows slowly, and to no more than 40.
    let grows = "n=0; while [ $n -lt 40 ]; do sleep 30 & n=$((n + 1)); sleep 0.02; done; wait";
    let (reason, _) = end(&way, grows, limits).await;
    assert_eq!(reason, ExitReason::Limit(LimitKind::Pids));
    let few = "for n in 1 2 3; do sleep 0.2 & done; wait; echo well";
    let (reason, out) = end(&way, few, limits).await;
    assert_eq!((reason, out.as_str()), (ExitReason::Exited(0), "well\n"));
}

#[tokio::test]
async fn a_limit_that_nothing_enforces_is_refused() {
    let way = native(Some(Ownership::Processes), true).unwrap();
    let limits = Limits {
        cpu: Some(0.5),
        ..Limits::default()
    };
    let spec = ProcessSpec {
        program: "/bin/true".into(),
        args: Vec::new(),
        dir: "/".into(),
        env: Environment::default(),
        limits,
        isolation: Isolation::default(),
    };
    let error = way.spawn(spec).await.map(|_| ()).unwrap_err();
    assert_eq!(
        (error.kind(), error.retryable()),
        ("limit_not_enforceable", false)
    );
    assert!(error.to_string().contains("`limits.cpu` is 0.5"), "{error}");
}

#[tokio::test]
async fn files_and_core_dumps_are_limited_for_each_process() {
    for way in ways() {
        let limits = Limits {
            files: NonZeroU64::new(20),
            ..Limits::default()
        };
        let (reason, out) = end(&way, "ulimit -n; ulimit -Hn; ulimit -c", limits).await;
        assert_eq!(reason, ExitReason::Exited(0));
        assert_eq!(out, "20\n20\n0\n", "{way:?}");
    }
}

#[tokio::test]
async fn more_files_than_may_be_had_are_as_many_as_there_are() {
    for way in ways() {
        let limits = Limits {
            files: NonZeroU64::new(1 << 40),
            ..Limits::default()
        };
        let (reason, _) = end(&way, "exit 0", limits).await;
        assert_eq!(reason, ExitReason::Exited(0), "{way:?}");
    }
}

#[tokio::test]
async fn a_file_that_grows_too_large_is_told() {
    for way in ways() {
        let limits = Limits {
            file_size: Some(ByteSize(8192)),
            ..Limits::default()
        };
        let script = "exec dd if=/dev/zero of=large bs=1024 count=100";
        let (reason, _) = end(&way, script, limits).await;
        assert_eq!(reason, ExitReason::Limit(LimitKind::FileSize), "{way:?}");
    }
}

#[tokio::test]
async fn a_folder_that_grows_too_large_is_told() {
    for way in ways() {
        let limits = Limits {
            disk: Some(ByteSize(100_000)),
            ..Limits::default()
        };
        let script = "mkdir below; head -c 300000 /dev/zero > below/file; exec sleep 20";
        let (reason, _) = end(&way, script, limits).await;
        assert_eq!(reason, ExitReason::Limit(LimitKind::Disk), "{way:?}");
    }
}

#[tokio::test]
async fn a_flood_of_output_is_cut_off() {
    for way in ways() {
        let limits = Limits {
            output: Some(ByteSize(100_000)),
            ..Limits::default()
        };
        let (reason, out) = end(
            &way,
            "(yes | head -c 4000000) & (yes | head -c 4000000) >&2; sleep 5",
            limits,
        )
        .await;
        assert_eq!(reason, ExitReason::Limit(LimitKind::Output), "{way:?}");
        assert!(out.len() <= 100_000);
    }
}

#[tokio::test]
async fn time_is_limited() {
    for way in ways() {
        let limits = Limits {
            duration: Some(Duration::from_millis(300)),
            ..Limits::default()
        };
        let busy = "for i in $(seq 500); do echo x; sleep 0.02; done";
        let (reason, _) = end(&way, busy, limits).await;
        assert_eq!(reason, ExitReason::Limit(LimitKind::Duration), "{way:?}");

        let limits = Limits {
            idle: Some(Duration::from_millis(400)),
            ..Limits::default()
        };
        let (reason, out) = end(
            &way,
            "for i in 1 2 3 4; do sleep 0.2; echo $i; done; sleep 600",
            limits,
        )
        .await;
        assert_eq!(reason, ExitReason::Limit(LimitKind::Idle), "{way:?}");
        assert_eq!(out.lines().count(), 4, "it was not idle while it wrote");
    }
}

#[tokio::test]
async fn a_run_fails_with_the_limit_in_its_error_and_events() {
    let mut hog = Case::shell(MEMORY_HOG);
    hog.manifest.protocol = Protocol::Exec;
    hog.manifest.limits.memory = Some(ByteSize(64 << 20));
    let failure = hog.failure().await;
    assert_eq!(
        (failure.kind.as_str(), failure.retriable),
        ("out_of_memory", true)
    );
    assert!(
        failure.message.contains("`limits.memory` is 64MiB"),
        "{}",
        failure.message
    );
    let details: Value = failure.details.to().unwrap();
    assert_eq!(
        (&details["limit"], &details["value"]),
        (&json!("memory"), &json!("64MiB"))
    );
    assert_eq!(hog.events("process.oom").len(), 1);
    assert_eq!(hog.events("process.exited")[0]["reason"], json!("oom"));

    let mut slow = Case::python("time.sleep(600)");
    slow.manifest.limits.duration = Some(Duration::from_millis(700));
    let failure = slow.failure().await;
    assert_eq!(
        (failure.kind.as_str(), failure.retriable),
        ("limit_exceeded", true)
    );
    let reason = &slow.events("process.exited")[0]["reason"];
    assert_eq!(*reason, json!({ "limit": "duration" }));

    let mut loud = Case::shell("yes | head -c 4000000");
    loud.manifest.protocol = Protocol::Exec;
    loud.manifest.limits.output = Some(ByteSize(50_000));
    let failure = loud.failure().await;
    assert_eq!(
        (failure.kind.as_str(), failure.retriable),
        ("limit_exceeded", false)
    );
}
