//! What is held to the rules.

use std::{path::PathBuf, time::Duration};

/// A program and how to talk to it.
#[derive(Debug, Clone)]
pub struct Program {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The folder to run in; absent means this program's own.
    pub dir: Option<PathBuf>,
    /// Variables to add to the environment.
    pub env: Vec<(String, String)>,
    /// What it speaks.
    pub protocol: Protocol,
    /// How it is reached.
    pub transport: Transport,
    /// How long it may be silent while something is expected. Default 10 s.
    pub patience: Duration,
}

/// What a program speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// The agent wire.
    #[default]
    Wire,
    /// Level 0: input on stdin, answer on stdout.
    Exec,
}

/// How a program on the wire is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// Its stdin and stdout.
    #[default]
    Stdio,
    /// A Unix socket that it connects to.
    Unix,
    /// A WebSocket on loopback that it connects to.
    WebSocket,
}

impl Program {
    /// A program that speaks the wire on stdin and stdout.
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            dir: None,
            env: Vec::new(),
            protocol: Protocol::default(),
            transport: Transport::default(),
            patience: Duration::from_secs(10),
        }
    }

    /// The same program with a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The same program over another transport.
    #[must_use]
    pub const fn over(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// The same program as a command of level 0.
    #[must_use]
    pub const fn exec(mut self) -> Self {
        self.protocol = Protocol::Exec;
        self
    }
}
