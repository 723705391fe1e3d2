//! What dies comes back, and what was done is not done again.

use crate::support::{Project, count, eventually, lines};

const STEPS: &str = "run.step('one', note, home, 'one')\nrun.step('gate', gate, home, 'go')\nrun.step('two', note, home, 'two')\nreturn 'done'";

fn at_the_gate(project: &Project) {
    eventually("it is at the gate", || {
        lines(&project.path("effects"))
            .last()
            .is_some_and(|line| line == "at go")
    });
}

#[test]
fn a_killed_run_is_continued_by_the_same_command_without_repeating_steps() {
    let project = Project::new();
    project.python_agent("steps", STEPS);
    let mut command = project.command(&["run", "steps", "x"]);
    // The dead worker's lease is not waited for: this one would not end within the test.
    let running = project.start_with(command.env("ADJUTANT_RUNNER__LEASE_TTL", "1h"));
    at_the_gate(&project);
    let run = project.newest();
    running.signal("KILL");
    assert_eq!(running.ended().code, None);

    project.write("go", "");
    let again = project.agent(&["run", "steps", "x"]);
    again
        .code_is(0)
        .says(&format!("continuing {run}"))
        .says("its worker is dead")
        .says("done before");
    assert_eq!(again.stdout, "done\n");
    assert_eq!((count(&project, "one"), count(&project, "two")), (1, 1));
    let view = project.show(&run);
    assert_eq!(view["state"], "succeeded");
    assert_eq!(view["epoch"], 2);
    assert_eq!(
        project
            .agent(&["runs", "list", "-o", "json"])
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );

    // The next equal command asks for the same work anew.
    project.agent(&["run", "steps", "x"]).code_is(0);
    assert_ne!(project.newest(), run);
}

#[test]
fn a_killed_run_is_not_mistaken_for_another_one() {
    let project = Project::new();
    project.python_agent("steps", STEPS);
    let running = project.start(&["run", "steps", "x"]);
    at_the_gate(&project);
    let run = project.newest();
    running.signal("KILL");
    running.ended();
    project.write("go", "");
    for other in [&["run", "steps", "y"][..], &["run", "steps", "x", "--new"]] {
        let ended = project.agent(other);
        ended.code_is(0);
        assert!(!ended.stderr.contains("continuing"), "{ended:?}");
        assert_ne!(project.newest(), run);
    }
}

#[test]
fn a_killed_run_is_resumed_by_its_id() {
    let project = Project::new();
    project.python_agent("steps", STEPS);
    let running = project.start(&["run", "steps", "x"]);
    at_the_gate(&project);
    let run = project.newest();
    running.signal("KILL");
    running.ended();
    project.write("go", "");
    let resumed = project.agent(&["runs", "resume", &run]);
    assert_eq!(resumed.code_is(0).stdout, "done\n");
    assert_eq!((count(&project, "one"), count(&project, "two")), (1, 1));
}

#[test]
fn a_killed_worker_loses_no_run() {
    let project = Project::new();
    project.python_agent("steps", STEPS);
    let run = project.submit(&["steps"]);
    let worker = project.start(&["worker", "steps"]);
    at_the_gate(&project);
    worker.signal("KILL");
    worker.ended();
    project.write("go", "");
    let _next = project.start(&["worker", "steps"]);
    project.agent(&["runs", "wait", &run]).code_is(0);
    assert_eq!((count(&project, "one"), count(&project, "two")), (1, 1));
}

#[test]
fn an_interrupted_run_is_given_back_at_once() {
    let project = Project::new();
    project.python_agent("steps", STEPS);
    let mut command = project.command(&["run", "steps", "x"]);
    // The step under way does not end in time, so it is given up.
    let running = project.start_with(command.env("ADJUTANT_RUNNER__DRAIN_GRACE", "100ms"));
    at_the_gate(&project);
    let run = project.newest();
    running.signal("INT");
    running
        .ended()
        .code_is(130)
        .says(&format!("agent runs resume {run}"));
    assert_eq!(project.state(&run), "pending");

    project.write("go", "");
    project
        .agent(&["run", "steps", "x"])
        .code_is(0)
        .says(&format!("continuing {run}"));
    assert_eq!(project.show(&run)["deaths"], 0);
    assert_eq!((count(&project, "one"), count(&project, "two")), (1, 1));
}

#[test]
fn an_equal_command_beside_a_living_one_starts_its_own_run() {
    let project = Project::new();
    project.python_agent("steps", STEPS);
    let first = project.start(&["run", "steps", "x"]);
    at_the_gate(&project);
    let run = project.newest();
    let second = project.start(&["run", "steps", "x"]);
    eventually("there are two runs", || project.newest() != run);
    project.write("go", "");
    first.ended().code_is(0);
    second.ended().code_is(0);
}

#[test]
fn a_worker_says_how_long_a_dead_one_keeps_its_runs() {
    let project = Project::new();
    project.python_agent("steps", STEPS);
    let run = project.submit(&["steps"]);
    let mut command = project.command(&["worker", "steps"]);
    let first = project.start_with(command.env("ADJUTANT_RUNNER__LEASE_TTL", "1h"));
    at_the_gate(&project);
    first.signal("KILL");
    assert_eq!(first.ended().code, None);
    let second = project.start(&["worker", "steps"]);
    second.until_stderr("1 run is held by a dead worker and comes back in 59m");
    assert_eq!(project.state(&run), "running");
}
