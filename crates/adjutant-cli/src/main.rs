//! The binary `agent`: runs agents and looks after their runs.
//!
//! The libraries know no files, no environment and no terminal; all of that is here. A command reads its arguments in
//! `commands/`, and everything it prints goes through `output.rs`.

mod args;
mod exit;
mod failure;
mod output;
mod paste;
mod project;
mod sections;
mod services;
mod units;
mod venv;

mod config;
mod context;

mod agents;
mod approvals;
mod equipment;
mod ids;
mod input;
mod isolation;
mod parked;
mod patience;
mod recovery;
mod reload;
mod workers;

mod drive;
mod interrupt;
mod observation;
mod render;
mod socket;
mod streamed;
mod tail;
mod told;
mod view;
mod watch;

mod commands;

use std::process::ExitCode;

use clap::Parser;

use crate::{args::Cli, context::Context, exit::Exit, failure::Failure};

/// Records and events are made on one thread and dropped on another all the time, which is what the system's own
/// allocator is slowest at: a run costs a quarter less processor time with this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Agents are started, and seen to after a crash, by this program executed again; that comes before all else.
    if let Some(status) = adjutant::process::helper_main() {
        return status;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return args::refused(&error).into(),
    };
    let out = cli.global.output();
    let context = if cli.command.needs_settings() {
        Context::new(&cli.global, out.clone())
    } else {
        Context::without_settings(out.clone())
    };
    let outcome = context.and_then(|context| {
        start_logging(&context);
        runtime()?.block_on(commands::run(&context, cli.command))
    });
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if failure.exit != Exit::BrokenPipe {
                out.failure(&failure);
            }
            failure.exit.into()
        }
    }
}

/// One thread for everything: what takes long happens in the agents' processes and in the store's own threads.
fn runtime() -> failure::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("failed to start the runtime", &error))?;
    Ok(Runtime(Some(runtime)))
}

/// A runtime whose end waits for nobody: a thread may be blocked in reading a terminal.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    fn block_on<T>(&self, future: impl Future<Output = failure::Result<T>>) -> failure::Result<T> {
        match &self.0 {
            Some(runtime) => runtime.block_on(future),
            None => Err(Failure::failed(failure::IO, "the runtime has ended")),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn start_logging(context: &Context) {
    let level = context.config.text("log.level");
    // Only our own crates at the chosen level: what libraries say at `debug` helps nobody who runs agents.
    // Our engines say themselves what their drivers complain of.
    let default = if matches!(level, "debug" | "trace") {
        format!("warn,sqlx=error,genai=error,adjutant={level}")
    } else {
        format!("{level},sqlx=error,genai=error")
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = if context.config.text("log.format") == "json" {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(context.out.has_color()).try_init()
    };
    if let Err(error) = started {
        context
            .out
            .tell(&format!("warning: logging is off: {error}"));
    }
}
