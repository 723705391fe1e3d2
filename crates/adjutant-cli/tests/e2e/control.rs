//! Acting on runs from another terminal.

use crate::support::{Project, eventually, lines};

#[test]
fn a_cancelled_run_ends_its_command_with_three() {
    let project = Project::new();
    project.python_agent("waits", "gate(home, 'never')");
    let running = project.start(&["run", "waits"]);
    eventually("it is at work", || {
        lines(&project.path("effects")) == ["at never"]
    });
    let run = project.newest();
    project
        .agent(&["runs", "cancel", &run, "--reason", "changed my mind"])
        .code_is(0);
    running.ended().code_is(3).says("changed my mind");
    let view = project.show(&run);
    assert_eq!(
        (view["state"].as_str(), view["reason"].as_str()),
        (Some("cancelled"), Some("changed my mind"))
    );
    project.agent(&["runs", "cancel", &run]).code_is(0);
}

#[test]
fn a_paused_run_stops_between_steps_and_goes_on_where_it_was() {
    let project = Project::new();
    project.python_agent(
        "steps",
        "def slow(n):\n    time.sleep(0.02)\n    return note(home, str(n))\nfor n in range(200): run.step('s', slow, n)\nreturn 'done'",
    );
    let running = project.start(&["run", "steps"]);
    eventually("it is at work", || {
        lines(&project.path("effects")).len() > 2
    });
    let run = project.newest();
    project.agent(&["runs", "pause", &run]).code_is(0);
    running.ended().code_is(5).says("paused");
    assert_eq!(project.state(&run), "paused");
    assert!(lines(&project.path("effects")).len() < 200);

    let resumed = project.agent(&["runs", "resume", &run]);
    assert_eq!(resumed.code_is(0).stdout, "done\n");
    let all: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    assert_eq!(lines(&project.path("effects")), all);
}

#[test]
fn a_signal_wakes_the_run_that_waits_for_it() {
    let project = Project::new();
    project.python_agent("waits", "return run.wait_for_signal('parcel')['from']");
    let running = project.start(&["run", "waits"]);
    let run = project.until_newest();
    project.until_state(&run, "waiting");
    running.until_stderr(&format!("agent runs signal {run} parcel"));
    project
        .agent(&["runs", "signal", &run, "parcel", r#"{"from": "Ada"}"#])
        .code_is(0);
    assert_eq!(running.ended().code_is(0).stdout, "Ada\n");
}

#[test]
fn a_retry_is_a_new_run_and_a_fork_takes_over_steps() {
    let project = Project::new();
    project.python_agent(
        "steps",
        "run.step('one', note, home, 'one')\nrun.step('two', note, home, 'two')\nif not (home / 'ok').exists(): raise ValueError('not yet')\nreturn 'done'",
    );
    project.agent(&["run", "steps", "x"]).code_is(1);
    let failed = project.newest();
    project.write("ok", "");

    let retry = project.agent(&["runs", "retry", &failed, "-q"]);
    let retry = retry.code_is(0).stdout.trim().to_owned();
    assert_eq!(project.show(&retry)["origin"]["retry_of"], failed.as_str());
    project.agent(&["runs", "resume", &retry]).code_is(0);
    assert_eq!(
        lines(&project.path("effects")),
        ["one", "two", "one", "two"]
    );

    let fork = project.agent(&["runs", "fork", &failed, "--steps", "1", "-q"]);
    let fork = fork.code_is(0).stdout.trim().to_owned();
    project.agent(&["runs", "resume", &fork]).code_is(0);
    assert_eq!(
        lines(&project.path("effects")),
        ["one", "two", "one", "two", "two"]
    );
    assert_eq!(project.show(&failed)["state"], "failed");
}

#[test]
fn steps_and_checkpoints_can_be_looked_at() {
    let project = Project::new();
    project.python_agent(
        "saves",
        "run.step('one', note, home, 'one')\nrun.checkpoint({'n': 1})\nrun.checkpoint({'n': 2})",
    );
    project.agent(&["run", "saves", "-q"]).code_is(0);
    let steps = project
        .agent(&["runs", "steps", "last", "-o", "json"])
        .json();
    assert_eq!(
        (
            steps[0]["key"].as_str(),
            steps[0]["outcome"]["result"].as_str()
        ),
        (Some("one"), Some("one"))
    );
    let saved = project
        .agent(&["runs", "checkpoints", "last", "-o", "json"])
        .json();
    assert_eq!(
        (saved[0]["seq"].as_u64(), saved[0]["state"]["n"].as_u64()),
        (Some(2), Some(2))
    );
    assert!(
        project
            .agent(&["runs", "steps", "last"])
            .stdout
            .contains("completed")
    );
}

#[test]
fn pruning_forgets_finished_runs_only() {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo ok");
    project.agent(&["run", "echo", "-q"]).code_is(0);
    let pending = project.submit(&["echo"]);
    project
        .agent(&["runs", "prune", "--older-than", "1h"])
        .code_is(0)
        .says("forgot 0 runs");
    project
        .agent(&["runs", "prune", "--older-than", "0s"])
        .code_is(0)
        .says("forgot 1 runs");
    let left = project.agent(&["runs", "list", "-o", "json"]).json();
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(left[0]["run_id"], pending.as_str());
}
