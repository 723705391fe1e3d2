//! The two agents: `triage` plans and reports, `log-chunk` reads one piece of the log.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use adjutant::{
    AgentError, AgentFn, AgentRegistry, RunContext, RunInput, RunResult, core::Delegate,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::analysis::{Findings, chunks};

/// Lines that one child run reads.
const CHUNK_LINES: usize = 25;

/// What `triage` is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The log.
    pub log: PathBuf,
    /// Where the report goes; each chunk leaves a line in the file beside it with `.log` appended.
    pub report: PathBuf,
    /// A pause in each chunk, to have time to look, or to kill.
    pub pause_ms: u64,
}

/// One piece of the log.
#[derive(Debug, Serialize, Deserialize)]
struct Piece {
    number: usize,
    text: String,
    job: Job,
}

/// Both agents.
pub fn agents() -> AgentRegistry {
    AgentRegistry::new()
        .with(AgentFn::new(
            "triage",
            |ctx| async move { triage(&ctx).await },
        ))
        .with(AgentFn::new("log-chunk", |ctx| async move {
            read_chunk(&ctx).await
        }))
}

async fn triage(ctx: &RunContext) -> Result<RunResult, AgentError> {
    let job: Job = ctx.input_data()?;
    let pieces = ctx
        .step("split", || async {
            Ok(chunks(&read(&job.log)?, CHUNK_LINES))
        })
        .await?;
    ctx.checkpoint(&json!({ "chunks": pieces.len() })).await?;

    let mut fan_out = Delegate::new("read chunks");
    for (number, text) in pieces.into_iter().enumerate() {
        let piece = serde_json::to_value(Piece {
            number,
            text,
            job: job.clone(),
        })?;
        fan_out = fan_out.child("log-chunk", RunInput::data(piece));
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

async fn read_chunk(ctx: &RunContext) -> Result<RunResult, AgentError> {
    let piece: Piece = ctx.input_data()?;
    let findings = ctx
        .step("read", || async {
            tokio::time::sleep(Duration::from_millis(piece.job.pause_ms)).await;
            leave_a_line(&piece)?;
            Ok(Findings::of(&piece.text))
        })
        .await?;
    Ok(RunResult::output(serde_json::to_value(findings)?))
}

fn read(path: &Path) -> Result<String, AgentError> {
    // A file that is not there will not be there in a second either.
    std::fs::read_to_string(path).map_err(|error| {
        AgentError::permanent("unreadable_log", format!("{}: {error}", path.display()))
    })
}

fn leave_a_line(piece: &Piece) -> std::io::Result<()> {
    let mut path = piece.job.report.clone().into_os_string();
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
