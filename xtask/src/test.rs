//! `cargo xtask test` and `cargo xtask doctest`: everything that can fail, run.

use anyhow::Result;

use crate::{
    command::{self, Command},
    shell,
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "test",
    args: "[args]",
    summary: "all tests but the doctests",
    help: "Uses cargo-nextest when it is installed, and `cargo test` otherwise. Arguments are handed on to whichever \
           it is: `cargo xtask test -p adjutant-queue lease`.",
    run: test,
};

pub const DOCTEST: Command = Command {
    name: "doctest",
    args: "",
    summary: "the examples in the documentation comments",
    help: "nextest does not run doctests, so they are a stage of their own.",
    run: |workspace, args| {
        command::no_args(args)?;
        doctest(workspace)
    },
};

/// Runs the tests of every member, or of those that `args` name.
pub fn test(workspace: &Workspace, args: &[String]) -> Result<()> {
    let mut command = workspace.cargo();
    if has_nextest() {
        command.args(["nextest", "run"]);
    } else {
        // Doctests come in their own stage.
        command.args(["test", "--all-targets"]);
    }
    // Every engine; those for servers are left out of what a newcomer builds.
    command.arg("--all-features");
    if !names_a_package(args) {
        command.arg("--workspace");
    }
    shell::run(command.args(args))
}

/// Runs the doctests of every member.
pub fn doctest(workspace: &Workspace) -> Result<()> {
    shell::run(
        workspace
            .cargo()
            .args(["test", "--doc", "--workspace", "--all-features"]),
    )
}

/// Whether `cargo nextest` will work on this machine.
pub fn has_nextest() -> bool {
    shell::is_installed("cargo-nextest")
}

fn names_a_package(args: &[String]) -> bool {
    let is_package = |arg: &String| arg.starts_with("-p") || arg.starts_with("--package");
    args.iter().take_while(|arg| *arg != "--").any(is_package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_package_narrows_the_run() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(names_a_package(&words("-p adjutant-queue lease")));
        assert!(names_a_package(&words("--package=adjutant-queue")));
        assert!(!names_a_package(&words("lease -- -prefix")));
    }
}
