//! `agent logs`: what agents have logged, while they run and afterwards.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use adjutant::{
    Store,
    core::RunId,
    logs::{Level, Query, Reader, Record, Stream},
};
use clap::Args;
use regex::Regex;

use crate::{
    context::Context,
    exit::Exit,
    failure::{Failure, INSTANCE_NOT_FOUND, Result},
    ids,
    interrupt::Interrupts,
    project::LOGS_DIR,
    units::parse_duration,
};

/// How often a follower looks for new lines.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is asked whether the run has ended.
const ASK: Duration = Duration::from_secs(1);
/// How long lines of an ended run may still be on their way to their file.
const LAST_LINES: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(
    after_help = "Without RUN or INSTANCE, the logs of all instances of the project are shown in the order of their times."
)]
pub struct Logs {
    /// A run (its id, a part of it, or `last`), or the name of an instance
    #[arg(value_name = "RUN|INSTANCE")]
    target: Option<String>,
    /// Go on with new lines, until the run ends or Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only lines that are not older than this, such as 10m, or than a time, such as 2026-11-21T14:00:00Z
    #[arg(long, value_name = "AGE|TIME", value_parser = parse_since)]
    since: Option<jiff::Timestamp>,
    /// Only lines of this level and worse: trace, debug, info, warn or error
    #[arg(long, value_name = "LEVEL")]
    level: Option<Level>,
    /// Only lines whose message matches a regular expression
    #[arg(long, value_name = "REGEX")]
    grep: Option<Regex>,
    /// Only the last so many of the lines that are there
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
}

/// Whose lines are shown.
enum Target {
    All,
    Run(RunId),
    Instance(String),
}

impl Logs {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let target = self.target(context).await?;
        let query = Query {
            run_id: match &target {
                Target::Run(run) => Some(run.to_string()),
                _ => None,
            },
            instance: match &target {
                Target::Instance(name) => Some(name.clone()),
                _ => None,
            },
            since: self.since,
            level: self.level,
            grep: self.grep.clone(),
        };
        let mut reader = reader(context, query)?;
        let shown = self.show_present(context, &target, &mut reader)?;
        if !self.follow {
            if shown == 0 {
                context
                    .out
                    .note("no lines; agents log what they write to stderr");
            }
            return Ok(Exit::Ok);
        }
        follow(context, &target, &mut reader).await
    }

    async fn target(&self, context: &Context) -> Result<Target> {
        let Some(text) = &self.target else {
            return Ok(Target::All);
        };
        // The lines of a run are there even when the store has forgotten it, or is elsewhere.
        if let Ok(run) = text.parse() {
            return Ok(Target::Run(run));
        }
        let query = Query {
            instance: Some(text.clone()),
            ..Query::default()
        };
        if reader(context, query)?
            .next_record()
            .map_err(failed)?
            .is_some()
        {
            return Ok(Target::Instance(text.clone()));
        }
        let found = async { ids::resolve(&*context.store().await?, text).await };
        match found.await {
            Ok(run) => Ok(Target::Run(run)),
            // What looks like part of a run's id is answered as one.
            Err(failure) if text == "last" || !text.contains('-') => Err(failure),
            Err(_) if self.follow => Ok(Target::Instance(text.clone())),
            Err(_) => Err(Failure::usage(
                INSTANCE_NOT_FOUND,
                format!("no instance with the name `{text}` has logged anything"),
            )
            .hint(
                "see the names of those that live with `agent ps`; `agent logs` shows all lines",
            )),
        }
    }

    /// Prints the lines that are there now; returns how many.
    fn show_present(
        &self,
        context: &Context,
        target: &Target,
        reader: &mut Reader,
    ) -> Result<usize> {
        let mut last = VecDeque::new();
        let mut shown = 0;
        while let Some(record) = reader.next_record().map_err(failed)? {
            shown += 1;
            let Some(limit) = self.lines else {
                print(context, target, &record)?;
                continue;
            };
            last.push_back(record);
            if last.len() > limit {
                last.pop_front();
            }
        }
        for record in &last {
            print(context, target, record)?;
        }
        Ok(shown)
    }
}

async fn follow(context: &Context, target: &Target, reader: &mut Reader) -> Result<Exit> {
    let mut interrupts = Interrupts::new()?;
    let mut look = tokio::time::interval(LOOK);
    let ended = ended(context, target);
    let mut ended = std::pin::pin!(ended);
    let mut is_over = false;
    while !is_over {
        tokio::select! {
            _ = look.tick() => {}
            () = &mut ended => is_over = true,
            _ = interrupts.next() => return Ok(Exit::Interrupted),
        }
        while let Some(record) = reader.next_record().map_err(failed)? {
            print(context, target, &record)?;
        }
        if reader.lost_lines() {
            context
                .out
                .tell("warning: lines were removed before they were read here");
        }
    }
    Ok(Exit::Ok)
}

/// Waits until there will be no more lines, which can be told of a run only.
async fn ended(context: &Context, target: &Target) {
    let Target::Run(run) = target else {
        return std::future::pending().await;
    };
    let Ok(store) = context.store().await else {
        return std::future::pending().await;
    };
    let store: Arc<dyn Store> = store;
    let mut ask = tokio::time::interval(ASK);
    loop {
        ask.tick().await;
        let view = store.get(*run).await;
        if view.is_ok_and(|view| view.is_none_or(|view| view.run.state.is_settled())) {
            tokio::time::sleep(LAST_LINES).await;
            return;
        }
    }
}

fn reader(context: &Context, query: Query) -> Result<Reader> {
    let dir = context.project.state_dir().join(LOGS_DIR);
    Reader::new(dir, query).map_err(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: adjutant::logs::Error) -> Failure {
    let failure = Failure::failed(crate::failure::IO, format!("failed to {error}"));
    match std::error::Error::source(&error) {
        Some(source) => failure.because(source.to_string()),
        None => failure,
    }
}

fn print(context: &Context, target: &Target, record: &Record) -> Result<()> {
    if context.out.is_structured() {
        return context.out.json_line(record);
    }
    context.out.line(&line(target, record))
}

/// A line for people, without what all lines have in common.
fn line(target: &Target, record: &Record) -> String {
    let level = record.level.as_str().to_ascii_uppercase();
    let mut line = format!("{:.3} {level:<5}", record.time);
    if !matches!(target, Target::Instance(_)) {
        line.push_str(&format!(" {}", record.instance));
    }
    if !matches!(target, Target::Run(_)) {
        line.push_str(&format!(" {}", record.run_id.as_deref().unwrap_or("-")));
    }
    if record.stream != Stream::Stderr {
        line.push_str(&format!(" [{}]", record.stream));
    }
    line.push_str(&format!(" {}", record.shown()));
    line
}

fn parse_since(text: &str) -> std::result::Result<jiff::Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let age = parse_duration(text).map_err(|_| {
        format!(
            "`{text}` is neither a duration, such as 10m, nor a time, such as 2026-11-21T14:00:00Z"
        )
    })?;
    let now = jiff::Timestamp::now();
    now.checked_sub(age).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_an_age_or_a_time() {
        let age = jiff::Timestamp::now().duration_since(parse_since("10m").unwrap());
        assert!((599..605).contains(&age.as_secs()), "{age}");
        let time = parse_since("2026-11-21T14:00:00Z").unwrap();
        assert_eq!(time.to_string(), "2026-11-21T14:00:00Z");
        assert!(parse_since("yesterday").is_err());
    }
}
