//! Services of a project, kept running by its worker.

use crate::support::{Project, eventually, lines};

/// A service that tells of its life; ready with its file.
fn service(name: &str, depends_on: &str) -> String {
    format!(
        r#"  {name}:
    command: [sh, -c, "trap 'echo down-{name} >> effects; exit 0' TERM; echo up-{name} >> effects; touch {name}.ready; while :; do sleep 0.05; done"]
    ready: {{file: {name}.ready}}
    depends_on: [{depends_on}]
"#
    )
}

#[test]
fn a_worker_starts_services_before_it_takes_runs_and_stops_them_in_reverse() {
    let project = Project::new();
    let all = format!("services:\n{}{}", service("app", "db"), service("db", ""));
    project.write("adjutant.yaml", &all);
    project.python_agent("works", "note(home, 'run')");
    let run = project.submit(&["works"]);
    let worker = project.start(&["worker", "works"]);
    project.until_state(&run, "succeeded");
    let listed = project.agent(&["ps", "-o", "json"]).json();
    let shown: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|instance| instance["instance"].as_str().unwrap())
        .collect();
    assert_eq!(shown, ["app", "db"], "{listed}");
    assert_eq!(listed[0]["agent"], "service");
    worker.signal("TERM");
    worker.ended().code_is(0);
    let expected = ["up-db", "up-app", "run", "down-app", "down-db"];
    assert_eq!(lines(&project.path("effects")), expected);
}

#[test]
fn a_service_that_dies_comes_back() {
    let project = Project::new();
    project.write(
        "adjutant.yaml",
        "services:\n  flaky:\n    command: [sh, -c, \"echo up >> effects; sleep 0.1; exit 3\"]\n",
    );
    let services = project.start(&["services"]);
    eventually("it has come back", || {
        lines(&project.path("effects")).len() >= 2
    });
    services.signal("INT");
    services.ended().code_is(0);
}

#[test]
fn a_worker_whose_services_do_not_get_ready_takes_no_runs_and_says_why() {
    let project = Project::new();
    let broken = "  broken:\n    command: [sh, -c, \"exit 7\"]\n    ready: {file: never}\n    restart: no\n    depends_on: [db]\n";
    let all = format!("services:\n{}{broken}", service("db", ""));
    project.write("adjutant.yaml", &all);
    project.python_agent("works", "note(home, 'run')");
    let run = project.submit(&["works"]);
    let worker = project
        .agent(&["worker", "works"])
        .code_is(1)
        .stderr
        .clone();
    assert!(
        worker.contains("broken") && worker.contains('7'),
        "{worker}"
    );
    assert_eq!(project.state(&run), "pending");
    assert_eq!(lines(&project.path("effects")), ["up-db", "down-db"]);
}

#[test]
fn what_is_wrong_with_a_service_is_told_with_its_name() {
    let project = Project::new();
    project.write(
        "adjutant.yaml",
        "services:\n  db: {command: [no-such-program-here]}\n",
    );
    let ended = project.agent(&["services"]);
    let told = &ended.code_is(2).stderr;
    assert!(
        told.contains("services.db") && told.contains("no-such-program-here"),
        "{told}"
    );
}
