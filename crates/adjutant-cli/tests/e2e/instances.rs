//! `agent ps` and `agent stats`: live instances as others see them.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;

use crate::support::{Project, Running, eventually, lines};

/// A project with an agent that waits in its run, with a child process.
fn waiting() -> (Project, Running, String) {
    let project = Project::new();
    project.python_agent(
        "waits",
        "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\nheld = bytearray(32 << 20)\nheld[::4096] = b'x' * len(held[::4096])\ngate(home, 'go')\nchild.kill()\nreturn 'ok'",
    );
    let run = project.submit(&["waits"]);
    let worker = project.start(&["worker", "waits"]);
    eventually("it is at work", || {
        lines(&project.path("effects")) == ["at go"]
    });
    (project, worker, run)
}

fn list(project: &Project, command: &str) -> Vec<Value> {
    let ended = project.agent(&[command, "-o", "json"]);
    ended.code_is(0).json().as_array().unwrap().clone()
}

/// Resident bytes of a process as the kernel tells them.
fn rss(pid: u64) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[test]
fn live_instances_are_listed_with_what_they_do_and_use() {
    let (project, worker, run) = waiting();
    let instances = list(&project, "ps");
    assert_eq!(instances.len(), 1, "{instances:?}");
    let instance = &instances[0];
    assert_eq!(instance["instance"], "waits-01");
    assert_eq!(instance["agent"], "waits");
    assert_eq!(instance["runs"], serde_json::json!([run]));
    assert_eq!(instance["state"], "busy");
    assert_eq!(instance["isolation"], "open");
    let pid = instance["pid"].as_u64().unwrap();
    let usage = &instance["usage"];
    let told = usage["rss_bytes"].as_u64().unwrap();
    let own = rss(pid);
    assert!(told > own && told < own + (16 << 20), "{told} {own}");
    assert_eq!(
        (
            usage["children"].as_u64(),
            usage["concurrent_requests"].as_u64()
        ),
        (Some(1), Some(1))
    );

    let table = project.agent(&["ps"]);
    let shown: Vec<&str> = table.code_is(0).stdout.lines().collect();
    assert!(shown[0].starts_with("INSTANCE  AGENT  RUN"), "{shown:?}");
    assert!(
        shown[1].starts_with(&format!("waits-01  waits  {run}")),
        "{shown:?}"
    );

    let socket = project.path(&format!(".adjutant/run/{}.sock", worker.child.id()));
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    project.write("go", "");
    project.until_state(&run, "succeeded");
    eventually("it is gone", || list(&project, "ps").is_empty());
    worker.signal("TERM");
    worker.ended().code_is(0);
    assert!(!socket.exists());
}

#[test]
fn figures_are_shown_with_their_history() {
    let (project, _worker, _run) = waiting();
    let stats = list(&project, "stats");
    assert!(!stats[0]["history"].as_array().unwrap().is_empty());
    let table = project.agent(&["stats"]);
    assert!(table.code_is(0).stdout.contains("TOKENS/MIN"), "{table:#?}");
    let one = project.agent(&["stats", "waits-01"]);
    for text in ["memory", "of a core", "1 besides the first", "1 under way"] {
        assert!(one.code_is(0).stdout.contains(text), "{text}: {one:#?}");
    }
    let watch = project.start(&["stats", "--watch", "--interval", "300ms", "-o", "json"]);
    eventually("it looks again and again", || {
        watch.stdout().lines().count() >= 3
    });
    watch.signal("INT");
    watch.ended().code_is(0);
    project
        .agent(&["stats", "waits-02"])
        .refused(2, "instance_not_found");
}

#[test]
fn where_nothing_runs_nothing_is_listed_and_the_dead_leave_no_trace() {
    let project = Project::new();
    let empty = project.agent(&["ps"]);
    empty.code_is(0).says("no agent of this project is running");
    assert_eq!(empty.stdout, "");
    assert_eq!(
        project.agent(&["ps", "-o", "json"]).code_is(0).stdout,
        "[]\n"
    );
    project.agent(&["stats"]).code_is(0).says("no agent");

    let (project, worker, _run) = waiting();
    worker.signal("KILL");
    let socket = project.path(&format!(".adjutant/run/{}.sock", worker.child.id()));
    drop(worker);
    assert!(socket.exists(), "a killed worker cannot tidy up");
    assert!(list(&project, "ps").is_empty());
    assert!(!socket.exists());
}
