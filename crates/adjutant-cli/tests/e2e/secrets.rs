//! Secrets by reference and warm processes, from the manifest to the agent.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::Project;

const FROM_ENV: &str = "canary-a1b2";
const FROM_FILE: &str = "canary-c3d4";

/// Tells its secrets to everybody.
const LEAKY: &str = "\
import os, sys
print(os.environ['KEY'], os.environ['TOKEN'], file=sys.stderr, flush=True)
run.emit('leak', {'key': os.environ['KEY']})
run.step('step', lambda: os.environ['TOKEN'])
open('seen', 'a').write(os.environ['KEY'] + os.environ['TOKEN'] + '\\n')
return {'pid': os.getpid(), 'key': os.environ['KEY']}";

fn project() -> Project {
    let project = Project::new();
    project.python_agent("leaky", LEAKY);
    project.write("leaky/token", &format!("{FROM_FILE}\n"));
    let manifest = project.read("leaky/agent.yaml");
    let more =
        "env:\n  KEY: {from_env: THE_KEY}\n  TOKEN: {from_file: token}\npool: {min: 1, max: 1}\n";
    let manifest = format!("{manifest}{more}");
    project.write("leaky/agent.yaml", &manifest);
    project
}

/// Files below a folder that hold the text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if let Ok(bytes) = fs::read(&path) {
            let holds = bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes());
            found.extend(holds.then(|| path.display().to_string()));
        }
    }
    found
}

#[test]
fn secrets_reach_a_warm_agent_and_are_written_nowhere() {
    let project = project();
    let runs = [(); 2].map(|()| project.submit(&["leaky", "--new"]));
    let worker = ["worker", "--drain", "leaky"];
    let mut command = project.command(&worker);
    command.env("THE_KEY", FROM_ENV);
    let ended = project.start_with(&mut command).ended();
    ended.code_is(0);
    let shown: Vec<Value> = runs.iter().map(|run| project.show(run)).collect();
    let pids: Vec<&Value> = shown
        .iter()
        .map(|run| &run["outcome"]["output"]["pid"])
        .collect();
    assert!(pids[0].is_u64() && pids[0] == pids[1], "{shown:?}");
    let seen = project.read("leaky/seen");
    assert_eq!(seen, format!("{FROM_ENV}{FROM_FILE}\n").repeat(2));
    fs::remove_file(project.path("leaky/seen")).unwrap();

    let events = project.agent(&["runs", "events", &runs[0]]);
    let told = format!("{ended:?} {shown:?} {events:?}");
    assert!(told.contains("***") && !told.contains("canary"), "{told}");
    let token = project.path("leaky/token").display().to_string();
    assert_eq!(
        holding(project.path("leaky").parent().unwrap(), "canary"),
        [token]
    );
}

#[test]
fn a_secret_that_is_missing_is_named() {
    let project = project();
    let ended = project.agent(&["run", "leaky"]);
    assert!(ended.stderr.contains("THE_KEY"), "{ended:?}");
    assert_ne!(ended.code, Some(0));
}
