//! Agents that are being edited, and Python's virtual environments.

use std::process::Command;

use serde_json::json;

use crate::support::{Project, eventually};

#[test]
fn a_run_begins_afresh_when_its_agent_is_edited() {
    let project = Project::new();
    project.shell_agent("words", r#"echo '"first"'"#);
    let running = project.start(&["run", "words", "hello", "--dev"]);
    eventually("the first run has ended", || {
        running.stdout().contains("first")
    });

    // A run under way is cancelled.
    project.shell_agent("words", "touch ../busy; sleep 60");
    eventually("the second run is at work", || {
        project.path("busy").exists()
    });
    let busy = project.newest();
    project.shell_agent("words", r#"echo '"third"'"#);
    eventually("the third run has ended", || {
        running.stdout().contains("third")
    });
    project.until_state(&busy, "cancelled");

    // What cannot be read is told, and the next edit is waited for.
    project.write("words/agent.yaml", "name: words\n");
    eventually("the broken manifest is told", || {
        running.stderr().contains("`command`")
    });
    project.shell_agent("words", r#"echo '"fourth"'"#);
    eventually("the fourth run has ended", || {
        running.stdout().contains("fourth")
    });

    running.signal("INT");
    running.ended().code_is(0);
}

#[test]
fn what_came_on_stdin_is_the_input_of_each_run() {
    let project = Project::new();
    let answer = |word: &str| format!(r#"tr -d ' \n' | grep -q '"n":7' && echo '"{word}"'"#);
    project.shell_agent("words", &answer("first"));
    let input = project.write("input.json", r#"{"n": 7}"#);
    let mut command = project.command(&["run", "words", "--input", "-", "--dev"]);
    let running = project.start_with(command.stdin(std::fs::File::open(input).unwrap()));
    eventually("the first run has ended", || {
        running.stdout().contains("first")
    });
    project.shell_agent("words", &answer("second"));
    eventually("the second run has ended", || {
        running.stdout().contains("second")
    });
    running.signal("INT");
    running.ended().code_is(0);
}

#[test]
fn a_worker_serves_what_was_edited_last() {
    let project = Project::new();
    project.shell_agent("words", r#"echo '"old"'"#);
    let worker = project.start(&["worker", "words", "--dev"]);
    let old = project.submit(&["words", "1"]);
    project.until_state(&old, "succeeded");
    assert_eq!(project.show(&old)["outcome"]["output"], json!("old"));

    project.shell_agent("words", r#"echo '"new"'"#);
    eventually("the worker has noticed", || {
        worker.stderr().contains("was edited")
    });
    let new = project.submit(&["words", "2"]);
    project.until_state(&new, "succeeded");
    assert_eq!(project.show(&new)["outcome"]["output"], json!("new"));
    worker.signal("INT");
    worker.ended().code_is(0);
}

#[test]
fn a_virtual_environments_python_runs_the_agent_and_its_build() {
    let project = Project::new();
    let made = Command::new("python3")
        .args(["-m", "venv", "--without-pip"])
        .arg(project.path("env"))
        .status()
        .unwrap();
    assert!(made.success());
    project.write(
        "where/agent.yaml",
        "name: where\nprotocol: exec\nbuild: [python3, -c, 'import sys; open(\"built\", \"w\").write(sys.prefix)']\n\
         command: [python3, -c, 'import sys, json; print(json.dumps(sys.prefix))']\n",
    );
    let ran = project.agent(&["run", "where", "--venv", "env"]);
    ran.code_is(0);
    let env = std::fs::canonicalize(project.path("env")).unwrap();
    let env = env.to_str().unwrap();
    assert!(ran.stdout.contains(env), "{ran:?}");
    assert_eq!(project.read("where/built"), env);

    let without = project.agent(&["run", "where"]);
    assert!(!without.stdout.contains(env), "{without:?}");
    let refused = project.agent(&["run", "where", "--venv", "nowhere"]);
    refused.refused(2, "usage").says("python3 -m venv nowhere");
}
