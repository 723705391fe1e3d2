//! An agent in a process of its own: reads a text file, and writes a Markdown report about its words.
//!
//! Each part of the work is a step. Kill the process, or the whole runtime, at any time and give the same command
//! again: what was done is not done again, as `word-report.log` shows.

mod report;
mod text;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use adjutant_agent::{AgentError, Run, RunResult};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    report::Report,
    text::{Section, Term},
};

fn main() -> ExitCode {
    adjutant_agent::serve("word-report", word_report)
}

/// The run's settings, all optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// The report's file; default `word-report.md`.
    out: Option<PathBuf>,
    /// The file that gets a line for each step done; default `word-report.log` beside the report.
    log: Option<PathBuf>,
    /// Makes each step take this long, to have time to interrupt it.
    pause_ms: u64,
}

/// Input for programs; people write the file's name as text.
#[derive(Debug, Deserialize)]
struct Input {
    file: PathBuf,
}

/// Where things are.
struct Place {
    file: PathBuf,
    out: PathBuf,
    log: PathBuf,
    pause: Duration,
}

/// What `read` found: the file's size and fingerprint, and where its sections are. The text itself stays in the file,
/// because a step's result is kept for as long as the run is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outline {
    bytes: u64,
    fingerprint: u64,
    sections: Vec<Section>,
}

fn word_report(run: &mut Run) -> RunResult<Value> {
    let place = Place::of(run)?;

    run.progress(0.0, "reading")?;
    let outline = run.step("read", || place.done("read", &outline(&place.file)?))?;

    run.progress(20.0, "counting words")?;
    let words: Vec<u64> = run.step_with("count words", &outline.fingerprint, |_| {
        let text = place.text(&outline)?;
        let count = |section: &Section| text::count_words(section.of(&text));
        place.done("count words", &outline.sections.iter().map(count).collect())
    })?;

    // Steps alone would do: the checkpoint shows what a run knows so far to `agent runs show`.
    let total: u64 = words.iter().sum();
    run.checkpoint(&json!({ "sections": outline.sections.len(), "words": total }))?;

    run.progress(40.0, "ranking terms")?;
    let terms: Vec<Term> = run.step_with("top terms", &outline.fingerprint, |_| {
        place.done("top terms", &text::top_terms(&place.text(&outline)?, 10))
    })?;

    run.progress(60.0, "looking for long sentences")?;
    let sentences: Vec<String> =
        run.step_with("longest sentences", &outline.fingerprint, |_| {
            place.done(
                "longest sentences",
                &text::longest_sentences(&place.text(&outline)?, 3),
            )
        })?;

    run.progress(80.0, "writing the report")?;
    let report = Report {
        title: place.title(),
        bytes: outline.bytes,
        sections: outline.sections.iter().zip(&words).collect(),
        terms: &terms,
        sentences: &sentences,
    };
    run.step("write report", || {
        replace(&place.out, &report.to_string())?;
        place.done("write report", &())
    })?;

    run.progress(100.0, "done")?;
    run.message(&format!("{total} words: see {}", place.out.display()))?;
    Ok(json!({
        "report": place.out,
        "words": total,
        "sections": outline.sections.len(),
        "top_terms": terms.iter().map(|term| &term.text).collect::<Vec<_>>(),
    }))
}

impl Place {
    /// Relative paths count from the folder that the user called the agent in.
    fn of(run: &Run) -> RunResult<Self> {
        let cwd = run.metadata().get("cwd").and_then(Value::as_str);
        let cwd = PathBuf::from(cwd.unwrap_or("."));
        let params = run.params::<Option<Params>>()?.unwrap_or_default();
        let prompt = run.prompt();
        let file = match prompt.trim() {
            "" => run.data::<Input>().map_err(|_| no_file())?.file,
            name => PathBuf::from(name),
        };
        let out = cwd.join(params.out.unwrap_or_else(|| "word-report.md".into()));
        let log = params.log.map_or_else(
            || out.with_file_name("word-report.log"),
            |log| cwd.join(log),
        );
        Ok(Self {
            file: cwd.join(file),
            out,
            log,
            pause: Duration::from_millis(params.pause_ms),
        })
    }

    fn title(&self) -> String {
        let name = self.file.file_name().unwrap_or(self.file.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// The text, if it is still the one that `read` saw.
    fn text(&self, outline: &Outline) -> Result<String, AgentError> {
        let text = read(&self.file)?;
        if text::fingerprint(&text) == outline.fingerprint {
            return Ok(text);
        }
        let why = format!(
            "{} changed while it was being worked on",
            self.file.display()
        );
        Err(AgentError::permanent("file_changed", why))
    }

    /// The end of a step: takes its time, and leaves a line that shows that it was done.
    fn done<T: Clone>(&self, step: &str, result: &T) -> Result<T, AgentError> {
        thread::sleep(self.pause);
        let mut log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        log.write_all(format!("{step}\n").as_bytes())?;
        Ok(result.clone())
    }
}

fn no_file() -> AgentError {
    let why = "name a text file: agent run examples/word-report README.md";
    AgentError::permanent("invalid_input", why)
}

fn read(file: &Path) -> Result<String, AgentError> {
    fs::read_to_string(file).map_err(|error| {
        let why = format!("{} cannot be read as text: {error}", file.display());
        AgentError::permanent("unreadable_file", why)
    })
}

fn outline(file: &Path) -> Result<Outline, AgentError> {
    let text = read(file)?;
    Ok(Outline {
        bytes: text.len() as u64,
        fingerprint: text::fingerprint(&text),
        sections: text::sections(&text),
    })
}

/// Writes beside the file and renames, so that nobody ever reads half a report.
fn replace(file: &Path, text: &str) -> Result<(), AgentError> {
    let beside = file.with_extension("md.tmp");
    fs::write(&beside, text)?;
    Ok(fs::rename(&beside, file)?)
}
