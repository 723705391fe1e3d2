//! What the agents of one worker share, and what each of them gets.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use adjutant::{
    RunContext, Store,
    budget::BudgetLedger,
    core::RunId,
    endpoint::{Endpoint, EndpointOptions},
    harness::{AssistantSpec, Attendant, BudgetPolicy, Equipment, Estimates, Spend},
    llm::{KeySource, LanguageModel, ModelRouter},
    mcp::{Lookup, McpServerPool, McpSource, PoolOptions, ServerConfig, ServersConfig},
    process::{Environment, NativeOptions, NativeProcesses, ProcessManager},
    telemetry::{ExporterKind, Resource, Tracer},
    tools::{
        Caller, HttpClient, HttpOptions, HttpTool, HttpToolConfig, HttpTools, OpenApiOptions,
        OpenApiSource, Pattern, RegistryBuilder, ToolRegistry,
    },
};
use serde_json::Value;

use super::{artifacts::Files, blocks::Blocks, file::Instructions};
use crate::{
    agents::Found,
    context::Context,
    failure::{CONFIG_INVALID, Failure, MANIFEST_INVALID, Result},
};

/// Where keys are: the environment, and files of the project.
#[derive(Debug, Clone)]
pub struct Keys {
    pub root: PathBuf,
}

impl Keys {
    fn variable(name: &str) -> Option<String> {
        let mut all = crate::project::variables();
        all.find(|(other, value)| other == name && !value.is_empty())
            .map(|(_, value)| value)
    }
}

impl KeySource for Keys {
    fn variable(&self, name: &str) -> Option<String> {
        Self::variable(name)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(self.root.join(path))
    }
}

/// What lasts as long as the worker.
#[derive(Default)]
pub struct Outfit {
    pools: Vec<McpServerPool>,
    endpoint: Option<Arc<Endpoint>>,
    tracer: Option<Tracer>,
}

impl Outfit {
    /// The pools of servers.
    pub fn pools(&self) -> &[McpServerPool] {
        &self.pools
    }

    /// Ends the servers and passes on the last spans.
    pub async fn close(self) {
        for pool in &self.pools {
            let left = pool.close().await;
            if left > 0 {
                tracing::warn!(left, "processes of MCP servers may be left");
            }
        }
        drop(self.endpoint);
        if let Some(tracer) = &self.tracer {
            tracer.flush().await;
        }
    }
}

/// Equips agents one after the other.
pub struct Outfitter<'a> {
    context: &'a Context,
    blocks: Blocks,
    models: Arc<ModelRouter>,
    ledger: Arc<dyn BudgetLedger>,
    /// Pools with the servers that each of them has.
    pools: Vec<(McpServerPool, BTreeMap<String, ServerConfig>)>,
    outfit: Outfit,
}

impl<'a> Outfitter<'a> {
    /// Makes ready what all agents share.
    ///
    /// # Errors
    /// When the settings cannot work.
    pub async fn new(
        context: &'a Context,
        store: &dyn Store,
        agents: &[Found],
        processes: &Arc<dyn ProcessManager>,
        base: &Environment,
    ) -> Result<Self> {
        let blocks = context.config.blocks.clone();
        let keys = Keys {
            root: context.project.root.clone(),
        };
        let models = router(&blocks, keys)?;
        let mut outfit = Outfit::default();
        if blocks.telemetry.exporter != ExporterKind::None || blocks.telemetry.langfuse.is_some() {
            outfit.tracer = Some(tracer(&blocks)?);
        }
        if agents.iter().any(wants_endpoint) {
            let names = blocks.models.aliases.keys().cloned().collect::<Vec<_>>();
            let endpoint = Endpoint::start(endpoint_options(names)).await;
            let endpoint = endpoint.map_err(|error| {
                Failure::io("the endpoint for model calls cannot be started", &error)
            })?;
            outfit.endpoint = Some(Arc::new(endpoint));
        }
        Ok(Self {
            context,
            pools: pools(context, agents, &blocks, processes, base)?,
            blocks,
            models: Arc::new(models),
            ledger: store.ledger(),
            outfit,
        })
    }

    /// What one agent gets.
    ///
    /// # Errors
    /// When its manifest cannot work.
    pub fn equip(&self, agent: &Found, others: &[Found]) -> Result<Equipment> {
        let file = &agent.equipment;
        let refused = |why: String| {
            let message = format!("{} cannot be equipped", agent.key());
            Failure::usage(MANIFEST_INVALID, message)
                .because(why)
                .hint("every field is described in docs/reference/agent-manifest.md")
        };
        let mut tools = ToolRegistry::builder().artifacts(Arc::new(Files {
            dir: self.context.project.state_dir().join("artifacts"),
        }));
        let mut mcp = None;
        if !file.mcp_servers.is_empty() {
            let source = Arc::new(self.mcp_source(agent)?);
            mcp = Some(Arc::clone(&source));
            tools = tools.source(source);
        }
        tools = http_sources(agent, tools).map_err(refused)?;
        let has_tools = mcp.is_some() || !file.http_tools.is_empty() || !file.openapi.is_empty();
        let tools = tools.build().map_err(|error| refused(error.to_string()))?;
        let model = file.model.as_ref();
        let asks = model.is_some() || agent.is_assistant();
        let named = model.map(|model| located(&model.0.model, agent.folder()));
        let default = self.blocks.models.default.clone();
        Ok(Equipment {
            models: asks.then(|| Arc::clone(&self.models) as Arc<dyn LanguageModel>),
            model: named.or(default).unwrap_or_default(),
            model_timeout: model.and_then(|model| model.1),
            tools: has_tools.then(|| Arc::new(tools)),
            agents: described(&file.agents.0, others),
            tool_policy: file.tools.policy.clone(),
            tool_timeout: file.tools.timeout,
            budget: merged(&file.budget, &self.blocks.budget),
            ledger: Some(Arc::clone(&self.ledger)),
            prices: Some(Arc::clone(&self.models) as Arc<dyn Estimates>),
            tracer: self.outfit.tracer.clone(),
            attendant: Some(Arc::new(Usher {
                endpoint: self
                    .outfit
                    .endpoint
                    .clone()
                    .filter(|_| wants_endpoint(agent)),
                mcp,
            })),
        })
    }

    /// What an agent that is no program is made of.
    ///
    /// # Errors
    /// When its instructions cannot be read.
    pub fn assistant(&self, agent: &Found) -> Result<AssistantSpec> {
        let file = &agent.equipment;
        let instructions = match &file.instructions {
            None => String::new(),
            Some(Instructions::Text(text)) => text.clone(),
            Some(Instructions::File { file }) => {
                let path = agent.folder().join(file);
                let failed =
                    |error| Failure::io(format!("failed to read {}", path.display()), &error);
                fs::read_to_string(&path).map_err(failed)?
            }
        };
        let defaults = AssistantSpec::default();
        let mut settings = file
            .model
            .as_ref()
            .map(|model| model.0.clone())
            .unwrap_or_default();
        // The equipment names the model.
        settings.model.clear();
        Ok(AssistantSpec {
            instructions,
            settings,
            output_schema: file.output_schema.clone(),
            max_turns: file.max_turns.unwrap_or(defaults.max_turns),
            parallel_tools: file.parallel_tools.unwrap_or(defaults.parallel_tools),
            search_tools_above: file
                .tools
                .search_above
                .unwrap_or(defaults.search_tools_above),
            tool_calls: file.tools.calls,
            context: file.context.clone(),
        })
    }

    /// What has to be kept and closed.
    pub fn finish(mut self) -> Outfit {
        self.outfit.pools = self.pools.into_iter().map(|(pool, _)| pool).collect();
        self.outfit
    }

    /// An agent's servers as a source of tools; those that want it are started before anybody needs them.
    fn mcp_source(&self, agent: &Found) -> Result<McpSource> {
        let wanted = servers(agent, &self.blocks)?;
        let fits = |has: &BTreeMap<String, ServerConfig>| {
            wanted
                .iter()
                .all(|(name, config)| has.get(name) == Some(config))
        };
        let found = self.pools.iter().find(|(_, has)| fits(has));
        // Every agent's servers were put into one of them.
        let Some((pool, _)) = found else {
            let message = format!("the MCP servers of {} are in no pool", agent.key());
            return Err(Failure::failed(crate::failure::MCP_FAILED, message));
        };
        if wanted.values().any(|config| config.prewarm) {
            let (pool, caller) = (pool.clone(), Caller::new(agent.key(), RunId::new()));
            tokio::spawn(async move { pool.prewarm(&caller).await });
        }
        let names = wanted.into_keys().map(|name| (name, Default::default()));
        Ok(McpSource::of(pool.clone(), names))
    }
}

/// Opens the endpoint to an attempt, and lets go of what it used of servers at its end.
struct Usher {
    endpoint: Option<Arc<Endpoint>>,
    mcp: Option<Arc<McpSource>>,
}

impl Attendant for Usher {
    fn attend(&self, ctx: &RunContext) -> (Vec<(String, String)>, Box<dyn Send + Sync>) {
        let grant = self
            .endpoint
            .as_ref()
            .map(|endpoint| endpoint.grant(ctx.clone()));
        let environment = grant
            .as_ref()
            .map(|grant| grant.env().to_vec())
            .unwrap_or_default();
        let released = self.mcp.clone().map(|mcp| Released {
            mcp,
            run: ctx.run_id(),
        });
        (environment, Box::new((grant, released)))
    }
}

struct Released {
    mcp: Arc<McpSource>,
    run: RunId,
}

impl Drop for Released {
    fn drop(&mut self) {
        self.mcp.release(self.run);
    }
}

/// Programs find the models of their manifest at the endpoint; assistants need none.
fn wants_endpoint(agent: &Found) -> bool {
    agent.equipment.model.is_some() && !agent.is_assistant()
}

/// A program says which model it wants in its library's own words; unless it names a provider, the manifest decides.
fn endpoint_options(aliases: Vec<String>) -> EndpointOptions {
    let names = aliases.clone();
    EndpointOptions {
        models: aliases,
        names: Arc::new(move |_, name| {
            let known = name.contains('/') || names.iter().any(|alias| alias == name);
            if known {
                name.to_owned()
            } else {
                String::new()
            }
        }),
        ..EndpointOptions::default()
    }
}

pub fn router(blocks: &Blocks, keys: Keys) -> Result<ModelRouter> {
    ModelRouter::from_config(blocks.models.clone(), Arc::new(keys)).map_err(|error| {
        Failure::usage(CONFIG_INVALID, "the setting `models` cannot work")
            .because(error.to_string())
            .hint("docs/guide/models.md shows how models are configured")
    })
}

fn tracer(blocks: &Blocks) -> Result<Tracer> {
    let resource = Resource {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Resource::default()
    };
    let sink = blocks
        .telemetry
        .sink(&resource, io::stderr())
        .map_err(|error| {
            Failure::usage(CONFIG_INVALID, "the setting `telemetry` cannot work")
                .because(error.to_string())
                .hint("docs/guide/tracing.md shows how traces are configured, and which feature of the build exports them")
        })?;
    let options = blocks.telemetry.tracer_options(secrets());
    Ok(Tracer::new(sink, options))
}

/// The values of variables that are secrets by their names.
fn secrets() -> Vec<String> {
    const MARKS: [&str; 5] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"];
    let named = |name: &str| {
        MARKS
            .iter()
            .any(|mark| name.to_ascii_uppercase().contains(mark))
    };
    let all = crate::project::variables();
    all.filter(|(name, _)| named(name))
        .map(|(_, value)| value)
        .collect()
}

/// An agent's servers: those that it describes, and those of the settings that it only names.
fn servers(agent: &Found, blocks: &Blocks) -> Result<BTreeMap<String, ServerConfig>> {
    let lookup: Lookup = Arc::new(Keys::variable);
    let of = |(name, config): (&String, &ServerConfig)| {
        let shared = blocks
            .mcp_servers
            .get(name)
            .filter(|_| *config == ServerConfig::default());
        let mut config = shared.unwrap_or(config).clone();
        // What a manifest says is relative to the manifest.
        if shared.is_none() {
            let cwd = config.cwd.take().unwrap_or_default();
            config.cwd = Some(agent.folder().join(cwd));
            let beside =
                |command: &String| command.contains('/') && !command.starts_with(['/', '~']);
            if let Some(command) = config.command.take_if(|command| beside(command)) {
                config.command = Some(agent.folder().join(command).display().to_string());
            }
        }
        let config = config.expanded(&lookup).map_err(|problem| {
            let message = format!(
                "the MCP server `{name}` of {} cannot be started",
                agent.key()
            );
            Failure::usage(MANIFEST_INVALID, message).because(problem)
        })?;
        Ok((name.clone(), config))
    };
    agent.equipment.mcp_servers.iter().map(of).collect()
}

/// The servers of one agent alone, for a look at them.
///
/// # Errors
/// When they cannot work.
pub fn pool_of(context: &Context, agent: &Found) -> Result<McpServerPool> {
    let processes = NativeProcesses::with(NativeOptions::default()).map_err(|error| {
        Failure::failed(crate::failure::IO, "processes cannot be started")
            .because(error.to_string())
    })?;
    let processes: Arc<dyn ProcessManager> = Arc::new(processes);
    let base = Environment::inherited(crate::project::variables());
    let agents = std::slice::from_ref(agent);
    let pools = pools(context, agents, &context.config.blocks, &processes, &base)?;
    pools
        .into_iter()
        .next()
        .map(|(pool, _)| pool)
        .ok_or_else(|| {
            let message = format!("{} has no MCP servers", agent.key());
            Failure::usage(crate::failure::USAGE, message)
                .hint("name some in its manifest, below `mcp_servers`")
        })
}

/// Where tokens of logins are kept, below the project's folder for state.
const TOKEN_DIR: &str = "oauth";

/// As few pools as possible: agents whose servers have the same names and differ cannot share one.
fn pools(
    context: &Context,
    agents: &[Found],
    blocks: &Blocks,
    processes: &Arc<dyn ProcessManager>,
    base: &Environment,
) -> Result<Vec<(McpServerPool, BTreeMap<String, ServerConfig>)>> {
    let mut sets: Vec<BTreeMap<String, ServerConfig>> = Vec::new();
    for agent in agents {
        let wanted = servers(agent, blocks)?;
        if wanted.is_empty() {
            continue;
        }
        let fits = |set: &&mut BTreeMap<String, ServerConfig>| {
            wanted
                .iter()
                .all(|(name, config)| set.get(name).is_none_or(|other| other == config))
        };
        match sets.iter_mut().find(fits) {
            Some(set) => set.extend(wanted),
            None => sets.push(wanted),
        }
    }
    let pool = |servers: BTreeMap<String, ServerConfig>| {
        let config = ServersConfig {
            servers: servers.clone(),
        };
        let problems = config.problems();
        if !problems.is_empty() {
            let each: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(
                Failure::usage(MANIFEST_INVALID, "an MCP server cannot work")
                    .because(each.join("; "))
                    .hint("docs/guide/mcp.md shows how servers are configured"),
            );
        }
        let options = PoolOptions::new(Arc::clone(processes))
            .base(base.clone())
            .lookup(Keys::variable)
            .dir(&context.project.root)
            .token_dir(context.project.state_dir().join(TOKEN_DIR));
        Ok((McpServerPool::new(config, options), servers))
    };
    sets.into_iter().map(pool).collect()
}

/// A scripted model's file is beside the manifest that names it.
fn located(model: &str, folder: &Path) -> String {
    match model.strip_prefix("scripted/") {
        Some(file) => format!("scripted/{}", folder.join(file).display()),
        None => model.to_owned(),
    }
}

fn described(agents: &[(String, String)], others: &[Found]) -> Vec<(String, String)> {
    let describe = |(name, does): &(String, String)| {
        let known = others.iter().find(|other| other.key() == name);
        let own = known.map(|other| other.manifest.description.clone());
        let does = Some(does.clone()).filter(|does| !does.is_empty()).or(own);
        (name.clone(), does.unwrap_or_default())
    };
    agents.iter().map(describe).collect()
}

/// What the manifest says, and the settings where it says nothing.
fn merged(own: &BudgetPolicy, settings: &BudgetPolicy) -> BudgetPolicy {
    if *own == BudgetPolicy::default() {
        return settings.clone();
    }
    let or = |own: Spend, other: Spend| if own == Spend::default() { other } else { own };
    BudgetPolicy {
        run: or(own.run, settings.run),
        tree: or(own.tree, settings.tree),
        agent: or(own.agent, settings.agent),
        tenant: or(own.tenant, settings.tenant),
        ..own.clone()
    }
}

/// The tools of HTTP services.
fn http_sources(
    agent: &Found,
    mut tools: RegistryBuilder,
) -> std::result::Result<RegistryBuilder, String> {
    let file = &agent.equipment;
    if file.http_tools.is_empty() && file.openapi.is_empty() {
        return Ok(tools);
    }
    // Whoever wrote the manifest may mean a host of a private network; a document, or a redirect, may not.
    let urls = file
        .http_tools
        .iter()
        .filter_map(|tool| tool["url"].as_str());
    let urls = urls.chain(
        file.openapi
            .values()
            .filter_map(|service| service.base_url.as_deref()),
    );
    let options = HttpOptions {
        allow_private: urls.filter_map(host_of).map(Pattern::from).collect(),
        ..HttpOptions::default()
    };
    let client = HttpClient::new(&options).map_err(|error| error.to_string())?;
    let read = |value: &Value| {
        let config: HttpToolConfig = serde_json::from_value(referred(value)?)
            .map_err(|error| format!("http_tools: {error}"))?;
        HttpTool::new(config).map_err(|error| error.to_string())
    };
    let singles: Vec<HttpTool> = file
        .http_tools
        .iter()
        .map(read)
        .collect::<std::result::Result<_, _>>()?;
    if !singles.is_empty() {
        tools = tools.source(Arc::new(HttpTools::new("http", client.clone(), singles)));
    }
    for (name, service) in &file.openapi {
        let path = agent.folder().join(&service.file);
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let document: Value = adjutant::process::read_yaml(&text)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let headers = serde_json::json!(service.headers);
        let options = OpenApiOptions {
            base_url: service.base_url.clone(),
            headers: serde_json::from_value(referred(&headers)?)
                .map_err(|error| format!("openapi.{name}: {error}"))?,
        };
        let source = OpenApiSource::new(name, document, client.clone(), &options)
            .map_err(|error| error.to_string())?;
        tools = tools.source(Arc::new(source));
    }
    Ok(tools)
}

/// The host of a URL.
fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(address) => address.split(']').next()?,
        None => host.split(':').next()?,
    };
    Some(host).filter(|host| !host.is_empty())
}

/// The value with `{from_env: NAME}` and `{from_file: PATH}` replaced by what is there.
fn referred(value: &Value) -> std::result::Result<Value, String> {
    match value {
        Value::Object(map) if map.len() == 1 => {
            if let Some(name) = map.get("from_env").and_then(Value::as_str) {
                let found = Keys::variable(name)
                    .ok_or_else(|| format!("the variable {name} is not set"))?;
                return Ok(Value::String(found));
            }
            if let Some(path) = map.get("from_file").and_then(Value::as_str) {
                let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
                return Ok(Value::String(text.trim_end().to_owned()));
            }
            each(map)
        }
        Value::Object(map) => each(map),
        Value::Array(items) => items.iter().map(referred).collect(),
        other => Ok(other.clone()),
    }
}

fn each(map: &serde_json::Map<String, Value>) -> std::result::Result<Value, String> {
    let pairs = map
        .iter()
        .map(|(key, value)| Ok((key.clone(), referred(value)?)));
    pairs
        .collect::<std::result::Result<serde_json::Map<_, _>, String>>()
        .map(Value::Object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_found() {
        for (url, host) in [
            ("http://127.0.0.1:8080/x?y=1", Some("127.0.0.1")),
            ("https://user:pw@example.org/a", Some("example.org")),
            ("http://[::1]:80", Some("::1")),
            ("no url", None),
            ("http:///x", None),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }

    #[test]
    fn references_to_variables_are_replaced_wherever_they_stand() {
        let value = serde_json::json!({ "a": [{ "from_env": "PATH" }], "b": { "from_env": 1 } });
        let read = referred(&value).unwrap();
        assert_eq!(read["a"][0].as_str(), std::env::var("PATH").ok().as_deref());
        assert_eq!(read["b"], value["b"]);
        let missing = serde_json::json!({ "from_env": "NO_SUCH_VARIABLE_HERE" });
        assert!(
            referred(&missing)
                .unwrap_err()
                .contains("NO_SUCH_VARIABLE_HERE")
        );
    }
}
