//! `agent logs`: what agents have logged, live and afterwards.

use serde_json::Value;

use crate::support::{Ended, Project, Running, eventually};

fn messages(ended: &Ended) -> Vec<String> {
    records(&ended.stdout)
        .iter()
        .map(|record| record["message"].as_str().unwrap().to_owned())
        .collect()
}

fn records(stdout: &str) -> Vec<Value> {
    let lines = stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn logs(project: &Project, arguments: &[&str]) -> Vec<String> {
    let mut all = vec!["logs", "-o", "json"];
    all.extend(arguments);
    messages(project.agent(&all).code_is(0))
}

/// An agent that logs in many forms.
fn chatty(project: &Project) {
    project.shell_agent(
        "chatty",
        r#"echo "begins" >&2
echo 'level=warn msg="nearly full" free=3' >&2
echo '{"level":"error","msg":"gone"}' >&2
cat > /dev/null; echo done"#,
    );
}

#[test]
fn lines_tell_who_wrote_them_when_for_which_run_and_how_bad_they_are() {
    let project = Project::new();
    chatty(&project);
    project.agent(&["run", "chatty", "-q"]).code_is(0);
    let run = project.newest();
    let ended = project.agent(&["logs", "-o", "json"]);
    let records = records(&ended.code_is(0).stdout);
    assert_eq!(records.len(), 3, "{ended:#?}");
    for (record, (level, message)) in records.iter().zip([
        ("info", "begins"),
        ("warn", "nearly full"),
        ("error", "gone"),
    ]) {
        assert_eq!(record["level"], level, "{record}");
        assert_eq!(record["message"], message, "{record}");
        assert_eq!(record["instance"], "chatty-01", "{record}");
        assert_eq!(record["run_id"], run.as_str(), "{record}");
        assert_eq!(record["stream"], "stderr", "{record}");
        assert!(record["time"].as_str().unwrap().ends_with('Z'), "{record}");
    }
    assert_eq!(records[1]["fields"]["free"], "3");

    let text = project.agent(&["logs", &run]);
    let lines: Vec<&str> = text.code_is(0).stdout.lines().collect();
    assert!(
        lines[1].ends_with(" WARN  chatty-01 nearly full free=3"),
        "{lines:?}"
    );
}

#[test]
fn lines_are_chosen_by_run_instance_level_age_text_and_number() {
    let project = Project::new();
    chatty(&project);
    project.agent(&["run", "chatty", "-q", "one"]).code_is(0);
    let first = project.newest();
    project.agent(&["run", "chatty", "-q", "two"]).code_is(0);
    let all = ["begins", "nearly full", "gone"];
    assert_eq!(logs(&project, &[&first]), all);
    assert_eq!(logs(&project, &["last"]), all);
    assert_eq!(logs(&project, &[&first[first.len() - 12..]]), all);
    assert_eq!(logs(&project, &["chatty-01"]).len(), 6);
    assert_eq!(logs(&project, &["last", "--level", "warn"]), all[1..]);
    assert_eq!(
        logs(&project, &["last", "--grep", "^(be|go)"]),
        ["begins", "gone"]
    );
    assert_eq!(logs(&project, &["-n", "2"]), all[1..]);
    assert_eq!(logs(&project, &["--since", "10m"]).len(), 6);
    assert!(logs(&project, &["--since", "2999-01-01T00:00:00Z"]).is_empty());
}

#[test]
fn what_cannot_be_shown_is_refused_with_advice() {
    let project = Project::new();
    let none = project.agent(&["logs"]);
    none.code_is(0).says("no lines");
    assert_eq!(none.stdout, "");
    project
        .agent(&["logs", "my-agent-07"])
        .refused(2, "instance_not_found");
    project
        .agent(&["logs", "--level", "loud"])
        .code_is(2)
        .says("none of trace");
    project.agent(&["logs", "--grep", "("]).code_is(2);
    project
        .agent(&["logs", "--since", "soon"])
        .code_is(2)
        .says("10m");
    project.shell_agent("quiet", "echo done");
    project.agent(&["run", "quiet", "-q"]).code_is(0);
    project
        .agent(&["logs", "nothing"])
        .refused(2, "run_not_found");
}

fn followed(running: &Running) -> Vec<String> {
    let stdout = running.stdout();
    let whole = stdout.rsplit_once('\n').map_or("", |(whole, _)| whole);
    records(whole)
        .iter()
        .map(|record| record["message"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_follower_sees_every_line_once_across_cut_files_and_ends_with_the_run() {
    const LINES: usize = 3000;
    let project = Project::new();
    project.write(
        "adjutant.yaml",
        "logs:\n  max_size: 16KiB\n  max_files: 500\n",
    );
    project.shell_agent(
        "counts",
        &format!(
            "n=0\nwhile [ $n -lt {LINES} ]; do echo line $n >&2; n=$((n+1)); \
             if [ $n -eq 1000 ]; then while [ ! -e ../go ]; do sleep 0.02; done; fi; done\necho done"
        ),
    );
    let run = project.submit(&["counts"]);
    let worker = project.start(&["worker", "counts", "--drain"]);
    let follower = project.start(&["logs", &run, "-f", "-o", "json"]);
    eventually("it sees what there is", || {
        followed(&follower).len() == 1000
    });
    project.write("go", "");
    let ended = follower.ended();
    ended.code_is(0);
    let expected: Vec<String> = (0..LINES).map(|number| format!("line {number}")).collect();
    assert_eq!(messages(&ended), expected);
    worker.ended().code_is(0);
    assert_eq!(logs(&project, &[&run]), expected);
    let cut = std::fs::read_dir(project.path(".adjutant/logs")).unwrap();
    assert!(cut.count() > 10);
}

#[test]
fn a_flood_is_bounded_on_disk() {
    let project = Project::new();
    project.write(
        "adjutant.yaml",
        "logs:\n  max_size: 100KiB\n  max_files: 3\n",
    );
    project.shell_agent(
        "flood",
        "head -c 30000000 /dev/zero | tr '\\0' 'x' | fold -w 100 >&2\necho done",
    );
    project.agent(&["run", "flood", "-q"]).code_is(0);
    let files = std::fs::read_dir(project.path(".adjutant/logs")).unwrap();
    let bytes: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!((100 * 1024..=300 * 1024).contains(&bytes), "{bytes}");
}

#[test]
fn lines_go_to_stdout_when_they_are_to() {
    let project = Project::new();
    project.write("adjutant.yaml", "logs:\n  to: stdout\n  format: text\n");
    chatty(&project);
    project.submit(&["chatty"]);
    let ended = project.agent(&["worker", "chatty", "--drain"]);
    ended.code_is(0);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{ended:#?}");
    assert!(lines[2].ends_with(" stderr gone"), "{lines:?}");
    assert!(!project.path(".adjutant/logs").exists());
    project.write("adjutant.yaml", "logs:\n  to: file,paper\n");
    project
        .agent(&["logs"])
        .refused(2, "config_invalid")
        .says("`paper`");
}
