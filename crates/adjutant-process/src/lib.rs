//! Child processes: started from a manifest, owned with their whole tree, and driven as agents.
//!
//! A program in any language is an agent when its folder holds an `agent.yaml`. [`Manifest`] is that file,
//! [`ProcessManager`] the seam that starts and ends processes ([`NativeProcesses`] on this machine), and
//! [`ProcessAgent`] turns both into an [`Agent`](adjutant_core::Agent): it speaks the agent wire with the process, or
//! just gives it the input and takes its output. What the process asks for through the wire is as durable as what a
//! Rust agent does through its context.
//!
//! ```
//! use adjutant_process::{Manifest, Protocol};
//!
//! let manifest = Manifest::from_yaml("name: shout\ncommand: [tr, a-z, A-Z]\nprotocol: exec\ntimeout: 5m")?;
//! assert_eq!(manifest.protocol, Protocol::Exec);
//!
//! let error = Manifest::from_yaml("name: shout\ncomand: [tr]").unwrap_err().to_string();
//! assert!(error.contains("line 2") && error.contains("did you mean `command`?"));
//! # Ok::<(), adjutant_process::ManifestError>(())
//! ```

mod environment;
mod limits;
mod manifest;
mod secrets;
mod units;

mod capabilities;
mod port;
mod procfs;
mod program;
mod tree;

mod isolation;

mod guardian;
mod helper;
mod launcher;
mod native;

mod logs;
pub mod usage;

mod pool;
pub mod supervise;

mod convert;
mod ending;
mod exec;
mod http;
mod wire;

mod agent;
mod error;

/// Isolation profiles, as manifests name them.
pub use adjutant_confine::{Isolation, Missing, Network, Part, Profile, Support};

pub use crate::{
    agent::{AgentOptions, ProcessAgent},
    capabilities::{Capabilities, Enforcement, Ownership},
    environment::Environment,
    error::{Error, Result},
    helper::{Helper, helper_main},
    isolation::support as isolation_support,
    launcher::Step,
    limits::{LimitKind, Limits},
    manifest::{Concurrency, Manifest, ManifestError, Problem, Protocol, Transport, read_yaml},
    native::{LastingProcesses, NativeOptions, NativeProcesses},
    pool::{Name, Names, PoolConfig},
    port::{ExitReason, Probe, Process, ProcessManager, ProcessSpec, Spawned, StopCause},
    secrets::{Secrets, Variable, Variables},
    units::{ByteSize, ParseUnitError, parse_duration},
};
