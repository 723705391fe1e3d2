//! Isolation from the command line to the agent.

use crate::support::Project;

/// Adds lines to an agent's manifest.
fn with(project: &Project, name: &str, lines: &str) {
    let file = format!("{name}/agent.yaml");
    let manifest = project.read(&file);
    project.write(&file, &format!("{manifest}{lines}\n"));
}

/// Tells how much of the machine it sees.
const LOOK: &str = r#"
ls /proc | grep -c '^[0-9]' > "${ADJUTANT_WORK_DIR:-.}/seen"
cat ../secret 2> /dev/null || true
if touch here 2> /dev/null; then echo changed; fi
echo "no new rights: $(grep -c 'NoNewPrivs:.1' /proc/self/status)"
"#;

#[test]
fn a_manifest_confines_its_agent() {
    let project = Project::new();
    project.write("secret", "a secret\n");
    for profile in ["isolated", "restricted"] {
        project.shell_agent(profile, LOOK);
        with(&project, profile, &format!("isolation: {profile}"));
        let ended = project.agent(&["run", profile]);
        ended.code_is(0);
        assert!(ended.stdout.contains("no new rights: 1"), "{ended:?}");
        assert!(
            !ended.stdout.contains("secret") && !ended.stdout.contains("changed"),
            "{ended:?}"
        );
        let seen = project.read(&format!("{profile}/work/seen"));
        assert!(seen.trim().parse::<u32>().unwrap() < 10, "{seen}");
    }
}

#[test]
fn a_flag_confines_all_agents() {
    let project = Project::new();
    project.write("secret", "a secret\n");
    project.shell_agent("look", LOOK);
    let open = project.agent(&["run", "look"]);
    assert!(
        open.stdout.contains("a secret") && open.stdout.contains("changed"),
        "{open:?}"
    );
    let confined = project.agent(&["run", "look", "--isolation", "isolated"]);
    confined.code_is(0);
    assert!(!confined.stdout.contains("secret"), "{confined:?}");
    let run = project.submit(&["look", "--new"]);
    project
        .agent(&["worker", "--drain", "--isolation", "restricted"])
        .code_is(0);
    let output = project.show(&run)["outcome"].to_string();
    assert!(
        !output.contains("secret") && output.contains("no new rights: 1"),
        "{output}"
    );
    project
        .agent(&["run", "look", "--isolation", "closed"])
        .code_is(2);
}

#[test]
fn what_cannot_be_had_fails_the_run_with_a_fix() {
    let project = Project::new();
    project.shell_agent("look", LOOK);
    with(&project, "look", "isolation: {profile: isolated, work: .}");
    project.agent(&["run", "look"]);
    let error = &project.show(&project.newest())["error"];
    assert_eq!(error["type"], "isolation_unavailable");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("choose another work folder"), "{message}");
    project.shell_agent("none", "true");
    with(&project, "none", "network: none");
    project
        .agent(&["run", "none"])
        .says("choose `isolation: workspace`");
}

#[test]
fn the_doctor_tells_which_profiles_there_are() {
    let project = Project::new();
    let doctor = project.agent(&["doctor", "-o", "json"]).json();
    let checks = doctor["checks"].as_array().unwrap();
    let found = checks
        .iter()
        .find(|finding| finding["check"] == "isolation")
        .unwrap();
    let profiles = found["details"]["profiles"].to_string();
    assert!(
        profiles.contains("isolated") && profiles.contains("restricted"),
        "{found}"
    );
}
