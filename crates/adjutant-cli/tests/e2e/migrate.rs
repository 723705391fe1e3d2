//! Moving to another store.

use crate::support::{Project, count};

const ASKS: &str = "run.step('first', note, home, 'first')\nanswer = run.request_approval('deploy', 'Deploy?', {})\nreturn answer.approved";

#[test]
fn a_run_that_waits_for_an_answer_is_answered_at_its_new_place() {
    let project = Project::new();
    project.python_agent("asks", ASKS);
    project
        .agent(&["run", "asks", "--no-wait-input"])
        .code_is(5);
    let run = project.newest();
    let moved = project.agent(&["migrate", "--to", "sqlite:new.db", "-o", "json"]);
    assert_eq!(moved.code_is(0).json()["moved"], 1);
    assert_eq!(project.state(&run), "cancelled");
    let shown = project.agent(&["runs", "show", &run]);
    assert!(shown.stdout.contains("moved to"), "{shown:#?}");
    let again = project.agent(&["migrate", "--to", "sqlite:new.db", "-o", "json"]);
    assert_eq!(again.code_is(0).json()["moved"], 0);

    let there = ["--store", "sqlite:new.db"];
    let at = |arguments: &[&str]| project.agent(&[&there[..], arguments].concat());
    // It is woken once to find its question unanswered, and asks again.
    at(&["worker", ".", "--drain"]).code_is(0);
    at(&["runs", "approve", &run]).code_is(0);
    at(&["worker", ".", "--drain"]).code_is(0);
    let shown = at(&["runs", "show", &run, "-o", "json"]).json();
    assert_eq!(shown["state"], "succeeded");
    assert_eq!(count(&project, "first"), 1, "the step was recorded before");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_moves() {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo ok");
    project.agent(&["run", "echo", "-q"]).code_is(0);
    project
        .agent(&["migrate", "--to", "sqlite:.adjutant/adjutant.db"])
        .refused(2, "usage")
        .says("same store");
    project
        .agent(&[
            "migrate",
            "--from",
            "sqlite:none.db",
            "--to",
            "sqlite:new.db",
        ])
        .refused(2, "store_not_found")
        .says("none.db");
    assert!(!project.path("none.db").exists());
    project
        .agent(&["migrate", "--to", "nothing:x"])
        .code_is(2)
        .says("nothing:x");
}

#[test]
fn a_store_of_parts_keeps_each_in_its_place() {
    let project = Project::new();
    project.python_agent("asks", ASKS);
    project.write(
        "adjutant.yaml",
        "store:\n  url: sqlite:queue.db\n  state_url: sqlite:state.db\n  events_url: sqlite:events.db\n",
    );
    project
        .agent(&["run", "asks", "--no-wait-input"])
        .code_is(5);
    let run = project.newest();
    project.agent(&["runs", "approve", &run]).code_is(0);
    project.agent(&["run", "asks"]).code_is(0);
    assert_eq!(count(&project, "first"), 1);
    let steps = |store: &str| {
        let shown = project.agent(&["--store", store, "runs", "show", &run, "-o", "json"]);
        shown.json()["steps"].as_u64().unwrap()
    };
    project.write("adjutant.yaml", "");
    assert_eq!(steps("sqlite:queue.db"), 0);
    assert!(steps("sqlite:state.db") > 0);
    let told = project.agent(&["--store", "sqlite:events.db", "runs", "events", &run]);
    told.code_is(0);
    assert!(told.stdout.contains("run.succeeded"), "{told:#?}");
}
