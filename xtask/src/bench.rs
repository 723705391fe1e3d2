//! `cargo xtask bench`: the measurements, in release mode.

use crate::{command::Command, shell};

pub const COMMAND: Command = Command {
    name: "bench",
    args: "[args]",
    summary: "run the measurements of adjutant-bench",
    help: "Builds in release mode and hands all arguments on; `cargo xtask bench -- --help` shows them.",
    run: |workspace, args| {
        let args = args.strip_prefix(&[String::from("--")]).unwrap_or(args);
        let mut command = workspace.cargo();
        command
            .args(["run", "--release", "-p", "adjutant-bench", "--"])
            .args(args);
        shell::run(&mut command)
    },
};
