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

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .trim()
        .chars()
        .next();
    !matches!(state, None | Some('Z' | 'X'))
}

/// Ends what survives, however the test ends.
struct Survivor(String);

impl Drop for Survivor {
    fn drop(&mut self) {
        let kill = std::process::Command::new("kill")
            .args(["-9", &self.0])
            .output();
        drop(kill);
    }
}

#[test]
fn a_service_that_survives_a_killed_runtime_is_taken_over_and_ends_with_the_next_one() {
    let project = Project::new();
    let db = format!("{}    survives: true\n", service("db", ""));
    let app = "  app:\n    command: [sh, -c, \"echo $$ > app.pid; touch app.ready; exec sleep 600\"]\n    ready: {file: app.ready}\n";
    project.write("adjutant.yaml", &format!("services:\n{db}{app}"));
    let first = project.start(&["services"]);
    first.until_stderr("service app is ready");
    first.until_stderr("service db is ready");
    let pid = |project: &Project| {
        let note: serde_json::Value =
            serde_json::from_str(&project.read(".adjutant/services/db.json")).unwrap();
        note["pid"].to_string()
    };
    let db = pid(&project);
    let _survivor = Survivor(db.clone());
    project
        .agent(&["services"])
        .code_is(1)
        .says("another runtime has it");
    first.signal("KILL");
    first.ended();
    let app = project.read("app.pid").trim().to_owned();
    eventually("what does not survive has ended", || !is_alive(&app));
    assert!(is_alive(&db), "it survives");
    std::fs::remove_file(project.path("app.ready")).unwrap();

    let second = project.start(&["services"]);
    second.until_stderr("service app is ready");
    assert_eq!(pid(&project), db, "the same process");
    assert_eq!(lines(&project.path("effects")), ["up-db"]);
    let shown = project.agent(&["ps", "-o", "json"]).json();
    assert!(
        shown.to_string().contains(&format!("\"pid\":{db}")),
        "{shown}"
    );
    second.signal("TERM");
    second.ended().code_is(0);
    assert_eq!(lines(&project.path("effects")), ["up-db", "down-db"]);
    assert!(!is_alive(&db));
}

#[test]
fn a_service_that_survives_and_was_changed_is_started_anew() {
    let project = Project::new();
    let declare = |seconds: u32| {
        let text = format!(
            "services:\n  db:\n    command: [sh, -c, \"echo up-{seconds} >> effects; exec sleep {seconds}\"]\n    survives: true\n"
        );
        project.write("adjutant.yaml", &text);
    };
    declare(600);
    let first = project.start(&["services"]);
    first.until_stderr("service db is ready");
    eventually("up", || lines(&project.path("effects")).len() == 1);
    let note = project.read(".adjutant/services/db.json");
    let old: serde_json::Value = serde_json::from_str(&note).unwrap();
    let _survivor = Survivor(old["pid"].to_string());
    first.signal("KILL");
    first.ended();
    declare(601);
    let second = project.start(&["services"]);
    second.until_stderr("service db is ready");
    eventually("up", || lines(&project.path("effects")).len() == 2);
    assert_eq!(lines(&project.path("effects")), ["up-600", "up-601"]);
    assert!(!is_alive(&old["pid"].to_string()), "the old one has ended");
    second.signal("TERM");
    second.ended().code_is(0);
}
