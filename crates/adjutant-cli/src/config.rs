//! Settings: defaults, then the file, then the environment, then flags; each value knows where it came from.

mod environment;
mod file;
pub mod keys;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use adjutant::{RunnerConfig, Synchronous, core::Limits, has_password, logs, shown_url};
use serde::Serialize;

use crate::{
    equipment::{Blocks, blocks},
    failure::{CONFIG_INVALID, Failure, Result},
    project::{CONFIG_FILE, LOGS_DIR, Project},
    sections, units,
};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Default,
    File { path: PathBuf, line: u64 },
    Environment(String),
    Flag(&'static str),
}

impl Origin {
    /// For people.
    pub fn describe(&self, project: &Project) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::File { path, line } => format!("{}:{line}", project.short(path)),
            Self::Environment(name) => format!("${name}"),
            Self::Flag(flag) => (*flag).to_owned(),
        }
    }
}

/// One value and its origin.
#[derive(Debug, Clone)]
pub struct Setting {
    pub value: String,
    pub origin: Origin,
}

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    settings: BTreeMap<&'static str, Setting>,
    /// What is no single value.
    pub blocks: Blocks,
    /// The file that was read, if there is one.
    pub file: Option<PathBuf>,
}

/// What the command line says about settings.
#[derive(Debug, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub store: Option<String>,
    pub log_format: Option<String>,
    pub verbose: u8,
}

impl Config {
    /// All settings as they are when nothing sets them.
    pub fn defaults() -> Self {
        Self {
            settings: keys::KEYS
                .iter()
                .map(|key| {
                    let value = key.default.to_owned();
                    (
                        key.name,
                        Setting {
                            value,
                            origin: Origin::Default,
                        },
                    )
                })
                .collect(),
            blocks: Blocks::default(),
            file: None,
        }
    }

    /// Reads everything that sets something, and reports everything that is wrong with it at once.
    pub fn load(project: &Project, flags: &Flags) -> Result<Self> {
        let mut config = Self::defaults();
        let mut problems = config.read_file(project, flags)?;
        let (found, unknown) = environment::read(crate::project::variables());
        problems.extend(unknown);
        for found in found {
            let origin = Origin::Environment(found.variable.clone());
            problems.extend(config.set(found.key, found.value, origin, &found.variable));
        }
        problems.extend(config.apply(flags));
        let blocks = std::mem::take(&mut config.blocks);
        config.blocks = blocks
            .with_environment(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        if problems.is_empty() {
            problems.extend(
                config
                    .runner()
                    .validate()
                    .err()
                    .into_iter()
                    .flat_map(|error| error.0),
            );
        }
        if problems.is_empty() {
            return Ok(config);
        }
        let message = match problems.len() {
            1 => "the configuration has a problem".to_owned(),
            many => format!("the configuration has {many} problems"),
        };
        Err(Failure::usage(CONFIG_INVALID, message)
            .because(problems.join("; "))
            .hint("all settings, with kinds and defaults: docs/reference/config.md"))
    }

    fn read_file(&mut self, project: &Project, flags: &Flags) -> Result<Vec<String>> {
        let named = flags
            .config
            .clone()
            .or_else(|| std::env::var_os("ADJUTANT_CONFIG").map(PathBuf::from));
        let (path, required) = match named {
            Some(path) => (path, true),
            None => (project.root.join(CONFIG_FILE), false),
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {
                return Ok(Vec::new());
            }
            Err(error) => {
                let message = format!("cannot read the configuration {}", path.display());
                return Err(Failure::usage(CONFIG_INVALID, message)
                    .because(error.to_string())
                    .hint("name an existing file with --config, or leave the flag out"));
            }
        };
        self.file = Some(path.clone());
        let shown = PathBuf::from(project.short(&path));
        let (text, blocks) = sections::split(&text, blocks::KEYS);
        match Blocks::read(&blocks) {
            Ok(blocks) => self.blocks = blocks,
            Err(error) => return Ok(vec![format!("{}: {error}", shown.display())]),
        }
        match file::parse(&shown, &text) {
            Err(problem) => Ok(vec![problem]),
            Ok(entries) => Ok(entries
                .into_iter()
                .filter_map(|entry| {
                    let origin = Origin::File {
                        path: path.clone(),
                        line: entry.line,
                    };
                    let place = format!("{}:{}", shown.display(), entry.line);
                    self.set(&entry.name, entry.value, origin, &place)
                })
                .collect()),
        }
    }

    fn apply(&mut self, flags: &Flags) -> Vec<String> {
        let level = match flags.verbose {
            0 => None,
            1 => Some("info"),
            2 => Some("debug"),
            _ => Some("trace"),
        };
        let flags = [
            ("store.url", flags.store.clone(), "--store"),
            ("log.format", flags.log_format.clone(), "--log-format"),
            ("log.level", level.map(str::to_owned), "-v"),
        ];
        let given = flags
            .into_iter()
            .filter_map(|(name, value, flag)| Some((name, value?, flag)));
        given
            .filter_map(|(name, value, flag)| self.set(name, value, Origin::Flag(flag), flag))
            .collect()
    }

    /// Sets one value; what is wrong with it is the answer.
    fn set(&mut self, name: &str, value: String, origin: Origin, place: &str) -> Option<String> {
        let Some(key) = keys::find(name) else {
            let near = keys::nearest(name, keys::KEYS.iter().map(|key| key.name));
            let advice = near
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            return Some(format!("{place}: `{name}` is no setting{advice}"));
        };
        if let Err(problem) = key.kind.check(&value) {
            return Some(format!("{place}: {name}: {problem}"));
        }
        self.settings.insert(key.name, Setting { value, origin });
        None
    }

    /// All settings, in the order of the reference page.
    pub fn all(&self) -> impl Iterator<Item = (&'static keys::Key, &Setting)> {
        keys::KEYS
            .iter()
            .filter_map(|key| Some((key, self.settings.get(key.name)?)))
    }

    /// One value as it may be shown.
    pub fn shown(&self, name: &str) -> String {
        shown_url(self.text(name))
    }

    /// One value as text. Every name in [`keys::KEYS`] has one.
    pub fn text(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", |setting| &setting.value)
    }

    /// Where a value came from.
    pub fn origin(&self, name: &str) -> &Origin {
        self.settings
            .get(name)
            .map_or(&Origin::Default, |setting| &setting.origin)
    }

    // Values were checked when they were set, so the fallbacks below are never taken.
    fn duration(&self, name: &str) -> Duration {
        units::parse_duration(self.text(name)).unwrap_or_default()
    }

    fn size(&self, name: &str) -> usize {
        units::parse_size(self.text(name)).unwrap_or_default()
    }

    fn count(&self, name: &str) -> u32 {
        self.text(name).parse().unwrap_or(1)
    }

    /// The worker's settings.
    pub fn runner(&self) -> RunnerConfig {
        RunnerConfig {
            concurrency: self.count("runner.concurrency") as usize,
            run_timeout: self.duration("runner.run_timeout"),
            heartbeat_interval: self.duration("runner.heartbeat_interval"),
            lease_ttl: self.duration("runner.lease_ttl"),
            max_retries: self.count("runner.max_attempts"),
            retry_backoff_base: self
                .text("runner.retry_backoff_base")
                .parse()
                .unwrap_or(2.0),
            retry_backoff_max: self.duration("runner.retry_backoff_max"),
            cancel_grace: self.duration("runner.cancel_grace"),
            drain_grace: self.duration("runner.drain_grace"),
            ..RunnerConfig::default()
        }
    }

    /// How many processes a worker may have.
    pub fn max_instances(&self) -> usize {
        self.count("runner.max_instances") as usize
    }

    /// How the logs of agents are kept.
    pub fn logs(&self, state_dir: &Path) -> logs::Config {
        let to = |name: &str| {
            self.text("logs.to")
                .split(',')
                .any(|part| part.trim() == name)
        };
        let fluentd = self.text("logs.fluentd_url").parse().ok();
        let fluentd = fluentd
            .filter(|_| to("fluentd"))
            .map(|address| logs::Fluentd {
                tag: self.text("logs.fluentd_tag").to_owned(),
                ..logs::Fluentd::at(address)
            });
        logs::Config {
            dir: to("file").then(|| state_dir.join(LOGS_DIR)),
            format: match self.text("logs.format") {
                "text" => logs::Format::Text,
                _ => logs::Format::Json,
            },
            rotation: logs::Rotation {
                max_bytes: self.size("logs.max_size") as u64,
                files: self.count("logs.max_files"),
                max_age: self.duration("logs.max_age"),
            },
            fluentd,
            stdout: to("stdout"),
        }
    }

    /// What the store takes at most.
    pub fn limits(&self) -> Limits {
        Limits {
            input: self.size("limits.input"),
            output: self.size("limits.output"),
            step: self.size("limits.step"),
            checkpoint: self.size("limits.checkpoint"),
            event: self.size("limits.event"),
            signal: self.size("limits.signal"),
        }
    }

    /// How the store is opened.
    ///
    /// # Errors
    /// When the file with the server's password cannot be read.
    pub fn store_options(&self, project: &Project) -> Result<adjutant::StoreOptions> {
        Ok(adjutant::StoreOptions {
            limits: self.limits(),
            busy_timeout: self.duration("store.busy_timeout"),
            synchronous: match self.text("store.synchronous") {
                "normal" => Synchronous::Normal,
                "off" => Synchronous::Off,
                _ => Synchronous::Full,
            },
            password: self.store_password(project)?,
            state: self.part("store.state_url", project),
            events: self.part("store.events_url", project),
        })
    }

    /// The password in the file that the settings name, for a server whose URL has none.
    fn store_password(&self, project: &Project) -> Result<Option<String>> {
        const KEY: &str = "store.password_file";
        let file = self.text(KEY);
        if file.is_empty() || !self.has_server() || has_password(self.text("store.url")) {
            return Ok(None);
        }
        let path = self.base(KEY, project).join(file);
        let refused = |cause: String| {
            let message = format!("{KEY}: no password can be read from {}", path.display());
            let origin = self.origin(KEY).describe(project);
            Failure::usage(CONFIG_INVALID, message)
                .because(cause)
                .hint(format!("correct it at its origin: {origin}"))
        };
        let text = fs::read_to_string(&path).map_err(|error| refused(error.to_string()))?;
        let password = text.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(refused("the file is empty".to_owned()));
        }
        Ok(Some(password.to_owned()))
    }

    /// Where a relative path begins: what somebody types is relative to where they are; what stands in a file, to the
    /// project.
    fn base<'a>(&self, name: &str, project: &'a Project) -> &'a Path {
        match self.origin(name) {
            Origin::Flag(_) | Origin::Environment(_) => &project.cwd,
            _ => &project.root,
        }
    }

    /// Whether the store is kept by a server.
    pub fn has_server(&self) -> bool {
        is_server(self.text("store.url"))
    }

    /// The store's URL with an absolute path.
    pub fn store_url(&self, project: &Project) -> String {
        self.url("store.url", project)
    }

    fn url(&self, key: &str, project: &Project) -> String {
        let url = self.text(key);
        let Some(rest) = url.strip_prefix("sqlite:") else {
            return url.to_owned();
        };
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let base = self.base(key, project);
        format!("sqlite:{}", base.join(Path::new(rest)).display())
    }

    /// The URL of a part of the store, if it is somewhere else.
    fn part(&self, key: &str, project: &Project) -> Option<String> {
        Some(self.url(key, project)).filter(|url| !url.is_empty())
    }

    /// The file behind the store, if there is one.
    pub fn database(&self, project: &Project) -> Option<PathBuf> {
        let url = self.store_url(project);
        let rest = url.strip_prefix("sqlite:")?;
        Some(PathBuf::from(rest.split('?').next().unwrap_or(rest)))
    }
}

/// Whether a URL names a server.
pub fn is_server(url: &str) -> bool {
    url.contains("://") && !url.starts_with("sqlite:")
}
