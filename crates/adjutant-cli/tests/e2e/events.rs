//! Following a run.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::Project;

fn seq(line: &str) -> u64 {
    serde_json::from_str::<Value>(line).unwrap()["seq"]
        .as_u64()
        .unwrap()
}

#[test]
fn a_follower_that_comes_back_with_its_cursor_sees_every_event_once() {
    let project = Project::new();
    project.python_agent(
        "steps",
        "for n in range(5): run.step(f's{n}', note, home, str(n))\ngate(home, 'go')\nfor n in range(5, 9): run.step(f's{n}', note, home, str(n))",
    );
    let run = project.submit(&["steps"]);
    let _worker = project.start(&["worker", "steps"]);

    let mut follower = project
        .command(&[
            "runs",
            "events",
            &run,
            "--follow",
            "--visibility",
            "internal",
            "-o",
            "json",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut seen: Vec<u64> = lines.take(6).map(|line| seq(&line.unwrap())).collect();
    follower.kill().unwrap();
    follower.wait().unwrap();

    project.write("go", "");
    let after = seen.last().unwrap().to_string();
    let rest = project.agent(&[
        "runs",
        "events",
        &run,
        "--follow",
        "--visibility",
        "internal",
        "-o",
        "json",
        "--after",
        &after,
    ]);
    rest.code_is(0);
    seen.extend(rest.stdout.lines().map(seq));
    let whole: Vec<u64> = (1..=*seen.last().unwrap()).collect();
    assert_eq!(seen, whole);
    assert!(rest.stdout.contains("run.succeeded"));
}

#[test]
fn events_are_chosen_by_type_and_by_who_may_see_them() {
    let project = Project::new();
    project.python_agent(
        "steps",
        "run.step('one', note, home, '1')\nrun.emit('invoice.read', {'n': 7})",
    );
    project.agent(&["run", "steps", "--quiet"]).code_is(0);
    let of = |arguments: &[&str]| {
        let mut all = vec!["runs", "events", "last", "-o", "json"];
        all.extend(arguments);
        let ended = project.agent(&all);
        let types = ended.stdout.lines().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["type"].as_str().unwrap().to_owned()
        });
        types.collect::<Vec<_>>()
    };
    assert_eq!(
        of(&["--types", "invoice.read,run.succeeded"]),
        ["invoice.read", "run.succeeded"]
    );
    let user = of(&["--visibility", "user"]);
    assert!(
        user.contains(&"step.completed".to_owned())
            && !user.contains(&"process.started".to_owned()),
        "{user:?}"
    );
    assert!(of(&[]).contains(&"process.started".to_owned()));
}

#[test]
fn live_news_can_be_json_lines_on_stderr() {
    let project = Project::new();
    project.python_agent("steps", "run.step('one', note, home, '1')\nreturn 'ok'");
    let ended = project.agent(&["run", "steps", "--events", "jsonl"]);
    ended.code_is(0);
    assert_eq!(ended.stdout, "ok\n");
    let events = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(seq)
        .collect::<Vec<_>>();
    assert_eq!(events, (1..=events.len() as u64).collect::<Vec<_>>());
}
