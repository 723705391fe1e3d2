//! `cargo xtask docs`: the API documentation, where a broken link is a failure.

use anyhow::Result;

use crate::{
    command::{self, Command},
    shell,
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "docs",
    args: "",
    summary: "build the API documentation, where a warning is a failure",
    help: "The pages are written to target/doc.",
    run: |workspace, args| {
        command::no_args(args)?;
        docs(workspace)
    },
};

/// Builds the documentation of every member.
pub fn docs(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command.env("RUSTDOCFLAGS", "-Dwarnings").args([
        "doc",
        "--workspace",
        "--all-features",
        "--no-deps",
    ]);
    shell::run(&mut command)
}
