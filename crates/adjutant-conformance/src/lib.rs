//! Holds any agent program to the rules of the agent wire, in any language and over any of its transports.
//!
//! [`check`] plays the runtime: it starts the program anew for each case, drives it through the wire, and says which
//! rules it keeps. Rules that hold for every agent are proved on whatever the program does. Rules about steps, waits and
//! the like need an agent that does as it is told: one named `conformance`, whose modes the reference lists
//! (`docs/reference/agent-wire.md`, "Conformance"). Cases that a program cannot show are skipped and say why.
//!
//! ```no_run
//! use adjutant_conformance::{Options, Program, check};
//!
//! let report = check(&Program::new(["python3", "agent.py"]), &Options::default());
//! assert_eq!(report.failed(), 0);
//! ```

mod fault;
mod journal;
mod program;
mod report;

mod host;
mod pipes;
mod websocket;

mod cases;
mod runner;

pub use crate::{
    program::{Program, Protocol, Transport},
    report::{Outcome, Report, Verdict},
    runner::{Options, case_names, check},
};
