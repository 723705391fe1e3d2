//! What instances use and say, as others see it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise and says where"
)]

mod support;

use std::{fs, sync::Arc, time::Duration};

use adjutant_logs::{Config, LogBook, Query, Reader};
use adjutant_process::{
    Environment, Isolation, Limits, Ownership, ProcessManager, ProcessSpec, Spawned,
    usage::{About, InstanceState, InstanceView, Instances, Observed},
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

const PATIENCE: Duration = Duration::from_secs(30);

/// Holds 64 MiB and 40 files, has a child with as much, burns processor time, says that it is ready, waits.
const HUNGRY: &str = r#"
import os, sys, time
held = bytearray(os.urandom(1 << 20)) * 64
files = [open("/proc/self/stat") for _ in range(40)]
child = os.fork()
if child == 0:
    held[::4096] = b"x" * len(held[::4096])
    os.write(1, b"%d\n" % os.getpid())
    time.sleep(60)
    os._exit(0)
end = time.process_time() + 0.5
while time.process_time() < end: pass
os.write(1, b"%d\n" % os.getpid())
sys.stdin.read()
"#;

fn spec(script: &str) -> ProcessSpec {
    let mut env = Environment::inherited([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    env.set("ADJUTANT_INSTANCE", "hungry-01");
    ProcessSpec {
        program: "/usr/bin/env".into(),
        args: vec!["python3".to_owned(), "-c".to_owned(), script.to_owned()],
        dir: "/".into(),
        env,
        limits: Limits::default(),
        isolation: Isolation::default(),
    }
}

fn observed(instances: &Instances) -> Observed {
    observed_by(instances, None, true)
}

fn observed_by(instances: &Instances, ownership: Option<Ownership>, helper: bool) -> Observed {
    let processes = support::native(ownership, helper).unwrap();
    let about = About {
        agent: "hungry".to_owned(),
        isolation: "open".to_owned(),
    };
    Observed::new(Arc::new(processes), about, instances.clone())
}

async fn lines(spawned: &mut Spawned, count: usize) -> Vec<String> {
    let mut lines = BufReader::new(&mut spawned.stdout).lines();
    let mut read = Vec::new();
    while read.len() < count {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        read.push(line.unwrap().unwrap().unwrap());
    }
    read
}

fn only(instances: &Instances) -> InstanceView {
    let mut views = instances.list(true);
    assert_eq!(views.len(), 1, "{views:?}");
    views.remove(0)
}

/// Resident bytes as the kernel adds them up page by page.
fn rss(pid: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[tokio::test]
async fn the_figures_match_those_of_the_kernel() {
    let ways = [
        (None, true),
        (Some(Ownership::Processes), true),
        (Some(Ownership::Processes), false),
    ];
    for (ownership, helper) in ways {
        check_figures(ownership, helper).await;
    }
}

async fn check_figures(ownership: Option<Ownership>, helper: bool) {
    println!("owned by {ownership:?}, with helper: {helper}");
    let instances = Instances::new(None).unwrap();
    let observed = observed_by(&instances, ownership, helper);
    let mut spawned = observed.spawn(spec(HUNGRY)).await.unwrap();
    let pids = lines(&mut spawned, 2).await;
    let view = only(&instances);
    assert_eq!(
        (view.instance.as_str(), view.agent.as_str()),
        ("hungry-01", "hungry")
    );
    assert_eq!(view.state, InstanceState::Starting);
    assert!(pids.contains(&view.pid.to_string()), "{pids:?} {view:?}");
    let usage = view.usage;
    let expected: u64 = pids.iter().map(|pid| rss(pid)).sum();
    let error = usage.now.rss_bytes.abs_diff(expected) as f64 / expected as f64;
    assert!(
        error < 0.05,
        "{} instead of {expected}",
        usage.now.rss_bytes
    );
    assert!(expected > 128 * 1024 * 1024, "{expected}");
    assert!(usage.peak_rss_bytes >= usage.now.rss_bytes);
    assert!((0.5..5.0).contains(&usage.cpu_seconds), "{usage:?}");
    assert!(usage.now.cpu_percent > 1.0, "{usage:?}");
    assert!((83..120).contains(&usage.now.open_files), "{usage:?}");
    assert_eq!((usage.now.children, usage.now.threads), (1, 2), "{usage:?}");
    assert_eq!(usage.now.gpu_memory_bytes, None);

    // Nothing is done any more, and the next sample says so.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let view = only(&instances);
    assert!(view.usage.now.cpu_percent < 50.0, "{view:?}");
    assert_eq!(view.history.len(), 2);

    spawned.process.kill();
    assert_eq!(only(&instances).state, InstanceState::Stopping);
    spawned.process.wait().await.unwrap();
    assert_eq!(instances.list(false), []);
}

#[tokio::test]
async fn who_is_dropped_is_gone_and_its_name_is_free() {
    let instances = Instances::new(None).unwrap();
    let spawned = observed(&instances).spawn(spec("input()")).await.unwrap();
    assert_eq!(only(&instances).instance, "hungry-01");
    drop(spawned);
    assert_eq!(instances.list(false), []);
}

#[tokio::test]
async fn runs_and_tokens_are_counted() {
    let instances = Instances::new(None).unwrap();
    let spawned = observed(&instances).spawn(spec("input()")).await.unwrap();
    let observer = spawned.process.observer();
    let first = observer.working_on(&"run_1");
    let second = observer.working_on(&"run_2");
    let view = only(&instances);
    assert_eq!((view.runs.len(), view.state), (2, InstanceState::Busy));
    assert_eq!(view.usage.now.concurrent_requests, 2);
    first.spent(&adjutant_core::Usage {
        input_tokens: 100,
        output_tokens: 20,
        ..adjutant_core::Usage::default()
    });
    drop(first);
    assert_eq!(only(&instances).runs, ["run_2"]);
    drop(second);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let view = only(&instances);
    assert_eq!(view.state, InstanceState::Idle);
    assert_eq!((view.usage.requests, view.usage.tokens), (2, 120));
    let now = view.usage.now;
    assert_eq!(
        (
            now.concurrent_requests,
            now.requests_per_minute,
            now.tokens_per_minute
        ),
        (0, 2, 120)
    );
}

#[tokio::test]
async fn lines_belong_to_the_only_run_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let book = LogBook::start(Config::in_folder(dir.path())).unwrap();
    let instances = Instances::new(Some(book.clone())).unwrap();
    let spawned = observed(&instances).spawn(spec("input()")).await.unwrap();
    let observer = spawned.process.observer();
    let say = |text: &str| observer.line(adjutant_logs::Stream::Stderr, text.as_bytes());
    say("before");
    let first = observer.working_on(&"run_1");
    say("one");
    let second = observer.working_on(&"run_2");
    say("both");
    drop(first);
    say("two");
    drop(second);
    assert!(book.close(PATIENCE));
    let mut reader = Reader::new(dir.path(), Query::default()).unwrap();
    let records = std::iter::from_fn(|| reader.next_record().unwrap());
    let seen: Vec<_> = records
        .map(|record| (record.message, record.run_id.map(|run| run.to_string())))
        .collect();
    let run = |run: &str| Some(run.to_owned());
    assert_eq!(
        seen,
        [
            ("before".to_owned(), None),
            ("one".to_owned(), run("run_1")),
            ("both".to_owned(), None),
            ("two".to_owned(), run("run_2")),
        ]
    );
}

#[tokio::test]
async fn the_streams_are_those_of_the_process() {
    let instances = Instances::new(None).unwrap();
    let script = "import os; os.write(2, b'to stderr'); os.write(1, b'to stdout')";
    let mut spawned = observed(&instances).spawn(spec(script)).await.unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    spawned.stdout.read_to_string(&mut out).await.unwrap();
    spawned.stderr.read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("to stdout", "to stderr"));
}
