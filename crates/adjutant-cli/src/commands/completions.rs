//! `agent completions` and `agent version`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{args::Cli, context::Context, exit::Exit, failure::Result};

#[derive(Debug, Args)]
#[command(
    after_help = "For bash: agent completions bash > ~/.local/share/bash-completion/completions/agent"
)]
pub struct Completions {
    /// For this shell
    shell: Shell,
}

impl Completions {
    pub fn run(self, context: &Context) -> Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "agent", &mut script);
        context
            .out
            .line(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Exit::Ok)
    }
}

/// Prints the version and what this build can do.
pub fn version(context: &Context) -> Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    let engines = [
        ("memory", true),
        ("sqlite", true),
        ("postgres", cfg!(feature = "postgres")),
        ("redis", cfg!(feature = "redis")),
    ];
    let engines = engines.iter().filter(|(_, built)| *built);
    let engines: Vec<&str> = engines.map(|(engine, _)| *engine).collect();
    if context.out.is_structured() {
        context.out.value(&serde_json::json!({
            "version": version,
            "engines": engines,
        }))?;
        return Ok(Exit::Ok);
    }
    context
        .out
        .line(&format!("agent {version} (stores: {})", engines.join(", ")))?;
    Ok(Exit::Ok)
}
