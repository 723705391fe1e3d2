//! Agents on disk: found by path, built, and made ready to run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use adjutant::{
    Agent, Store,
    core::{AgentRegistry, RetryPolicy},
    harness::{Assistant, Equipped},
    process::{
        AgentOptions, Environment, Manifest, ManifestError, Names, NativeOptions, NativeProcesses,
        ProcessAgent, ProcessManager, Secrets,
        usage::{About, Instances, Observed},
    },
    queue::{Concurrency, NewRun},
};

use crate::{
    context::Context,
    equipment::{self, EquipmentFile, Outfit, Outfitter},
    failure::{AGENT_NOT_FOUND, BUILD_FAILED, Failure, MANIFEST_INVALID, Result},
    isolation::IsolationFlags,
    output::{Output, Paint},
    sections,
    told::Told,
    venv::Venv,
};

/// The file that makes a folder an agent.
pub const MANIFEST_FILE: &str = "agent.yaml";

/// An agent whose manifest has been read.
#[derive(Debug, Clone)]
pub struct Found {
    pub manifest: Manifest,
    /// The models, tools and money it gets.
    pub equipment: EquipmentFile,
    /// The manifest's absolute path.
    pub path: PathBuf,
    /// Where its Python is.
    pub venv: Option<Venv>,
    /// How it is confined, besides what the manifest says.
    pub flags: IsolationFlags,
}

impl Found {
    /// The agent at a path: a folder with a manifest, or the manifest itself.
    pub fn at(context: &Context, path: &Path) -> Result<Self> {
        let file = if path.is_dir() {
            path.join(MANIFEST_FILE)
        } else {
            path.to_owned()
        };
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => return Err(not_found(context, path, &file, &error)),
        };
        let shown = context.project.short(&file);
        let (manifest, equipment) = read(&text).map_err(|error| {
            Failure::usage(
                MANIFEST_INVALID,
                format!("the manifest {shown} is not valid"),
            )
            .because(error.to_string())
            .hint("every field is described in docs/reference/agent-manifest.md")
        })?;
        let path = fs::canonicalize(&file)
            .map_err(|error| Failure::io(format!("failed to find {shown}"), &error))?;
        Ok(Self {
            manifest,
            equipment,
            path,
            venv: None,
            flags: IsolationFlags::default(),
        })
    }

    /// The agents at several paths; a folder without a manifest is searched one level deep.
    pub fn all(context: &Context, paths: &[PathBuf]) -> Result<Vec<Self>> {
        let mut found: Vec<Self> = Vec::new();
        for path in paths {
            let below = if path.is_dir() && !path.join(MANIFEST_FILE).exists() {
                agents_below(path)
            } else {
                Vec::new()
            };
            let manifests = if below.is_empty() {
                vec![path.clone()]
            } else {
                below
            };
            for manifest in manifests {
                let agent = Self::at(context, &manifest)?;
                if let Some(other) = found
                    .iter()
                    .find(|other| other.manifest.name == agent.manifest.name)
                {
                    if other.path == agent.path {
                        continue;
                    }
                    let message = format!("two agents have the name `{}`", agent.manifest.name);
                    return Err(Failure::usage(MANIFEST_INVALID, message)
                        .because(format!(
                            "{} and {}",
                            other.path.display(),
                            agent.path.display()
                        ))
                        .hint("give them different names, or name the folders one by one"));
                }
                found.push(agent);
            }
        }
        Ok(found)
    }

    /// The same agent with the Python of a virtual environment.
    pub fn with_venv(self, venv: Option<&Venv>) -> Self {
        Self {
            venv: venv.cloned(),
            ..self
        }
    }

    /// The same agent confined as a command's flags say.
    pub fn confined(mut self, flags: IsolationFlags) -> Result<Self> {
        if self.is_assistant() {
            if flags.confines() {
                let message = format!("{} has no process of its own to confine", self.key());
                return Err(Failure::usage(MANIFEST_INVALID, message)
                    .hint("set `isolation` of its servers, below `mcp_servers` in its manifest"));
            }
            return Ok(Self { flags, ..self });
        }
        flags.apply(&mut self.manifest);
        self.manifest.validate().map_err(|problems| {
            let each: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let message = format!("{} cannot be confined like this", self.key());
            Failure::usage(MANIFEST_INVALID, message).because(each.join("; "))
        })?;
        Ok(Self { flags, ..self })
    }

    /// Whether it is made of a model and tools alone, without a program.
    pub fn is_assistant(&self) -> bool {
        self.manifest.command.is_empty()
    }

    /// The agent's key.
    pub fn key(&self) -> &str {
        &self.manifest.name
    }

    /// The manifest's folder, in which everything of the agent runs.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Runs the manifest's build command, if there is one. What it prints goes to stderr.
    pub async fn build(&self, context: &Context) -> Result<()> {
        let Some((program, arguments)) = self
            .manifest
            .build
            .as_deref()
            .and_then(<[String]>::split_first)
        else {
            return Ok(());
        };
        let command = self.manifest.build.as_deref().unwrap_or_default().join(" ");
        let told = format!("building {}: {command}", self.key());
        context.out.note(&context.out.paint(Paint::Dim, &told));
        let failed = |why: String| {
            Failure::failed(BUILD_FAILED, format!("the build of {} failed", self.key()))
                .because(why)
                .hint(format!(
                    "repeat it by hand: cd {} && {command}",
                    self.folder().display()
                ))
        };
        let mut environment = Environment::default();
        environment.set("PATH", std::env::var("PATH").unwrap_or_default());
        if let Some(venv) = &self.venv {
            venv.activate(&mut environment);
        }
        let status = tokio::process::Command::new(program)
            .args(arguments)
            .envs(environment.iter())
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .kill_on_drop(true)
            .status()
            .await
            .map_err(|error| failed(format!("`{program}`: {error}")))?;
        if status.success() {
            return Ok(());
        }
        Err(failed(format!("`{command}`: {status}")))
    }

    /// Gives a run what the manifest says about runs, with `retry` where it says nothing.
    pub fn prepare(&self, run: &mut NewRun, retry: RetryPolicy) {
        run.timeout = self.manifest.timeout;
        run.retry = if self.manifest.retry == RetryPolicy::default() {
            retry
        } else {
            self.manifest.retry.clone()
        };
        run.concurrency = self
            .manifest
            .concurrency
            .as_ref()
            .map(|concurrency| Concurrency {
                key: concurrency.key.as_deref().unwrap_or(self.key()).into(),
                limit: concurrency.limit,
            });
    }
}

/// Builds all of them, one after the other.
pub async fn build(context: &Context, agents: &[Found]) -> Result<()> {
    for agent in agents {
        agent.build(context).await?;
    }
    Ok(())
}

/// Reads a manifest: of a program, or of an agent that is a model with instructions and tools.
fn read(text: &str) -> std::result::Result<(Manifest, EquipmentFile), ManifestError> {
    let (rest, own) = sections::split(text, equipment::file::KEYS);
    let equipment = EquipmentFile::read(&own)?;
    let (_, command) = sections::split(&rest, &["command"]);
    let talks = equipment.model.is_some() || equipment.instructions.is_some();
    let manifest = if talks && sections::is_blank(&command) {
        Manifest::without_program(&rest)
    } else {
        Manifest::from_yaml(&rest)
    };
    Ok((manifest?, equipment))
}

/// The agents, ready to be driven, and what has to be kept for them; what becomes of their runs is told on `told`.
pub async fn registry(
    context: &Context,
    store: &dyn Store,
    agents: &[Found],
    told: Option<&Output>,
    instances: &Instances,
) -> Result<(AgentRegistry, Outfit)> {
    let mut options = NativeOptions::default();
    options.allow_degraded = agents.iter().any(|agent| agent.flags.allow_degraded);
    let processes = NativeProcesses::with(options);
    let processes: Arc<dyn ProcessManager> = Arc::new(processes.map_err(|error| {
        Failure::failed(crate::failure::IO, "processes cannot be started")
            .because(error.to_string())
    })?);
    let base = Environment::inherited(crate::project::variables());
    let secrets = Secrets::new(crate::project::variables());
    let about = About {
        agent: "mcp".to_owned(),
        isolation: String::new(),
    };
    let servers = Observed::new(Arc::clone(&processes), about, instances.clone());
    let servers: Arc<dyn ProcessManager> = Arc::new(servers);
    let outfitter = Outfitter::new(context, store, agents, &servers, &base).await?;
    let names = Names::at_most(context.config.max_instances());
    let mut registry = AgentRegistry::new();
    for found in agents {
        let equipment = outfitter.equip(found, agents)?;
        if found.is_assistant() {
            let assistant = Assistant::new(found.key(), outfitter.assistant(found)?);
            register(&mut registry, Equipped::new(assistant, equipment), told)?;
            continue;
        }
        let mut base = base.clone();
        let mut manifest = found.manifest.clone();
        if let Some(venv) = &found.venv {
            venv.activate(&mut base);
            venv.show_to(&mut manifest);
        }
        let about = About {
            agent: found.key().to_owned(),
            isolation: found.manifest.isolation.profile.to_string(),
        };
        let processes = Observed::new(Arc::clone(&processes), about, instances.clone());
        let agent = ProcessAgent::with(
            manifest,
            found.folder(),
            base,
            Arc::new(processes),
            AgentOptions::default()
                .secrets(secrets.clone())
                .names(names.clone()),
        );
        register(&mut registry, Equipped::new(agent, equipment), told)?;
    }
    Ok((registry, outfitter.finish()))
}

fn register(
    registry: &mut AgentRegistry,
    agent: impl Agent + 'static,
    told: Option<&Output>,
) -> Result<()> {
    match told {
        Some(out) => registry.register(Told::new(agent, out.clone()))?,
        None => registry.register(agent)?,
    }
    Ok(())
}

fn agents_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join(MANIFEST_FILE).is_file())
        .collect();
    found.sort();
    found
}

fn not_found(context: &Context, path: &Path, file: &Path, error: &io::Error) -> Failure {
    let message = if path.is_dir() {
        format!("there is no {MANIFEST_FILE} in {}", path.display())
    } else {
        format!("there is no agent at {}", path.display())
    };
    let mut nearby = Vec::new();
    for folder in [
        path,
        &context.project.cwd,
        &context.project.cwd.join("examples"),
    ] {
        nearby.extend(agents_below(folder));
    }
    nearby.truncate(5);
    let names: Vec<String> = nearby
        .iter()
        .map(|path| context.project.short(path))
        .collect();
    let hint = if names.is_empty() {
        "make one with `agent init DIR`, then `agent run DIR`".to_owned()
    } else {
        format!("agents nearby: {}", names.join(", "))
    };
    let failure = Failure::usage(AGENT_NOT_FOUND, message).hint(hint);
    if error.kind() == io::ErrorKind::NotFound {
        return failure;
    }
    failure.because(format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_shows_a_valid_manifest_of_an_agent_without_code() {
        let page = include_str!("../../../docs/reference/agent-manifest.md");
        let (_, section) = page.split_once("## Models and tools").unwrap();
        let (_, example) = section.split_once("```yaml\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let (manifest, equipment) = read(example).unwrap();
        assert!(manifest.command.is_empty());
        assert_eq!(manifest.name, "researcher");
        for key in equipment::file::KEYS {
            let own_name = *key != "mcpServers";
            assert!(
                !own_name || example.contains(&format!("\n{key}:")),
                "{key} is not shown"
            );
        }
        assert_eq!(equipment.tools.policy.ask.len(), 1);
        assert_eq!(equipment.budget.max_depth, 4);
    }

    #[test]
    fn an_error_in_any_section_names_its_line() {
        for (text, expected) in [
            ("name: a\nmodel: x/y\ntools:\n  alow: []\n", "line 4"),
            ("name: a\nmodel: x/y\nheartbeat: 1s\n", "`command`"),
            ("name: a\nmodel: x/y\ntimeout: soon\n", "line 3"),
            ("name: a\nmodel: [1]\n", "line 2"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
