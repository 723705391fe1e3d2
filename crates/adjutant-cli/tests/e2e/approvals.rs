//! Questions to people.

use crate::support::Project;

const ASKS: &str = "answer = run.request_approval('deploy', 'Deploy to production?', {'version': 7})\nreturn {'approved': answer.approved, 'by': answer.by, 'comment': answer.comment, 'data': answer.data}";

fn asked(answer: &[&str]) -> serde_json::Value {
    let project = Project::new();
    project.python_agent("asks", ASKS);
    let running = project.start(&["run", "asks"]);
    let run = project.until_newest();
    project.until_state(&run, "input_required");
    running.until_stderr("Deploy to production?");
    // The exact command that answers is told.
    running.until_stderr(&format!("agent runs approve {run} deploy"));
    let mut command = vec!["runs", answer[0], run.as_str()];
    command.extend(&answer[1..]);
    project.agent(&command).code_is(0);
    running.ended().code_is(0).json()
}

#[test]
fn a_yes_lets_the_run_go_on_with_who_why_and_data() {
    let result = asked(&[
        "approve",
        "deploy",
        "--comment",
        "looks good",
        "--data",
        r#"{"version": 8}"#,
    ]);
    assert_eq!(result["approved"], true);
    assert_eq!(result["by"], "tester");
    assert_eq!(result["comment"], "looks good");
    assert_eq!(result["data"]["version"], 8);
}

#[test]
fn a_no_needs_no_key_when_there_is_one_question() {
    let result = asked(&["deny"]);
    assert_eq!(
        (&result["approved"], &result["by"]),
        (&false.into(), &"tester".into())
    );
}

#[test]
fn who_does_not_wait_for_people_leaves_with_five_and_can_come_back() {
    let project = Project::new();
    project.python_agent("asks", ASKS);
    let left = project.agent(&["run", "asks", "--no-wait-input"]);
    left.code_is(5).says("waits for an answer");
    let run = project.newest();
    project
        .agent(&["runs", "approve", &run, "other"])
        .refused(2, "no_approval_pending")
        .says("deploy");
    project.agent(&["runs", "approve", &run]).code_is(0);
    // The same command goes on with the run, now that it is answered.
    let ended = project.agent(&["run", "asks", "--no-wait-input"]);
    ended.code_is(0).says(&format!("continuing {run}"));
    let asked_again = ended.stderr.contains("Deploy to production?");
    assert!(!asked_again, "it has its answer already: {ended:#?}");
    assert_eq!(ended.json()["approved"], true);
    project
        .agent(&["runs", "deny", &run])
        .refused(2, "no_approval_pending");
}

#[test]
fn who_comes_back_to_two_questions_is_asked_the_one_without_an_answer() {
    let project = Project::new();
    project.python_agent(
        "asks",
        "import threading\ndef ask(key): said.append(run.request_approval(key, f'{key}, please?').approved)\nsaid = []\nboth = [threading.Thread(target=ask, args=(key,)) for key in ('one', 'two')]\nfor each in both: each.start()\nfor each in both: each.join()\nreturn said",
    );
    project
        .agent(&["run", "asks", "--no-wait-input"])
        .code_is(5);
    let run = project.newest();
    project.agent(&["runs", "approve", &run, "one"]).code_is(0);
    let again = project.start(&["run", "asks"]);
    again.until_stderr("two, please?");
    again.until_stderr(&format!("agent runs approve {run} two"));
    project.agent(&["runs", "approve", &run, "two"]).code_is(0);
    let ended = again.ended();
    assert!(
        !ended.code_is(0).stderr.contains("one, please?"),
        "{ended:#?}"
    );
}

#[test]
fn what_is_told_to_answer_can_be_pasted_whatever_the_store_and_the_key_are_called() {
    let project = Project::new();
    project.python_agent(
        "asks",
        "return run.request_approval('go now', 'Deploy?').approved",
    );
    let store = "sqlite:my runs.db";
    let asked = project.agent(&["--store", store, "run", "asks", "--no-wait-input"]);
    let told = asked.code_is(5).stderr.clone();
    let yes = told
        .lines()
        .find_map(|line| line.trim().strip_prefix("yes: "));
    project.paste(yes.unwrap()).code_is(0).says("is approved");
    // The hint at the end has another way to go on.
    let resume = told.rsplit("then: ").next().unwrap();
    assert_eq!(project.paste(resume).code_is(0).stdout, "true\n");

    let refused = project.agent(&["--store", store, "runs", "show", "facade00"]);
    let hint = refused.refused(2, "run_not_found").stderr.clone();
    let command = hint.split('`').nth(3).unwrap();
    let listed = project.paste(command);
    assert!(listed.code_is(0).stdout.contains("asks"), "{listed:#?}");
}
