//! What commands print, to whom, and in which form.

use std::process::Command;

use crate::support::{Ended, Project};

#[test]
fn a_reader_that_stops_reading_is_no_panic() {
    let project = Project::new();
    let script =
        "\"$AGENT\" completions bash | head -n 1; \"$AGENT\" events types -o json | head -c 1";
    let ended: Ended = Command::new("sh")
        .args(["-c", script])
        .env("AGENT", env!("CARGO_BIN_EXE_agent"))
        .current_dir(project.path(""))
        .output()
        .unwrap()
        .into();
    ended.code_is(0);
    assert_eq!(ended.stderr, "");
}

#[test]
fn failures_are_json_for_programs() {
    let project = Project::new();
    let ended = project.agent(&["run", "nope", "-o", "json"]);
    ended.code_is(2);
    let failure: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(failure["error"]["code"], "agent_not_found");
    assert_eq!(failure["error"]["retryable"], false);
    let ended = project.agent(&["--no-such-flag", "-o", "json"]);
    ended.code_is(2);
    let failure: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(failure["error"]["code"], "usage");
}

#[test]
fn quiet_leaves_the_result_alone() {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo log >&2; echo ok");
    let ended = project.agent(&["run", "echo", "--quiet"]);
    ended.code_is(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("ok\n", ""));
}

#[test]
fn colour_is_for_terminals_unless_it_is_asked_for() {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo ok");
    assert!(!project.agent(&["run", "echo"]).stderr.contains('\u{1b}'));
    assert!(
        project
            .agent(&["run", "echo", "--color", "always"])
            .stderr
            .contains('\u{1b}')
    );
}

#[test]
fn lists_are_tables_json_and_yaml() {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo ok");
    let run = project.submit(&["echo"]);
    let table = project.agent(&["runs", "list"]);
    assert!(
        table.stdout.starts_with("RUN") && table.stdout.contains(&run),
        "{table:?}"
    );
    assert_eq!(
        project.agent(&["runs", "list", "-o", "json"]).json()[0]["state"],
        "pending"
    );
    let yaml = project.agent(&["runs", "list", "-o", "yaml"]);
    assert!(yaml.stdout.contains(&format!("run_id: {run}")), "{yaml:?}");
}

#[test]
fn the_state_folder_stays_out_of_version_control() {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo ok");
    project.agent(&["run", "echo", "-q"]).code_is(0);
    assert_eq!(project.read(".adjutant/.gitignore"), "*\n");
    let workers: Vec<_> = std::fs::read_dir(project.path(".adjutant/workers"))
        .unwrap()
        .collect();
    assert!(workers.is_empty(), "{workers:?}");
}

#[test]
fn what_has_nothing_to_do_with_settings_works_where_they_are_broken() {
    let project = Project::new();
    project.write("adjutant.yaml", "no: such: thing");
    project.agent(&["version"]).code_is(0);
    project.agent(&["completions", "bash"]).code_is(0);
    project
        .agent(&["config", "check"])
        .refused(2, "config_invalid");
}
