//! What a server's store can be refused for: told with what to do, and never with the password.

use std::process::Command;

use crate::support::{Ended, Project};

use super::fresh::Fresh;

const PASSWORD: &str = "s3cret-word";

fn echo_on(store: &str) -> Project {
    let project = Project::on(store);
    project.shell_agent("echo", "cat > /dev/null; echo ok");
    project
}

fn ended(command: &mut Command) -> Ended {
    command.output().unwrap().into()
}

pub fn a_server_that_is_not_there_is_told(store: &Fresh) {
    let project = echo_on(store.nobody);
    for command in [&["run", "echo"][..], &["runs", "list"], &["worker", "echo"]] {
        project
            .agent(command)
            .refused(75, "backend")
            .says("127.0.0.1:1")
            .says("repeat the command");
    }
    let doctor = project.agent(&["doctor"]);
    assert!(doctor.code_is(1).stdout.contains("PROBLEM"), "{doctor:?}");
}

pub fn an_unknown_parameter_is_told(store: &Fresh) {
    let separator = if store.url().contains('?') { '&' } else { '?' };
    let project = echo_on(&format!("{}{separator}shcema=x", store.url()));
    project
        .agent(&["run", "echo"])
        .refused(2, "invalid_request")
        .says("unknown parameter `shcema`")
        .says("docs/guide/stores.md");
}

pub fn no_output_shows_the_password(store: &Fresh) {
    let url = store.nobody;
    let project = echo_on(url);
    assert!(url.contains("s3cret"));
    for command in [
        &["config", "show"][..],
        &["config", "show", "--origin", "-o", "json"],
        &["doctor", "-vvv"],
        &["run", "echo", "-vvv"],
        &["--store", url, "run", "echo"],
        &["--store", url, "runs", "list", "-o", "json"],
        &["--store", url, "backup", "x"],
        &["--store", url, "config", "show"],
        &["--store", url, "doctor", "-o", "json"],
        &["--store", &format!("{url}?x=y"), "worker", "echo"],
    ] {
        let ended = project.agent(command);
        let all = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!all.contains("s3cret"), "{command:?}: {ended:#?}");
    }
    // Who types a password is told that others see it.
    let doctor = project.agent(&["--store", url, "doctor"]);
    assert!(doctor.stdout.contains("store.password_file"), "{doctor:?}");
}

pub fn a_password_may_come_from_a_file(store: &Fresh) {
    let server = (store.guarded)(PASSWORD);
    let project = echo_on(&server.url(""));
    project.write("secret", &format!("{PASSWORD}\n"));
    project.write("adjutant.yaml", "store:\n  password_file: secret\n");
    project.agent(&["run", "echo", "-q"]).code_is(0);
    let shown = project.agent(&["config", "show"]);
    assert!(!shown.stdout.contains(PASSWORD), "{shown:?}");

    project.write("adjutant.yaml", "store:\n  password_file: missing\n");
    project
        .agent(&["run", "echo"])
        .refused(2, "config_invalid")
        .says("store.password_file")
        .says("adjutant.yaml:2");
    // The URL's own word wins, and what is not needed is not looked for.
    let whole = server.url(PASSWORD);
    project
        .agent(&["--store", &whole, "runs", "list"])
        .code_is(0);
}

pub fn a_wrong_password_is_told(store: &Fresh) {
    let server = (store.guarded)(PASSWORD);
    for wrong in ["", "wr0ng"] {
        let project = echo_on(&server.url(wrong));
        let refused = project.agent(&["run", "echo"]);
        refused
            .refused(1, "backend")
            .says("hint: ")
            .says("password");
        assert!(!refused.stderr.contains("wr0ng"), "{refused:?}");
        let mut command = project.command(&["doctor"]);
        let doctor = ended(command.env("RUST_LOG", "debug"));
        doctor.code_is(1);
        let all = format!("{}{}", doctor.stdout, doctor.stderr);
        assert!(!all.contains("wr0ng"), "{doctor:?}");
    }
}
