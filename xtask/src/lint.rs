//! `cargo xtask lint`: clippy with the workspace's lints, warnings included.

use anyhow::Result;

use crate::{
    command::{self, Command},
    shell,
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "lint",
    args: "",
    summary: "clippy on everything, where a warning is a failure",
    help: "Which lints apply is decided in the root Cargo.toml; what tests may do is in clippy.toml.",
    run: |workspace, args| {
        command::no_args(args)?;
        lint(workspace)
    },
};

/// Runs clippy on every target of every member.
pub fn lint(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command.args([
        "clippy",
        "--workspace",
        "--all-features",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    shell::run(&mut command)
}
