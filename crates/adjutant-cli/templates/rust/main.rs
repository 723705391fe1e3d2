//! Counts the words of a text or a file. The steps are done once, whatever dies in between.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    adjutant_agent::serve("{{name}}", |run| {
        let prompt = run.prompt();
        // Paths are relative to whoever started the run, not to this folder.
        let folder = run.metadata()["cwd"].as_str().unwrap_or(".").to_owned();
        let text = run.step("read", || {
            let path = Path::new(&folder).join(&prompt);
            Ok(if path.is_file() { std::fs::read_to_string(path)? } else { prompt.clone() })
        })?;
        let words = run.step("count", || Ok(text.split_whitespace().count()))?;
        Ok(format!("{words} words"))
    })
}
