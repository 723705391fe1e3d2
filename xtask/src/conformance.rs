//! `cargo xtask conformance`: the one suite per contract, on every engine.
//!
//! These tests are part of `cargo xtask test` too. The stage exists because a filter that matches nothing passes: a
//! renamed module must not take the whole suite out of CI unnoticed.

use anyhow::{Result, ensure};

use crate::{
    command::{self, Command},
    shell,
    test::has_nextest,
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "conformance",
    args: "",
    summary: "the contract suites on every engine; none found is a failure",
    help: "Runs the tests with `conformance` in their path.",
    run: |workspace, args| {
        command::no_args(args)?;
        conformance(workspace)
    },
};

/// Runs every test with `conformance` in its path, and insists on there being some.
pub fn conformance(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    // This very file has tests with the word in their path; they must not stand in for the suites.
    let all = ["--workspace", "--all-features", "--exclude", "xtask"];
    if has_nextest() {
        command
            .args(["nextest", "run", "--no-tests=fail"])
            .args(all);
        return shell::run(command.args(["-E", "test(conformance)"]));
    }
    let mut passed = 0;
    command
        .arg("test")
        .args(all)
        .args(["--lib", "--bins", "--tests", "conformance"]);
    shell::run_watching(&mut command, |line| passed += passed_in(line))?;
    ensure!(
        passed > 0,
        "no test has `conformance` in its path: are the suites still called that?"
    );
    println!("conformance: {passed} passed, 0 failed");
    Ok(())
}

/// Crates whose engines have to pass a suite.
const ENGINES: [&str; 7] = [
    "adjutant-events",
    "adjutant-postgres",
    "adjutant-queue",
    "adjutant-redis",
    "adjutant-sqlite",
    "adjutant-state",
    "adjutant-store",
];

/// Insists on every engine having a suite, for CI, where `cargo xtask test` has just run them all.
pub fn conformance_is_there(workspace: &Workspace) -> Result<()> {
    if !has_nextest() {
        return conformance(workspace);
    }
    let mut command = workspace.cargo();
    command.args(["nextest", "list", "--workspace", "--all-features"]);
    command.args(["-E", "test(conformance)", "--message-format", "oneline"]);
    let listed = shell::read(&mut command)?;
    for engine in ENGINES {
        let cases = listed
            .lines()
            .filter(|line| line.starts_with(engine))
            .count();
        ensure!(
            cases > 0,
            "{engine} has no test with `conformance` in its path: is its suite still called that?"
        );
        println!("{engine}: {cases} cases");
    }
    Ok(())
}

/// How many tests passed, according to one line of `cargo test`.
fn passed_in(line: &str) -> usize {
    let counts = line.strip_prefix("test result: ok. ");
    let passed = counts.and_then(|counts| counts.split(" passed").next()?.parse().ok());
    passed.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_summaries_count() {
        let summary = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out";
        assert_eq!(passed_in(summary), 12);
        assert_eq!(passed_in("test lease::is_exclusive ... ok"), 0);
        assert_eq!(passed_in("test result: FAILED. 3 passed; 1 failed"), 0);
    }
}
