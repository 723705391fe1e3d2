//! `cargo xtask fmt`: one layout for all Rust code.

use anyhow::Result;

use crate::{
    command::{self, Command},
    shell,
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "fmt",
    args: "[--check]",
    summary: "format all Rust code, or check that it is",
    help: "Without `--check` files are rewritten; with it nothing is, and a difference is a failure.",
    run: |workspace, args| fmt(workspace, command::only_flag(args, "--check")?),
};

/// Formats every member, or only looks.
pub fn fmt(workspace: &Workspace, check: bool) -> Result<()> {
    let mut command = workspace.cargo();
    command.args(["fmt", "--all"]);
    if check {
        command.arg("--check");
    }
    shell::run(&mut command)
}
