//! `cargo xtask protocol`: the published conformance suite of the Model Context Protocol, against our pool as client.

use std::process::Command as Process;

use anyhow::{Context, Result, ensure};

use crate::{
    command::{self, Command},
    peers::Peers,
    shell,
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "protocol",
    args: "",
    summary: "the published MCP conformance suite, against the pool of MCP servers",
    help: "Known gaps stand with their reasons in crates/adjutant-mcp/conformance; one that is none any more is a \
           failure, too.\nThe suite is brought by `cargo xtask servers`.",
    run: |workspace, args| {
        command::no_args(args)?;
        protocol(workspace)
    },
};

/// What a revision requires was frozen when it was released.
const REVISIONS: [&str; 2] = ["2026-07-28", "2025-11-25"];

/// What the suite starts.
const CLIENT: &str = "adjutant-mcp-conformance-client";

/// Runs the suite for every revision.
pub fn protocol(workspace: &Workspace) -> Result<()> {
    let peers = Peers::of(workspace)?;
    let suite = peers.script("conformance");
    ensure!(
        suite.exists() && peers.node().exists(),
        "the suite is not installed: cargo xtask servers"
    );
    let build = ["build", "-p", "adjutant-mcp", "--bin", CLIENT];
    shell::run(workspace.cargo().args(build))?;
    let target = workspace.target_dir()?;
    for revision in REVISIONS {
        let waivers = format!("crates/adjutant-mcp/conformance/{revision}.yaml");
        let mut command = Process::new(peers.node());
        command.arg(&suite).arg("client").arg("--command");
        command.arg(target.join("debug").join(CLIENT));
        command.args(["--requirements", revision, "--expected-failures"]);
        command.arg(workspace.path(&waivers)).arg("--output-dir");
        command.arg(target.join("protocol").join(revision));
        shell::run(&mut command).with_context(|| {
            format!("the pool does not do what revision {revision} wants, or does more than {waivers} says")
        })?;
    }
    Ok(())
}
