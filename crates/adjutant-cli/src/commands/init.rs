//! `agent init`: a small agent that works at once, to start from.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};

use crate::{
    agents::MANIFEST_FILE,
    context::Context,
    exit::Exit,
    failure::{Failure, Result, USAGE},
    paste::quoted,
};

#[derive(Debug, Args)]
pub struct Init {
    /// The folder to make [default: this one]
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The language of the agent
    #[arg(long, value_enum, default_value_t = Language::Python)]
    lang: Language,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    /// Python 3.9 or later, without dependencies
    Python,
    /// A program built with cargo
    Rust,
    /// A POSIX shell script
    Shell,
}

/// A file of a template: where it goes, what it says.
type Template = (&'static str, &'static str);

const PYTHON: &[Template] = &[
    (
        MANIFEST_FILE,
        include_str!("../../templates/python/agent.yaml"),
    ),
    ("agent.py", include_str!("../../templates/python/agent.py")),
    (
        "adjutant_agent.py",
        include_str!("../../../adjutant-agent/python/adjutant_agent.py"),
    ),
];
const RUST: &[Template] = &[
    (
        MANIFEST_FILE,
        include_str!("../../templates/rust/agent.yaml"),
    ),
    (
        "Cargo.toml",
        include_str!("../../templates/rust/Cargo.toml.template"),
    ),
    ("src/main.rs", include_str!("../../templates/rust/main.rs")),
    (".gitignore", "target\n"),
];
const SHELL: &[Template] = &[
    (
        MANIFEST_FILE,
        include_str!("../../templates/shell/agent.yaml"),
    ),
    ("agent.sh", include_str!("../../templates/shell/agent.sh")),
];

impl Init {
    pub fn run(self, context: &Context) -> Result<Exit> {
        let files = match self.lang {
            Language::Python => PYTHON,
            Language::Rust => RUST,
            Language::Shell => SHELL,
        };
        // All or nothing: what is there already is somebody's work.
        if let Some((taken, _)) = files.iter().find(|(name, _)| self.dir.join(name).exists()) {
            let message = format!("{} is there already", self.dir.join(taken).display());
            return Err(Failure::usage(USAGE, message).hint("name another folder: agent init DIR"));
        }
        let name = self.agent_name(context);
        for (file, text) in files {
            let text = text
                .replace("{{name}}", &name)
                .replace("{{dependency}}", &dependency(context));
            write(&self.dir.join(file), &text)?;
        }
        let out = &context.out;
        if out.is_structured() {
            let files: Vec<PathBuf> = files.iter().map(|(file, _)| self.dir.join(file)).collect();
            out.value(&serde_json::json!({ "agent": name, "files": files }))?;
            return Ok(Exit::Ok);
        }
        for (file, _) in files {
            out.note(&format!("wrote {}", self.dir.join(file).display()));
        }
        let dir = quoted(&self.dir.display().to_string());
        out.note(&format!(
            "run it with: {}",
            out.command(&format!("run {dir} 'to be or not to be'"))
        ));
        Ok(Exit::Ok)
    }

    /// The folder's name, as far as an agent may have it.
    fn agent_name(&self, context: &Context) -> String {
        let path = context.project.cwd.join(&self.dir);
        // `.` and `..` have no name of their own.
        let named = fs::canonicalize(&path).unwrap_or(path);
        let folder = named
            .file_name()
            .map(|name| name.to_string_lossy().to_ascii_lowercase());
        let name: String = folder
            .unwrap_or_default()
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '_' {
                    c
                } else {
                    '-'
                }
            })
            .take(60)
            .collect();
        let name = name.trim_matches(['-', '_']);
        match name.chars().next() {
            Some(first) if first.is_ascii_alphabetic() => name.to_owned(),
            _ => format!("agent-{name}").trim_end_matches('-').to_owned(),
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text));
    let executable = || {
        if path.extension().is_some_and(|extension| extension == "sh") {
            return fs::set_permissions(path, fs::Permissions::from_mode(0o755));
        }
        Ok(())
    };
    written
        .and_then(|()| executable())
        .map_err(|error| Failure::io(format!("failed to write {}", path.display()), &error))
}

/// How a Rust agent names its library: by path within or beside a checkout, else by version.
fn dependency(context: &Context) -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let around = context.project.cwd.ancestors().chain(program.ancestors());
    let library = around
        .map(|folder| folder.join("crates/adjutant-agent"))
        .find(|library| library.join("Cargo.toml").is_file());
    match library {
        Some(path) => format!("{{ path = {:?} }}", path.display().to_string()),
        None => format!("{:?}", env!("CARGO_PKG_VERSION")),
    }
}
