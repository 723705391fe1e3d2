//! What an attacker knows about the world outside.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything is outside, except the work folder and the code.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// A folder that is not the agent's, with a file `secret`.
    pub outside: PathBuf,
    /// The work folder, with a program `setuid` that belongs to somebody else.
    pub work: PathBuf,
    /// The folder of the program.
    pub code: PathBuf,
    /// The user's home, with a file `secret`.
    pub home: PathBuf,
    /// A process of the same user.
    pub victim: i32,
    /// The first process of the system that the agent sees; where it sees the machine's, another one like `victim`.
    pub first: i32,
    /// A port of this machine that somebody listens on, TCP and UDP.
    pub port: u16,
    /// An abstract socket that somebody listens on.
    pub abstract_name: String,
    /// An open file that was left behind by mistake: the folder outside.
    pub leaked: i32,
}
