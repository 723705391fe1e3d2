//! The only place that writes to the terminal: results on stdout, everything else on stderr.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::{
    failure::{Failure, Result},
    paste::Paste,
};

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON document; a list of events is one JSON object a line.
    Json,
    /// One YAML document.
    Yaml,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Also in files and pipes.
    Always,
    /// Nowhere.
    Never,
}

/// Colours of the terminal's own palette, so that every theme stays readable.
#[derive(Debug, Clone, Copy)]
pub enum Paint {
    Green,
    Red,
    Yellow,
    Cyan,
    Dim,
    Bold,
}

/// Where output goes and how it looks.
#[derive(Debug, Clone)]
pub struct Output {
    pub format: Format,
    pub quiet: bool,
    color: bool,
    paste: Paste,
}

impl Output {
    pub fn new(format: Option<Format>, quiet: bool, color: Color, no_color: bool) -> Self {
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !no_color && io::stderr().is_terminal(),
        };
        Self {
            format: format.unwrap_or(Format::Table),
            quiet,
            color,
            paste: Paste::default(),
        }
    }

    /// The same, telling commands as they have to be given for the same store.
    #[must_use]
    pub fn telling(self, paste: Paste) -> Self {
        Self { paste, ..self }
    }

    /// A command of this program to tell the user, such as `runs list`.
    pub fn command(&self, rest: &str) -> String {
        self.paste.command(rest)
    }

    /// Advice to tell the user, whose commands stand in backquotes or behind a colon.
    pub fn advice(&self, text: &str) -> String {
        self.paste.advice(text)
    }

    /// Whether results are for programs.
    pub fn is_structured(&self) -> bool {
        self.format != Format::Table
    }

    /// Whether stderr shows colour.
    pub fn has_color(&self) -> bool {
        self.color
    }

    /// Text in colour, for stderr.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Green => 32,
            Paint::Red => 31,
            Paint::Yellow => 33,
            Paint::Cyan => 36,
            Paint::Dim => 2,
            Paint::Bold => 1,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// One line of result.
    pub fn line(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::io("failed to write to stdout", &error))
    }

    /// One line of news about what is going on; not with `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.tell(text);
        }
    }

    /// The same in place of the last line, where the terminal can do that.
    pub fn replace_last(&self, text: &str) {
        if self.color && io::stderr().is_terminal() {
            self.note(&format!("\u{1b}[1A\u{1b}[2K{text}"));
        } else {
            self.note(text);
        }
    }

    /// One line on stderr that is not to be missed.
    pub fn tell(&self, text: &str) {
        // With stderr gone there is nobody left to tell.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Text on stderr without a line's end, such as a question.
    pub fn ask(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
    }

    /// A piece of a line of news.
    pub fn piece(&self, text: &str) {
        if !self.quiet && !text.is_empty() {
            self.ask(text);
        }
    }

    /// A value in the chosen structured form; as JSON where people were to read it.
    pub fn value(&self, value: &impl Serialize) -> Result<()> {
        // A tree first: payloads are kept as the text in which they came, which would be printed as it is.
        let text = serde_json::to_value(value).map_err(|error| error.to_string());
        let text = text.and_then(|tree| match self.format {
            Format::Yaml => serde_saphyr::to_string(&tree).map_err(|error| error.to_string()),
            _ => serde_json::to_string_pretty(&tree).map_err(|error| error.to_string()),
        });
        let text = text.map_err(|error| {
            Failure::failed(crate::failure::IO, "failed to print the result").because(error)
        })?;
        self.line(text.trim_end())
    }

    /// A value as one line of JSON.
    pub fn json_line(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).map_err(|error| {
            Failure::failed(crate::failure::IO, "failed to print the result")
                .because(error.to_string())
        })?;
        self.line(&text)
    }

    /// Rows under headings.
    pub fn table(&self, headings: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(headings.to_vec());
        for row in rows {
            table.add_row(row);
        }
        // Columns begin at the left edge, with two spaces between them, and lines end where their text ends.
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.line(&table.trim_fmt())
    }

    /// Names and values below each other; values may have several lines.
    pub fn fields(&self, fields: &[(&str, String)]) -> Result<()> {
        let width = fields
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or_default();
        for (name, value) in fields {
            let value = value.replace('\n', &format!("\n{:width$}  ", ""));
            self.line(&format!("{name:width$}  {value}"))?;
        }
        Ok(())
    }

    /// What went wrong, on stderr.
    pub fn failure(&self, failure: &Failure) {
        let hint = failure.hint.as_deref().map(|hint| self.advice(hint));
        if self.format == Format::Json {
            let failure = Failure {
                hint,
                ..failure.clone()
            };
            let json = serde_json::json!({ "error": failure });
            return self.tell(&json.to_string());
        }
        let label = self.paint(Paint::Red, "error:");
        let code = self.paint(Paint::Dim, &format!("[{}]", failure.code));
        self.tell(&format!("{label} {} {code}", failure.message));
        if !failure.causes.is_empty() {
            let label = self.paint(Paint::Dim, "cause:");
            self.tell(&format!("{label} {}", failure.causes.join(": ")));
        }
        if let Some(hint) = hint {
            let label = self.paint(Paint::Cyan, "hint:");
            self.tell(&format!("{label} {hint}"));
        }
    }
}
