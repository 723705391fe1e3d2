//! All tools of a runtime, and what is done before and after every call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use adjutant_core::{Effect, ToolSpec};
use futures::future::join_all;
use tokio::time::Instant;

use crate::{
    ArtifactSink, Caller, DEFAULT_OUTPUT, FunctionTool, Functions, MAX_NAME, Pattern, RateLimit,
    Result, ToolError, ToolFilter, ToolSet, ToolSource, name::is_tool_name, rate::Bucket,
    schema::SchemaCache, toolset::Entry,
};

/// What is set for tools of a pattern, beside what they say of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ToolSettings {
    /// Longest time for one call; the caller's own limit may be lower.
    pub timeout: Option<Duration>,
    /// How often each of the tools may be called, by all callers together.
    pub rate: Option<RateLimit>,
    /// What calling them does to the world, whatever they say.
    pub effect: Option<Effect>,
    /// Bytes of an answer that a model sees; default [`DEFAULT_OUTPUT`]. The rest is kept as an artifact.
    pub max_output: Option<usize>,
}

impl ToolSettings {
    /// These settings, and the other's where these have none.
    fn or(self, other: Self) -> Self {
        Self {
            timeout: self.timeout.or(other.timeout),
            rate: self.rate.or(other.rate),
            effect: self.effect.or(other.effect),
            max_output: self.max_output.or(other.max_output),
        }
    }
}

/// Sources and functions being put together.
#[derive(Default)]
#[must_use = "nothing is registered until `build`"]
pub struct RegistryBuilder {
    sources: Vec<Arc<dyn ToolSource>>,
    functions: Vec<FunctionTool>,
    settings: Vec<(Pattern, ToolSettings)>,
    artifacts: Option<Arc<dyn ArtifactSink>>,
}

impl RegistryBuilder {
    /// Adds a source.
    pub fn source(mut self, source: Arc<dyn ToolSource>) -> Self {
        self.sources.push(source);
        self
    }

    /// Adds a function.
    pub fn function(mut self, function: FunctionTool) -> Self {
        self.functions.push(function);
        self
    }

    /// Settings for tools of a pattern. Where several patterns match, the first that sets a thing decides it.
    pub fn settings(mut self, pattern: impl Into<Pattern>, settings: ToolSettings) -> Self {
        self.settings.push((pattern.into(), settings));
        self
    }

    /// Where large answers are kept. Without it they are cut all the same.
    pub fn artifacts(mut self, sink: Arc<dyn ArtifactSink>) -> Self {
        self.artifacts = Some(sink);
        self
    }

    /// The registry.
    ///
    /// # Errors
    /// When two functions have the same name, or one has a name that model providers do not take.
    pub fn build(mut self) -> Result<ToolRegistry> {
        if !self.functions.is_empty() {
            let functions = Functions::new("functions", self.functions)?;
            self.sources.insert(0, Arc::new(functions));
        }
        Ok(ToolRegistry {
            sources: self.sources,
            shared: Arc::new(Shared {
                settings: self.settings,
                artifacts: self.artifacts,
                schemas: SchemaCache::default(),
                buckets: Mutex::default(),
                start: Instant::now(),
            }),
        })
    }
}

/// All tools of a runtime. [`open`](Self::open) gives a caller those that it may use.
pub struct ToolRegistry {
    sources: Vec<Arc<dyn ToolSource>>,
    shared: Arc<Shared>,
}

/// What all callers share.
pub struct Shared {
    settings: Vec<(Pattern, ToolSettings)>,
    pub artifacts: Option<Arc<dyn ArtifactSink>>,
    pub schemas: SchemaCache,
    buckets: Mutex<HashMap<String, Bucket>>,
    start: Instant,
}

impl Shared {
    fn settings_of(&self, tool: &str) -> ToolSettings {
        self.settings
            .iter()
            .filter(|(pattern, _)| pattern.matches(tool))
            .fold(ToolSettings::default(), |found, (_, next)| found.or(*next))
    }

    /// Takes one call of the tool from its rate.
    pub fn admit(&self, tool: &str, rate: RateLimit) -> Result<()> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets
            .entry(tool.to_owned())
            .or_default()
            .take(rate, self.start.elapsed())
            .map_err(|retry_after| ToolError::Busy {
                tool: tool.to_owned(),
                retry_after,
            })
    }
}

impl ToolRegistry {
    /// An empty one to fill.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// The tools that the caller may use, as they are now: keep the set for as long as the caller's list should not
    /// change. A source that cannot be asked is left out and told in [`ToolSet::problems`], so that one broken server
    /// does not stop agents that can do without it.
    ///
    /// # Errors
    /// When two sources have a tool of the same name: calling either would be a guess.
    pub async fn open(&self, caller: Caller, filter: &ToolFilter) -> Result<ToolSet> {
        let lists = join_all(self.sources.iter().map(|source| source.list(&caller))).await;
        let mut entries: Vec<Entry> = Vec::new();
        let mut problems = Vec::new();
        for (source, list) in self.sources.iter().zip(lists) {
            let list = match list {
                Ok(list) => list,
                Err(error) => {
                    tracing::warn!(run_id = %caller.run, source = source.name(), %error, "a source of tools is left out");
                    problems.push((source.name().to_owned(), error));
                    continue;
                }
            };
            let allowed = list.into_iter().filter(|spec| filter.allows(&spec.name));
            entries.extend(allowed.map(|spec| self.entry(spec, source)));
        }
        refuse_collisions(&entries)?;
        Ok(ToolSet::new(caller, entries, problems, self.shared.clone()))
    }

    fn entry(&self, mut spec: ToolSpec, source: &Arc<dyn ToolSource>) -> Entry {
        let settings = self.shared.settings_of(&spec.name);
        spec.effect = settings.effect.unwrap_or(spec.effect);
        Entry {
            spec,
            timeout: settings.timeout,
            rate: settings.rate,
            max_output: settings.max_output.unwrap_or(DEFAULT_OUTPUT),
            source: source.clone(),
        }
    }
}

fn refuse_collisions(entries: &[Entry]) -> Result<()> {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for entry in entries {
        let name = &entry.spec.name;
        check_name(name)?;
        if let Some(other) = seen.insert(name, entry.source.name()) {
            let problem = format!(
                "both `{other}` and `{}` have a tool of this name; rename or deny one of them",
                entry.source.name()
            );
            return Err(ToolError::failed(name, problem));
        }
    }
    Ok(())
}

/// Holds a name to what model providers take.
pub fn check_name(name: &str) -> Result<()> {
    if is_tool_name(name) {
        return Ok(());
    }
    let problem = format!("a name has 1 to {MAX_NAME} letters, digits, `_` or `-`");
    Err(ToolError::failed(name, problem))
}
