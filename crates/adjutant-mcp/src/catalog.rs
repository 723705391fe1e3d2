//! What a server has: its tools, under the names that agents see, with what they do to the world.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use adjutant_core::{Effect, Json, ToolSpec};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{config::ServerConfig, names};

/// More tools than this no server has in earnest.
const MAX_TOOLS: usize = 10_000;

/// A server that may be asked again at once is asked again after this all the same.
const LEAST_TTL: Duration = Duration::from_secs(1);

/// One tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerTool {
    /// Its name at the server.
    pub name: String,
    /// What agents see of it, under its full name.
    pub spec: ToolSpec,
}

/// The tools of a server at one time. Never changes; a change makes a new one with a higher generation.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Grows with each start of the server and each change of its tools.
    pub generation: u64,
    /// The tools, in the server's order.
    pub tools: Vec<ServerTool>,
    /// Tools that are left out, and why.
    pub problems: Vec<String>,
    by_full: HashMap<String, usize>,
    /// When to ask again; `None` until the server says that something changed.
    fresh_until: Option<Instant>,
}

/// A page of `tools/list`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    tools: Vec<Listed>,
    pub(crate) next_cursor: Option<String>,
    ttl_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: String,
    title: Option<String>,
    description: Option<String>,
    #[serde(default)]
    input_schema: Map<String, Value>,
    output_schema: Option<Map<String, Value>>,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Annotations {
    title: Option<String>,
    read_only_hint: Option<bool>,
    idempotent_hint: Option<bool>,
}

impl Catalog {
    /// What a server's pages come to.
    pub(crate) fn read(
        server: &str,
        config: &ServerConfig,
        pages: Vec<Page>,
        now: Instant,
    ) -> Self {
        let ttl = pages.iter().filter_map(|page| page.ttl_ms).min();
        let fresh = |ttl| now + Duration::from_millis(ttl).max(LEAST_TTL);
        let mut catalog = Self {
            generation: 0,
            tools: Vec::new(),
            problems: Vec::new(),
            by_full: HashMap::new(),
            fresh_until: ttl.map(fresh),
        };
        for listed in pages.into_iter().flat_map(|page| page.tools) {
            if config.tools.admits(&listed.name) {
                catalog.add(server, config, listed);
            }
        }
        catalog
    }

    fn add(&mut self, server: &str, config: &ServerConfig, listed: Listed) {
        let name = match names::full(server, &listed.name) {
            Ok(name) => name,
            Err(problem) => return self.problems.push(problem),
        };
        if self.by_full.contains_key(&name) {
            let problem = format!(
                "tool `{}` is a second one with the name `{name}`",
                listed.name
            );
            return self.problems.push(problem);
        }
        if self.tools.len() >= MAX_TOOLS {
            return self
                .problems
                .push(format!("there are more than {MAX_TOOLS} tools"));
        }
        let effect = effect(config, &listed);
        let title = listed.title.or(listed.annotations.title);
        let schema = |schema: Map<String, Value>| Json::from(Value::Object(schema));
        let spec = ToolSpec {
            name: name.clone(),
            description: listed.description.or(title).unwrap_or_default(),
            input_schema: schema(listed.input_schema),
            output_schema: listed.output_schema.map(schema),
            effect,
            unavailable: None,
        };
        self.by_full.insert(name, self.tools.len());
        self.tools.push(ServerTool {
            name: listed.name,
            spec,
        });
    }

    /// A tool by its full name or its own.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<&ServerTool> {
        match self.by_full.get(name) {
            Some(at) => self.tools.get(*at),
            None => self.tools.iter().find(|tool| tool.name == name),
        }
    }

    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        self.fresh_until.is_none_or(|until| now < until)
    }

    /// Whether an agent would see a difference.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        self.tools != other.tools
    }
}

/// The configuration's word, else the server's.
fn effect(config: &ServerConfig, listed: &Listed) -> Effect {
    if let Some(effect) = config.effects.get(&listed.name) {
        return *effect;
    }
    let hints = &listed.annotations;
    match (hints.read_only_hint, hints.idempotent_hint) {
        _ if !config.trust_annotations => Effect::Unsafe,
        (Some(true), _) => Effect::ReadOnly,
        (_, Some(true)) => Effect::Idempotent,
        _ => Effect::Unsafe,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: &ServerConfig, page: Value) -> Catalog {
        let page: Page = serde_json::from_value(page).unwrap();
        Catalog::read("s", config, vec![page], Instant::now())
    }

    fn tool(name: &str, annotations: &Value) -> Value {
        json!({ "name": name, "inputSchema": {"type": "object"}, "annotations": annotations })
    }

    #[test]
    fn effects_come_from_hints_unless_the_configuration_knows_better() {
        let mut config = ServerConfig::default();
        config.effects.insert("known".into(), Effect::Keyed);
        let page = json!({ "tools": [
            tool("look", &json!({"readOnlyHint": true})), tool("put", &json!({"idempotentHint": true})),
            tool("act", &json!({})), tool("known", &json!({"readOnlyHint": true})),
        ]});
        let effects = |catalog: Catalog| -> Vec<Effect> {
            catalog.tools.iter().map(|tool| tool.spec.effect).collect()
        };
        use Effect::{Idempotent, Keyed, ReadOnly, Unsafe};
        assert_eq!(
            effects(read(&config, page.clone())),
            [ReadOnly, Idempotent, Unsafe, Keyed]
        );
        config.trust_annotations = false;
        assert_eq!(
            effects(read(&config, page)),
            [Unsafe, Unsafe, Unsafe, Keyed]
        );
    }

    #[test]
    fn names_that_collide_are_refused_and_told() {
        let page = json!({ "tools": [tool("a.b", &json!({})), tool("a_b", &json!({})), tool("c", &json!({}))] });
        let catalog = read(&ServerConfig::default(), page);
        let names: Vec<&str> = catalog.tools.iter().map(|t| t.spec.name.as_str()).collect();
        assert_eq!(names, ["s__a_b", "s__c"]);
        assert_eq!(catalog.problems.len(), 1);
        assert_eq!(catalog.tool("s__a_b").unwrap().name, "a.b");
    }

    #[test]
    fn a_time_to_live_is_kept_to_and_without_one_a_list_stays_fresh() {
        let config = ServerConfig::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);
        assert!(read(&config, json!({ "tools": [] })).is_fresh(later));
        let catalog = read(&config, json!({ "tools": [], "ttlMs": 60_000 }));
        assert!(catalog.is_fresh(now) && !catalog.is_fresh(later));
    }
}
