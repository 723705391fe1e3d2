//! `agent conformance`: any program against the rules of the agent wire.

use std::time::Duration;

use adjutant_conformance::{
    Options, Outcome, Program, Protocol, Report, Transport, Verdict, case_names, check,
};
use clap::{Args, ValueEnum};

use crate::{context::Context, exit::Exit, failure::Result, output::Paint, units};

/// Hold an agent program to the rules of the agent wire, case by case
///
/// Starts the program about once per case and plays the runtime. Rules that every agent has to keep are proved on any
/// program; the others need an agent named `conformance` (docs/reference/agent-wire.md).
#[derive(Debug, Args)]
#[command(after_help = "Example:  agent conformance -- python3 agent.py\n\
                        Exit status: 0 all rules kept, 1 a rule is broken")]
pub struct Conformance {
    /// What the program speaks
    #[arg(long, value_enum, default_value_t)]
    protocol: Speaks,
    /// How the program is reached
    #[arg(long, value_enum, default_value_t)]
    transport: Reached,
    /// Only cases whose name contains this; may be given again
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// No cases whose name contains this; may be given again
    #[arg(long, value_name = "TEXT")]
    skip: Vec<String>,
    /// No cases above this level of the wire
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=3))]
    level: Option<u8>,
    /// How long the program may be silent while something is expected
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::parse_duration)]
    patience: Duration,
    /// Only list the cases and their rules
    #[arg(long)]
    list: bool,
    /// The program and its arguments
    #[arg(last = true, required_unless_present = "list", value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Speaks {
    #[default]
    Wire,
    Exec,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Reached {
    #[default]
    Stdio,
    Unix,
    Websocket,
}

impl Conformance {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        if self.list {
            return self.list_cases(context);
        }
        let program = self.program();
        let options = Options {
            only: self.only,
            skip: self.skip,
            max_level: self.level,
        };
        // Plain blocking work, with threads of its own.
        let checked = tokio::task::spawn_blocking(move || check(&program, &options));
        let report = checked
            .await
            .map_err(|error| std::io::Error::other(error.to_string()))
            .map_err(|error| crate::failure::Failure::io("failed to run the cases", &error))?;
        show(context, &report)?;
        Ok(if report.failed() == 0 {
            Exit::Ok
        } else {
            Exit::Failed
        })
    }

    fn protocol(&self) -> Protocol {
        match self.protocol {
            Speaks::Wire => Protocol::Wire,
            Speaks::Exec => Protocol::Exec,
        }
    }

    fn program(&self) -> Program {
        let mut program = Program::new(self.command.iter().cloned());
        program.protocol = self.protocol();
        program.patience = self.patience;
        program.transport = match self.transport {
            Reached::Stdio => Transport::Stdio,
            Reached::Unix => Transport::Unix,
            Reached::Websocket => Transport::WebSocket,
        };
        program
    }

    fn list_cases(&self, context: &Context) -> Result<Exit> {
        let cases = case_names(self.protocol());
        if context.out.is_structured() {
            let list: Vec<_> = cases
                .iter()
                .map(|(name, rule)| serde_json::json!({ "name": name, "rule": rule }))
                .collect();
            context.out.value(&list)?;
        } else {
            let rows = cases
                .iter()
                .map(|(name, rule)| vec![(*name).to_owned(), (*rule).to_owned()]);
            context.out.table(&["CASE", "RULE"], rows.collect())?;
        }
        Ok(Exit::Ok)
    }
}

fn show(context: &Context, report: &Report) -> Result<()> {
    let out = &context.out;
    if out.is_structured() {
        let (passed, failed, skipped) = (report.passed(), report.failed(), report.skipped());
        return out.value(&serde_json::json!({
            "agent": report.agent,
            "passed": passed,
            "failed": failed,
            "skipped": skipped,
            "cases": report.cases,
        }));
    }
    let rows = report.cases.iter().map(row).collect();
    out.table(&["CASE", "LEVEL", "RESULT", "MS", "RULE"], rows)?;
    for case in &report.cases {
        if case.verdict == Verdict::Failed {
            let name = out.paint(Paint::Red, case.name);
            out.tell(&format!("{name}: {}", case.why));
        }
    }
    out.note(&format!(
        "{}: {} passed, {} failed, {} skipped",
        if report.agent.is_empty() {
            "the program"
        } else {
            &report.agent
        },
        report.passed(),
        report.failed(),
        report.skipped()
    ));
    let reason = report
        .cases
        .iter()
        .find(|case| case.verdict == Verdict::Skipped);
    if let Some(case) = reason {
        out.note(&format!("skipped, for example {}: {}", case.name, case.why));
    }
    Ok(())
}

fn row(case: &Outcome) -> Vec<String> {
    vec![
        case.name.to_owned(),
        case.level.to_string(),
        case.verdict.as_str().to_owned(),
        case.took.as_millis().to_string(),
        case.rule.to_owned(),
    ]
}
