//! `cargo xtask tidy`: what every file keeps to, beyond what compiler, clippy and rustfmt look at.
//!
//! A rule is a function from one file to its problems; [`RULES`] lists them all.

mod manifest;
mod source;
mod text;

use std::fs;

use anyhow::{Context, Result, bail};

use crate::{
    command::{self, Command},
    workspace::Workspace,
};

pub const COMMAND: Command = Command {
    name: "tidy",
    args: "",
    summary: "hold every file to the house rules no compiler knows",
    help: "Crates begin with `//!` docs; machine.rs files know neither tokio nor the clock; doctests run; manifests \
           inherit from\nthe workspace; nothing unfinished, no absolute machine paths, a newline at the end. Long Rust \
           files are reported only.",
    run: |workspace, args| {
        command::no_args(args)?;
        tidy(workspace)
    },
};

/// Rust files above this many lines are pointed out: there are usually two ideas inside.
const LONG_FILE: usize = 600;

/// A file that is part of the repository.
struct File {
    /// Relative to the root.
    path: String,
    text: String,
}

impl File {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    fn has_extension(&self, extension: &str) -> bool {
        self.name()
            .rsplit_once('.')
            .is_some_and(|(_, found)| found == extension)
    }

    /// A problem in one line of this file, counted from zero.
    fn problem(&self, index: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, index + 1)
    }

    /// One problem for each line that `wrong` objects to.
    fn lines_where(&self, wrong: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
        let lines = self
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| wrong(line));
        lines.map(|(index, _)| self.problem(index, what)).collect()
    }
}

/// Looks at one file and names what is wrong with it.
type Rule = fn(&File) -> Vec<String>;

const RULES: &[Rule] = &[
    source::crate_begins_with_docs,
    source::machine_is_pure,
    source::doctests_run,
    source::nothing_left_to_do,
    manifest::inherits_from_the_workspace,
    text::ends_in_a_newline,
    text::names_no_machine_path,
];

/// Applies every rule to every file.
pub fn tidy(workspace: &Workspace) -> Result<()> {
    let files = files(workspace)?;
    for file in files.iter().filter(|file| file.has_extension("rs")) {
        let lines = file.text.lines().count();
        if lines > LONG_FILE {
            println!(
                "note: {} has {lines} lines: are there two ideas in it?",
                file.path
            );
        }
    }
    let problems = problems(&files);
    if problems.is_empty() {
        println!("tidy: {} files keep to the rules", files.len());
        return Ok(());
    }
    for problem in &problems {
        println!("{problem}");
    }
    bail!("{} places to tidy up", problems.len())
}

fn problems(files: &[File]) -> Vec<String> {
    files
        .iter()
        .flat_map(|file| RULES.iter().flat_map(move |rule| rule(file)))
        .collect()
}

/// Reads the text files among the repository's files.
fn files(workspace: &Workspace) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for path in workspace.files()? {
        let bytes =
            fs::read(workspace.path(&path)).with_context(|| format!("failed to read {path}"))?;
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => files.push(File { path, text }),
            // Images and the like have no lines to look at.
            _ => {}
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one rule says about one file.
    pub fn check(rule: Rule, path: &str, text: &str) -> Vec<String> {
        rule(&File {
            path: path.to_owned(),
            text: text.to_owned(),
        })
    }

    #[test]
    fn this_repository_is_tidy() {
        let files = files(&Workspace::find().unwrap()).unwrap();
        assert_eq!(problems(&files), Vec::<String>::new());
    }

    #[test]
    fn a_problem_says_where_it_is() {
        let found = check(
            text::names_no_machine_path,
            "docs/a.md",
            concat!("one\nsee /ho", "me/x\n"),
        );
        assert!(found[0].starts_with("docs/a.md:2: "), "{found:?}");
    }
}
