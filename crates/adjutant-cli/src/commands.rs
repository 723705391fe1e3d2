//! The commands, one file each.

mod again;
mod answer;
mod backup;
mod budgets;
mod completions;
mod config;
mod conformance;
mod control;
mod doctor;
mod effects;
mod events;
mod init;
mod kill;
mod logs;
mod mcp;
mod migrate;
mod models;
mod ps;
mod resume;
mod run;
mod runs;
mod services;
mod show;
mod stats;
mod worker;

use clap::Subcommand;

use crate::{context::Context, exit::Exit, failure::Result};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a small agent to start from
    Init(init::Init),
    /// Run an agent and wait for its result
    Run(run::Run),
    /// Look after runs: list, show, cancel, resume, approve, …
    #[command(subcommand, visible_alias = "r")]
    Runs(runs::Runs),
    /// End a run, or everything below it
    Kill(kill::Kill),
    /// See what was spent: list, show, reset
    #[command(subcommand)]
    Budgets(budgets::Budgets),
    /// See calls whose outcome is open, and say what became of them
    Effects(effects::Effects),
    /// Look after the MCP servers of agents: list, probe, tools, call, restart
    #[command(subcommand)]
    Mcp(mcp::Mcp),
    /// List the models that are configured, or try one
    Models(models::Models),
    /// Serve agents: work on their runs until stopped
    Worker(worker::Worker),
    /// Keep the project's services running until stopped, without a worker
    Services,
    /// Print what agents have logged
    Logs(logs::Logs),
    /// List the live instances of agents
    Ps,
    /// Show what live instances use
    Stats(stats::Stats),
    /// Copy the store to a file while it is in use
    Backup(backup::Backup),
    /// Put a backup in the store's place
    Restore(backup::Restore),
    /// Move all runs to another store while both are in use
    Migrate(migrate::Migrate),
    /// Check that everything is in order
    Doctor,
    Conformance(conformance::Conformance),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(config::Config),
    /// What can happen in a run
    #[command(subcommand)]
    Events(events::EventTypes),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Print the version and what this build can do
    Version,
}

impl Command {
    /// Whether settings matter to it.
    pub const fn needs_settings(&self) -> bool {
        !matches!(
            self,
            Self::Completions(_) | Self::Conformance(_) | Self::Version | Self::Init(_)
        )
    }
}

/// Carries out a command.
pub async fn run(context: &Context, command: Command) -> Result<Exit> {
    match command {
        Command::Init(init) => init.run(context),
        Command::Run(run) => Box::pin(run.run(context)).await,
        Command::Runs(runs) => Box::pin(runs.run(context)).await,
        Command::Kill(kill) => kill.run(context).await,
        Command::Budgets(budgets) => budgets.run(context).await,
        Command::Effects(effects) => effects.run(context).await,
        Command::Mcp(mcp) => Box::pin(mcp.run(context)).await,
        Command::Models(models) => Box::pin(models.run(context)).await,
        Command::Services => services::run(context).await,
        Command::Worker(worker) => Box::pin(worker.run(context)).await,
        Command::Logs(logs) => logs.run(context).await,
        Command::Ps => ps::run(context).await,
        Command::Stats(stats) => stats.run(context).await,
        Command::Backup(backup) => backup.run(context).await,
        Command::Restore(restore) => restore.run(context).await,
        Command::Migrate(migrate) => Box::pin(migrate.run(context)).await,
        Command::Doctor => doctor::run(context).await,
        Command::Conformance(conformance) => conformance.run(context).await,
        Command::Config(config) => config.run(context),
        Command::Events(types) => types.run(context),
        Command::Completions(completions) => completions.run(context),
        Command::Version => completions::version(context),
    }
}
