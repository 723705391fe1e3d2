//! The two agents: `triage` plans and reports, `log-chunk` reads one piece of the log.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use adjutant::{
    AgentError, AgentFn, AgentRegistry, Delegate, Fingerprint, RunContext, RunInput, RunResult,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    analysis::Findings,
    log::{self, Piece},
};

/// What `triage` is asked to do. Whoever asks for the same gets the same run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The log.
    pub log: PathBuf,
    /// What it says.
    pub content: Fingerprint,
    /// Where the report goes; each chunk leaves a line in the file beside it with `.log` appended.
    pub report: PathBuf,
}

/// What `log-chunk` is asked to do.
#[derive(Debug, Serialize, Deserialize)]
struct Chunk {
    piece: Piece,
    job: Job,
}

/// Both agents. The pause in each chunk gives time to look, or to kill.
pub fn agents(pause: Duration) -> AgentRegistry {
    AgentRegistry::new()
        .with(AgentFn::new(
            "triage",
            |ctx| async move { triage(&ctx).await },
        ))
        .with(AgentFn::new("log-chunk", move |ctx| async move {
            read_chunk(&ctx, pause).await
        }))
}

async fn triage(ctx: &RunContext) -> Result<RunResult, AgentError> {
    let job: Job = ctx.input_data()?;
    let pieces = ctx
        .step("split", || async {
            let text = log::read(&job.log).map_err(|error| log::unreadable(&error))?;
            if log::fingerprint(&text) != job.content {
                return Err(log::changed(&job.log));
            }
            Ok(log::pieces(&text))
        })
        .await?;
    ctx.checkpoint(&json!({ "chunks": pieces.len() })).await?;

    let mut fan_out = Delegate::new("read chunks");
    for piece in pieces {
        let job = job.clone();
        let chunk = serde_json::to_value(Chunk { piece, job })?;
        fan_out = fan_out.child("log-chunk", RunInput::data(chunk));
    }
    let mut findings = Findings::default();
    for chunk in ctx.delegate(fan_out).await? {
        findings.merge(chunk.output.to()?);
    }
    ctx.checkpoint(&findings).await?;

    let name = job
        .log
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    ctx.step("report", || async {
        Ok(replace(&job.report, &findings.report(&name))?)
    })
    .await?;
    ctx.progress(100.0, "reported").await?;
    let errors = findings
        .groups
        .values()
        .filter(|group| group.level == "ERROR")
        .count();
    Ok(RunResult::output(json!({
        "report": job.report,
        "lines": findings.lines,
        "kinds": findings.groups.len(),
        "kinds_of_errors": errors,
    })))
}

async fn read_chunk(ctx: &RunContext, pause: Duration) -> Result<RunResult, AgentError> {
    let Chunk { piece, job } = ctx.input_data()?;
    let findings = ctx
        .step("read", || async {
            tokio::time::sleep(pause).await;
            let findings = Findings::of(&piece.read(&job.log)?);
            leave_a_line(&job, &piece)?;
            Ok(findings)
        })
        .await?;
    Ok(RunResult::output(serde_json::to_value(findings)?))
}

fn leave_a_line(job: &Job, piece: &Piece) -> std::io::Result<()> {
    let mut path = job.report.clone().into_os_string();
    path.push(".log");
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "chunk {}", piece.number)
}

/// Writes a file whole or not at all.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("part");
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(beside, path)
}
