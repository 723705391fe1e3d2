//! Runs that end: here, or by a worker.

use crate::support::{Project, eventually, lines};

#[test]
fn a_run_prints_its_steps_its_result_and_nothing_else_on_stdout() {
    let project = Project::new();
    project.python_agent(
        "steps",
        "run.step('first', note, home, 'one')\nreturn 'done: ' + run.prompt",
    );
    let ended = project.agent(&["run", "steps", "hello"]);
    ended.code_is(0).says("✓ first").says("succeeded in");
    assert_eq!(ended.stdout, "done: hello\n");
    assert_eq!(lines(&project.path("effects")), ["one"]);
}

#[test]
fn structured_text_is_data_and_a_structured_result_is_json() {
    let project = Project::new();
    project.python_agent(
        "sum",
        "return {'sum': sum(run.data['numbers']), 'unit': run.params['unit']}",
    );
    let ended = project.agent(&[
        "run",
        "sum",
        r#"{"numbers": [1, 2, 3]}"#,
        "--params",
        r#"{"unit": "m"}"#,
    ]);
    ended.code_is(0);
    assert_eq!(ended.json(), serde_json::json!({ "sum": 6, "unit": "m" }));

    project.write(
        "input.json",
        r#"{"data": {"numbers": [4]}, "params": {"unit": "s"}}"#,
    );
    let ended = project.agent(&["run", "sum", "--input", "input.json", "-o", "json"]);
    ended.code_is(0);
    let run = ended.json();
    assert_eq!(run["state"], "succeeded");
    assert_eq!(run["outcome"]["output"]["sum"], 4);
}

#[test]
fn an_agent_that_fails_ends_the_command_with_one_and_says_why() {
    let project = Project::new();
    project.shell_agent("broken", "echo 'no such invoice' >&2\nexit 3");
    let ended = project.agent(&["run", "broken", "x"]);
    ended
        .code_is(1)
        .says("exit_status")
        .says("no such invoice")
        .says("agent runs retry");
    assert_eq!(ended.stdout, "");
    assert_eq!(project.state("last"), "failed");
}

#[test]
fn a_failed_attempt_is_repeated_as_the_flags_say() {
    let project = Project::new();
    project.python_agent(
        "flaky",
        "note(home, 'try')\nif len((home / 'effects').read_text().split()) < 2: raise ValueError('not yet')\nreturn 'ok'",
    );
    let mut command = project.command(&["run", "flaky", "--max-attempts", "2"]);
    let ended: crate::support::Ended = command
        .env("ADJUTANT_RUNNER__RETRY_BACKOFF_BASE", "0")
        .output()
        .unwrap()
        .into();
    // The manifest names a policy of its own, so the base stays what it says there.
    ended
        .code_is(0)
        .says("attempt 1 failed")
        .says("ValueError: not yet");
    assert_eq!(lines(&project.path("effects")), ["try", "try"]);
}

#[test]
fn a_run_that_takes_too_long_ends_the_command_with_four() {
    let project = Project::new();
    project.shell_agent("slow", "exec sleep 60");
    let ended = project.agent(&["run", "slow", "--timeout", "300ms"]);
    ended.code_is(4).says("timed out");
    assert_eq!(project.state("last"), "timed_out");
}

#[test]
fn a_detached_run_is_done_by_a_worker_and_waited_for() {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo hello from a worker");
    let run = project.submit(&["echo", "x"]);
    assert_eq!(project.state(&run), "pending");
    project
        .agent(&["runs", "wait", &run, "--timeout", "50ms"])
        .code_is(5);

    let worker = project.start(&["worker", "."]);
    let waited = project.agent(&["runs", "wait", &run]);
    waited.code_is(0);
    assert_eq!(waited.stdout, "hello from a worker\n");
    worker.signal("TERM");
    worker
        .ended()
        .code_is(0)
        .says("serves echo")
        .says("stopped");
}

#[test]
fn a_draining_worker_leaves_when_nothing_is_left() {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo ok");
    let runs: Vec<String> = (0..3)
        .map(|number| project.submit(&["echo", &number.to_string()]))
        .collect();
    project
        .agent(&["worker", "echo", "--drain"])
        .code_is(0)
        .says("nothing is left to do");
    for run in runs {
        assert_eq!(project.state(&run), "succeeded");
    }
}

#[test]
fn the_same_idempotency_key_is_the_same_run() {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo ok");
    let first = project.submit(&["echo", "x", "--idempotency-key", "k"]);
    assert_eq!(
        project.submit(&["echo", "x", "--idempotency-key", "k"]),
        first
    );
    project
        .agent(&["run", "-d", "echo", "other", "--idempotency-key", "k"])
        .refused(2, "conflict");
}

#[test]
fn a_finished_run_gives_its_result_to_the_same_idempotency_key() {
    let project = Project::new();
    project.python_agent("once", "run.step('one', note, home, 'one')\nreturn 'done'");
    for _ in 0..2 {
        let ended = project.agent(&["run", "once", "x", "--idempotency-key", "k"]);
        assert_eq!(ended.code_is(0).stdout, "done\n");
    }
    assert_eq!(lines(&project.path("effects")), ["one"]);
}

#[test]
fn a_run_is_not_queued_where_it_would_be_forgotten() {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo ok");
    project
        .agent(&["--store", "memory:", "run", "-d", "echo"])
        .refused(2, "usage")
        .says("--detach");
    project
        .agent(&["--store", "memory:", "run", "echo"])
        .code_is(0);
}

#[test]
fn a_build_runs_before_the_first_start_and_its_failure_is_told() {
    let project = Project::new();
    project.shell_agent("built", "cat > /dev/null; cat word");
    let manifest = project.read("built/agent.yaml");
    project.write(
        "built/agent.yaml",
        &format!("{manifest}build: [sh, -c, 'echo built > word']\n"),
    );
    let ended = project.agent(&["run", "built"]);
    ended.code_is(0).says("building built");
    assert_eq!(ended.stdout, "built\n");

    project.write(
        "built/agent.yaml",
        &format!("{manifest}build: [sh, -c, 'echo no compiler; exit 7']\n"),
    );
    project
        .agent(&["run", "built"])
        .refused(1, "build_failed")
        .says("no compiler")
        .says("hint: ");
}

#[test]
fn every_template_works_at_once() {
    let project = Project::new();
    for lang in ["python", "shell"] {
        project.agent(&["init", lang, "--lang", lang]).code_is(0);
        let ended = project.agent(&["run", lang, "to be or not to be"]);
        ended.code_is(0);
        assert!(ended.stdout.starts_with("6 words"), "{ended:?}");
        project
            .agent(&["init", lang, "--lang", lang])
            .refused(2, "usage")
            .says("is there already");
    }
}

#[test]
fn a_delegated_run_is_done_by_an_agent_that_is_served_beside() {
    let project = Project::new();
    project.python_agent(
        "boss",
        "results = run.delegate('ask', [Child('helper', 'hi')])\nreturn results[0].output",
    );
    project.python_agent("helper", "return 'helped ' + run.prompt");
    let ended = project.agent(&["run", "boss", "--with", "helper", "-o", "json"]);
    ended.code_is(0);
    assert!(ended.stdout.contains("helped hi"), "{ended:?}");
}

#[test]
fn runs_with_one_concurrency_key_do_not_overlap() {
    let project = Project::new();
    project.python_agent(
        "slow",
        "note(home, 'begin')\ntime.sleep(0.1)\nnote(home, 'end')",
    );
    for _ in 0..3 {
        project.submit(&["slow", "--concurrency-key", "gpu=1"]);
    }
    project.agent(&["worker", "slow", "--drain"]).code_is(0);
    eventually("all have ended", || {
        lines(&project.path("effects")).len() == 6
    });
    assert_eq!(lines(&project.path("effects")), ["begin", "end"].repeat(3));
}
