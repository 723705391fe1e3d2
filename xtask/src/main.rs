//! Automation for this repository: `cargo xtask <command>`.
//!
//! `cargo xtask ci` is exactly what CI runs, stage by stage; every stage is also a command of its own, so a failure
//! is repeated without waiting for the rest. The rules that a compiler does not know live here too: who may depend on
//! whom ([`layers`]) and what every file keeps to ([`tidy`]).
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program whose output is its product"
)]

mod bench;
mod ci;
mod codegen;
mod command;
mod conformance;
mod docs;
mod examples;
mod fmt;
mod layers;
mod lint;
mod model;
mod peers;
mod protocol;
mod servers;
mod shell;
mod test;
mod tidy;
mod vm;
mod workspace;

use std::process::ExitCode;

use crate::workspace::Workspace;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match Workspace::find().and_then(|workspace| command::dispatch(&workspace, &args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
