//! The command line: what is common to all commands.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum, error::ErrorKind};

use crate::{
    commands::Command,
    config::Flags,
    exit::Exit,
    failure::{Failure, USAGE},
    output::{Color, Format, Output},
    paste::Paste,
};

/// Runs AI agents as durable work: what is done stays done, whatever dies.
#[derive(Debug, Parser)]
#[command(
    name = "agent",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Start here:  agent init hello && agent run hello \"Ada\"\n\
                  Exit status: 0 succeeded, 1 failed, 2 usage, 3 cancelled, 4 timed out, 5 not ended yet, 6 parked,\n             \
                  74 store unusable, 75 try again later, 130 interrupted (docs/reference/cli.md)"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command knows.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where runs are kept: sqlite:PATH, postgres://…, redis://… or memory: [default: .adjutant/adjutant.db in the project]
    #[arg(long, global = true, value_name = "URL")]
    store: Option<String>,
    /// Configuration file [default: adjutant.yaml in the project]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Form of the result
    #[arg(short, long, global = true, value_enum, value_name = "FORM")]
    output: Option<Format>,
    /// Print the result and nothing else
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Log more: -v info, -vv debug
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Form of logs on stderr
    #[arg(long, global = true, value_enum, value_name = "FORM")]
    log_format: Option<LogFormat>,
    /// When to use colour
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Global {
    /// Where output goes.
    pub fn output(&self) -> Output {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let config = self.config.as_ref().map(|file| file.display().to_string());
        let store = self.store.as_deref().map(adjutant::shown_url);
        let given = [("--config", config), ("--store", store)];
        let given = given
            .into_iter()
            .filter_map(|(option, value)| Some((option, value?)));
        Output::new(self.output, self.quiet, self.color, no_color).telling(Paste::new(given))
    }

    /// What the flags say about settings.
    pub fn flags(&self) -> Flags {
        let log_format = self.log_format.map(|format| match format {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        });
        Flags {
            config: self.config.clone(),
            store: self.store.clone(),
            log_format,
            verbose: self.verbose,
        }
    }
}

/// Tells why the arguments were refused, or gives the help that was asked for.
pub fn refused(error: &clap::Error) -> Exit {
    let asked_for = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    let arguments: Vec<String> = std::env::args().collect();
    let wants_json = arguments
        .windows(2)
        .any(|pair| matches!(pair[0].as_str(), "-o" | "--output") && pair[1] == "json")
        || arguments
            .iter()
            .any(|argument| matches!(argument.as_str(), "-ojson" | "--output=json"));
    if wants_json && !asked_for {
        let text = error.to_string();
        let message = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        let failure = Failure::usage(USAGE, message).hint("see `agent --help`");
        Output::new(Some(Format::Json), false, Color::Never, true).failure(&failure);
        return Exit::Usage;
    }
    // With the terminal gone there is nobody left to tell.
    let _ = error.print();
    if asked_for { Exit::Ok } else { Exit::Usage }
}
