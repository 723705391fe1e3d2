//! Bad input and bad stores: refused with what, why and what to do, without a panic and without damage.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
};

use crate::support::{Ended, Project};

/// A user without any rights of their own, for tests that run as root.
const NOBODY: u32 = 65534;

fn echo() -> Project {
    let project = Project::new();
    project.shell_agent("echo", "cat > /dev/null; echo ok");
    project
}

#[test]
fn a_broken_manifest_is_told_with_line_field_and_fix() {
    let project = Project::new();
    project.write("a/agent.yaml", "name: a\ncomand: [x]\n");
    let ended = project.agent(&["run", "a"]);
    ended
        .refused(2, "manifest_invalid")
        .says("a/agent.yaml")
        .says("line 2")
        .says("did you mean `command`?");
    project.write("a/agent.yaml", ": : :\n- [");
    project
        .agent(&["run", "a"])
        .refused(2, "manifest_invalid")
        .says("cause: line");
}

#[test]
fn an_unknown_path_is_told_with_agents_nearby() {
    let project = echo();
    project
        .agent(&["run", "ecko"])
        .refused(2, "agent_not_found")
        .says("hint: agents nearby: echo");
    project
        .agent(&["worker", "nowhere"])
        .refused(2, "agent_not_found");
    project
        .agent(&["worker", ".", "--agents", "other"])
        .refused(2, "agent_not_found")
        .says("found: echo");
}

#[test]
fn an_unknown_setting_is_told_with_file_line_and_the_nearest_name() {
    let project = echo();
    project.write(
        "adjutant.yaml",
        "runner:\n  concurency: 4\n  lease_ttl: soon\n",
    );
    let ended = project.agent(&["run", "echo"]);
    ended
        .refused(2, "config_invalid")
        .says("2 problems")
        .says("adjutant.yaml:2: `runner.concurency` is no setting; did you mean `runner.concurrency`?")
        .says("adjutant.yaml:3: runner.lease_ttl: `soon` is not a duration");
    project.write("adjutant.yaml", "");
    let mut command = project.command(&["config", "check"]);
    let ended: Ended = command
        .env("ADJUTANT_STORE__ULR", "memory:")
        .output()
        .unwrap()
        .into();
    ended
        .refused(2, "config_invalid")
        .says("did you mean ADJUTANT_STORE__URL?");
}

#[test]
fn settings_come_from_the_strongest_source_and_say_which() {
    let project = echo();
    project.write(
        "adjutant.yaml",
        "runner:\n  max_attempts: 5\n  concurrency: 2\nlog:\n  level: info\n",
    );
    let mut command = project.command(&["config", "show", "--origin", "-o", "json", "-vv"]);
    let ended: Ended = command
        .env("ADJUTANT_RUNNER__CONCURRENCY", "3")
        .env("AGENT_RUNTIME_MAX_RETRIES", "7")
        .output()
        .unwrap()
        .into();
    let settings = ended.code_is(0).json();
    assert_eq!(settings["runner"]["concurrency"]["value"], "3");
    assert_eq!(
        settings["runner"]["concurrency"]["origin"]["environment"],
        "ADJUTANT_RUNNER__CONCURRENCY"
    );
    assert_eq!(settings["runner"]["max_attempts"]["value"], "7");
    assert_eq!(settings["log"]["level"]["origin"]["flag"], "-v");
    assert_eq!(settings["limits"]["input"]["origin"], "default");
}

#[test]
fn input_that_is_not_json_is_told_with_line_and_column() {
    let project = echo();
    project.write("input.json", "{\n  \"a\": 1,\n  b\n}");
    let ended = project.agent(&["run", "echo", "--input", "input.json"]);
    ended
        .refused(2, "input_not_json")
        .says("input.json:3:3")
        .says("hint: pass plain text as an argument");
    project
        .agent(&["run", "echo", "--input", "missing.json"])
        .refused(2, "input_unreadable");
    project
        .agent(&["run", "echo", "--params", "{x"])
        .refused(2, "input_not_json")
        .says("--params");
    project
        .agent(&["run", "echo", "--metadata", "[1]"])
        .refused(2, "usage")
        .says("not a JSON object");
}

#[test]
fn an_input_over_the_configured_limit_is_refused_and_nothing_is_queued() {
    let project = echo();
    project.write("adjutant.yaml", "limits:\n  input: 1KiB\n");
    let large = "x".repeat(2000);
    let ended = project.agent(&["run", "echo", &large]);
    ended
        .refused(2, "payload_too_large")
        .says("the limit is 1024 bytes")
        .says("limits.input");
    project
        .agent(&["run", "-d", "echo", &large])
        .refused(2, "payload_too_large");
    assert_eq!(
        project.agent(&["runs", "list", "-o", "json"]).json(),
        serde_json::json!([])
    );
}

#[test]
fn an_unknown_or_ambiguous_run_is_told_with_what_there_is() {
    let project = echo();
    project
        .agent(&["runs", "show", "last"])
        .refused(2, "store_not_found");
    let first = project.submit(&["echo"]);
    let second = project.submit(&["echo"]);
    let missing = format!("run_{}", "0".repeat(32));
    project
        .agent(&["runs", "show", &missing])
        .refused(2, "run_not_found")
        .says("agent runs list");
    project
        .agent(&["runs", "show", "dead"])
        .refused(2, "run_not_found")
        .says("no run id");
    project
        .agent(&["runs", "show", "fffffff"])
        .refused(2, "run_not_found");

    // Ids of one moment begin alike, and end differently.
    let prefix: String = first
        .chars()
        .zip(second.chars())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a)
        .collect();
    project
        .agent(&["runs", "show", &prefix])
        .refused(2, "run_id_ambiguous")
        .says(&first)
        .says(&second);
    assert_eq!(
        project.show(&first[first.len() - 10..])["run_id"],
        first.as_str()
    );
    assert_eq!(project.show("last")["run_id"], second.as_str());
}

#[test]
fn a_store_that_is_no_store_is_told_and_left_alone() {
    let project = echo();
    let garbage = "this is no database\n".repeat(500);
    project.write("notes.txt", &garbage);
    let ended = project.agent(&["--store", "sqlite:notes.txt", "run", "echo"]);
    ended
        .refused(74, "store_corrupt")
        .says("notes.txt")
        .says("hint: ");
    assert_eq!(project.read("notes.txt"), garbage);
    let doctor = project.agent(&["--store", "sqlite:notes.txt", "doctor"]);
    doctor.code_is(1);
    assert!(doctor.stdout.contains("PROBLEM"), "{doctor:?}");
}

#[test]
fn a_store_in_no_folder_is_told() {
    let project = echo();
    let ended = project.agent(&["--store", "sqlite:no/such/a.db", "run", "echo"]);
    ended.refused(2, "store_not_found").says("mkdir -p no/such");
}

#[test]
fn a_url_without_an_engine_is_told_with_what_there_is() {
    let project = echo();
    let ended = project.agent(&["--store", "mysql://me:s3cret@localhost/x", "run", "echo"]);
    ended
        .refused(2, "invalid_request")
        .says("mysql://me:PASSWORD@localhost/x")
        .says("sqlite:PATH");
}

#[cfg(not(feature = "postgres"))]
#[test]
fn an_engine_that_was_left_out_is_told_with_the_command_that_builds_it() {
    let project = echo();
    let ended = project.agent(&["--store", "postgres://me:s3cret@localhost/x", "run", "echo"]);
    ended
        .refused(2, "engine_not_built")
        .says("cargo build -p adjutant-cli --features postgres");
    assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
}

#[test]
fn a_damaged_store_is_found_by_the_doctor() {
    let project = echo();
    project.agent(&["run", "echo", "-q"]).code_is(0);
    project.agent(&["doctor"]).code_is(0);
    let file = project.path(".adjutant/adjutant.db");
    checkpoint(&project);
    let mut bytes = fs::read(&file).unwrap();
    // Every page but the first, so that whatever is read next is damaged.
    bytes[4096..].fill(0xa5);
    fs::write(&file, &bytes).unwrap();
    let doctor = project.agent(&["doctor"]);
    doctor.code_is(1);
    assert!(doctor.stdout.contains("PROBLEM"), "{doctor:?}");
    let ended = project.agent(&["runs", "list"]);
    ended.refused(74, "store_corrupt");
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let project = echo();
    project.agent(&["run", "echo", "-q"]).code_is(0);
    sql(
        &project,
        "update _sqlx_migrations set version = 9999 where version = (select max(version) from _sqlx_migrations)",
    );
    checkpoint(&project);
    let before = fs::read(project.path(".adjutant/adjutant.db")).unwrap();
    project
        .agent(&["run", "echo"])
        .refused(74, "schema_too_new")
        .says("9999")
        .says("update `agent`");
    assert!(before == fs::read(project.path(".adjutant/adjutant.db")).unwrap());
}

#[test]
fn a_read_only_store_is_told() {
    let project = echo();
    project.agent(&["run", "echo", "-q"]).code_is(0);
    checkpoint(&project);
    let state = project.path(".adjutant");
    fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        let mode = if path.is_dir() { 0o555 } else { 0o444 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(&state, fs::Permissions::from_mode(0o555)).unwrap();

    let mut command = project.command(&["run", "echo"]);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let ended: Ended = command.output().unwrap().into();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    ended.refused(74, "store_read_only").says("writable");
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let project = echo();
    project.write(
        "input.json",
        &format!("{{\"data\": \"{}\"}}", "x".repeat(60_000)),
    );
    // A disk of its own that only this process and its children see, and that goes with them.
    let script = r#"
        mkdir -p disk && mount -t tmpfs -o size=1m tmpfs disk || exit 90
        status=0
        for n in $(seq 100); do
            "$AGENT" --store sqlite:disk/a.db run -dq echo --input input.json > id 2> full || { status=$?; break; }
            cat id >> acknowledged
        done
        echo $status > status
        "$AGENT" --store sqlite:disk/a.db runs list --limit 200 -o json > listed 2>> full || exit 92
    "#;
    let shell = |flags: &[&str]| {
        Command::new("unshare")
            .args(flags)
            .args(["sh", "-c", script])
            .env("AGENT", env!("CARGO_BIN_EXE_agent"))
            .current_dir(project.path(""))
            .output()
            .unwrap()
    };
    let mut output = shell(&["--mount"]);
    if !output.status.success() && !project.path("acknowledged").exists() {
        output = shell(&["--map-root-user", "--mount"]);
    }
    assert!(
        output.status.success(),
        "a small disk cannot be mounted here, or: {output:?} {}",
        project.read("full")
    );
    assert_eq!(
        project.read("status").trim(),
        "75",
        "{}",
        project.read("full")
    );
    assert!(
        project.read("full").contains("[storage_full]"),
        "{}",
        project.read("full")
    );
    let listed: serde_json::Value = serde_json::from_str(&project.read("listed")).unwrap();
    let listed: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|run| run["run_id"].as_str())
        .collect();
    let acknowledged = project.read("acknowledged");
    assert!(acknowledged.lines().count() > 2);
    for run in acknowledged.lines() {
        assert!(listed.contains(&run), "{run} was acknowledged and is gone");
    }
}

/// Does something to the store that the binary would not.
fn sql(project: &Project, statement: &str) {
    let code = format!(
        "import sqlite3; c = sqlite3.connect('.adjutant/adjutant.db'); c.execute(\"{statement}\"); c.commit(); c.close()"
    );
    let status = Command::new("python3")
        .args(["-c", &code])
        .current_dir(project.path(""))
        .status()
        .unwrap();
    assert!(status.success());
}

/// Brings everything into the one file.
fn checkpoint(project: &Project) {
    sql(project, "pragma wal_checkpoint(truncate)");
}
