//! Agents' processes: what they may use, how their ends are told, and that none outlives the binary.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{Ended, Project, eventually, lines};

/// Forks twice, leaves its session and its environment, and writes down its number.
const ESCAPE: &str = r#"
(env -i PATH="$PATH" setsid sh -c 'echo $$ >> pids; exec sleep 600' &)
echo $$ >> pids
"#;

fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// A shell agent with limits.
fn limited(project: &Project, name: &str, limits: &str, script: &str) {
    project.shell_agent(name, script);
    let manifest = project.read(&format!("{name}/agent.yaml"));
    project.write(
        &format!("{name}/agent.yaml"),
        &format!("{manifest}limits: {limits}\n"),
    );
}

fn events(project: &Project, run: &str, event: &str) -> Vec<Value> {
    let arguments = [
        "runs",
        "events",
        run,
        "--visibility",
        "internal",
        "-o",
        "json",
    ];
    let told = project.agent(&arguments);
    let all = told
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    all.filter(|found: &Value| found["type"] == event).collect()
}

#[test]
fn a_killed_runtime_leaves_no_process_behind() {
    let project = Project::new();
    project.shell_agent("escape", &format!("{ESCAPE}exec sleep 600"));
    for _ in 0..3 {
        let pids = project.path("escape/pids");
        let _ = fs::remove_file(&pids);
        let running = project.start(&["run", "--new", "escape"]);
        eventually("it has escaped", || lines(&pids).len() == 2);
        running.signal("KILL");
        running.ended();
        eventually("all are dead", || {
            !lines(&pids).iter().any(|pid| is_alive(pid))
        });
    }
}

#[test]
fn an_ended_run_leaves_no_process_behind() {
    let project = Project::new();
    project.shell_agent(
        "escape",
        &format!("{ESCAPE}while [ $(wc -l < pids) != 2 ]; do sleep 0.01; done; echo done"),
    );
    project.agent(&["run", "escape"]).code_is(0);
    let pids = lines(&project.path("escape/pids"));
    assert_eq!(pids.len(), 2);
    assert!(!pids.iter().any(|pid| is_alive(pid)), "{pids:?}");
}

#[test]
fn how_a_process_ended_is_in_the_runs_error_and_in_its_events() {
    // Each agent is bounded by itself, should its limit not hold.
    let hog = "exec python3 -c 'import time; hog = [bytearray(4 << 20) for _ in range(48)]; time.sleep(5)'";
    let cases = [
        ("{memory: 64MiB}", hog, "out_of_memory", json!("oom")),
        (
            "{duration: 300ms}",
            "exec sleep 20",
            "limit_exceeded",
            json!({ "limit": "duration" }),
        ),
        (
            "{idle: 300ms}",
            "exec sleep 20",
            "limit_exceeded",
            json!({ "limit": "idle" }),
        ),
        (
            "{output: 10kB}",
            "yes | head -c 1000000",
            "limit_exceeded",
            json!({ "limit": "output" }),
        ),
        ("{}", "kill -9 $$", "signal", json!({ "signal": 9 })),
        ("{}", "exit 3", "exit_status", json!({ "exited": 3 })),
    ];
    let project = Project::new();
    for (number, (limits, script, kind, reason)) in cases.into_iter().enumerate() {
        let name = format!("agent-{number}");
        limited(&project, &name, limits, script);
        let ended: Ended = project.agent(&["run", &name]);
        assert_ne!(ended.code, Some(0), "{ended:?}");
        let run = project.newest();
        let error = &project.show(&run)["error"];
        assert_eq!(error["type"], kind, "{script}: {error}");
        assert_eq!(error["details"]["reason"], reason, "{script}: {error}");
        let exited = events(&project, &run, "process.exited");
        assert_eq!(exited.len(), 1, "{script}");
        assert_eq!(exited[0]["payload"]["reason"], reason, "{script}");
        let oom = events(&project, &run, "process.oom").len();
        assert_eq!(oom, usize::from(reason == "oom"), "{script}");
    }
}

#[test]
fn the_doctor_tells_how_processes_are_owned_and_limited() {
    let project = Project::new();
    let doctor = project.agent(&["doctor", "-o", "json"]).json();
    let found = |check: &str| {
        let all = doctor["checks"].as_array().unwrap();
        let found = all.iter().find(|finding| finding["check"] == check);
        found.unwrap()["details"].clone()
    };
    assert_eq!(found("processes")["helper"], true);
    assert!(found("processes")["ownership"].is_string());
    assert_eq!(found("limits")["duration"], "runtime");
    let table = project.agent(&["doctor"]).stdout;
    assert!(table.contains("owned by"), "{table}");
    assert!(table.contains("duration, idle"), "{table}");
}
