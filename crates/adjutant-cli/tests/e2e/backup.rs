//! Copies of the store, and back.

use std::fs;

use crate::support::Project;

fn with_a_run() -> (Project, String) {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo ok");
    project.agent(&["run", "echo", "-q"]).code_is(0);
    let run = project.newest();
    (project, run)
}

#[test]
fn a_backup_brings_back_the_store_as_it_was() {
    let (project, kept) = with_a_run();
    project
        .agent(&["backup", "copy.db"])
        .code_is(0)
        .says("wrote copy.db");
    project.agent(&["run", "echo", "-q"]).code_is(0);
    let later = project.newest();

    project
        .agent(&["restore", "copy.db"])
        .refused(2, "store_in_use")
        .says("--force");
    project
        .agent(&["restore", "copy.db", "--force"])
        .code_is(0)
        .says("1 runs, checked");
    assert_eq!(project.state(&kept), "succeeded");
    project
        .agent(&["runs", "show", &later])
        .refused(2, "run_not_found");
    // Nothing is left of the way there.
    let left: Vec<String> = fs::read_dir(project.path(".adjutant"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("restore"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn an_empty_project_takes_a_backup_without_force() {
    let (project, run) = with_a_run();
    project.agent(&["backup", "copy.db"]).code_is(0);
    let other = Project::new();
    let file = project.path("copy.db");
    other.agent(&["restore", file.to_str().unwrap()]).code_is(0);
    assert_eq!(other.state(&run), "succeeded");
}

#[test]
fn a_bad_backup_replaces_nothing() {
    let (project, run) = with_a_run();
    project.agent(&["backup", "copy.db"]).code_is(0);
    let whole = fs::read(project.path("copy.db")).unwrap();
    project.write("empty.db", "");
    project.write(
        "text.db",
        "no database at all, but long enough to look like a file of some kind",
    );
    fs::write(project.path("short.db"), &whole[..whole.len() / 2]).unwrap();
    for bad in ["empty.db", "text.db", "short.db", "missing.db"] {
        project
            .agent(&["restore", bad, "--force"])
            .refused(2, "backup_invalid");
    }
    // Nobody is told to use force for a file that is not there.
    project
        .agent(&["restore", "missing.db"])
        .refused(2, "backup_invalid");
    assert_eq!(project.state(&run), "succeeded");
}

#[test]
fn a_backup_overwrites_no_file() {
    let (project, _) = with_a_run();
    project.write("copy.db", "mine");
    project
        .agent(&["backup", "copy.db"])
        .refused(2, "invalid_request")
        .says("name another file");
    assert_eq!(project.read("copy.db"), "mine");
}

#[test]
fn a_store_that_a_worker_uses_is_not_replaced() {
    let (project, _) = with_a_run();
    project.agent(&["backup", "copy.db"]).code_is(0);
    let worker = project.start(&["worker", "echo"]);
    worker.until_stderr("serves echo");
    project
        .agent(&["restore", "copy.db", "--force"])
        .refused(2, "store_in_use")
        .says("kill");
}
