//! What operators see of a server.

use adjutant_core::Effect;
use serde::Serialize;

use crate::{
    config::{Kind, Scope, ServerConfig},
    key::Owner,
    machine::State,
    metrics::ServerMetrics,
    peer::PeerInfo,
    server::Server,
};

/// One server, as it is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerView {
    /// Its name in the configuration.
    pub name: String,
    /// Tells servers of one name apart; absent while it was not needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How it is reached.
    pub kind: Kind,
    /// Where it is in its life.
    pub state: State,
    /// Who shares it; absent while that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// What it says of itself, while it is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<PeerInfo>,
    /// Grows with each start and each change of its tools.
    pub generation: u64,
    /// Names and effects of its tools.
    pub tools: Vec<(String, Effect)>,
    /// Tools that are left out, and why.
    pub problems: Vec<String>,
    /// Calls under way.
    pub in_flight: usize,
    /// Calls that wait for their turn.
    pub waiting: usize,
    /// Who keeps it, counted.
    pub users: usize,
    /// How often it was started again.
    pub restarts: u64,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The end of what it wrote to stderr.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// Figures.
    pub metrics: ServerMetrics,
}

impl ServerView {
    pub(crate) fn of(server: &Server) -> Self {
        let view = server.view();
        let in_flight = server.in_flight();
        let state = match view.state {
            State::Ready if in_flight > 0 => State::Busy,
            state => state,
        };
        let catalog = server.catalog();
        let tools = catalog.iter().flat_map(|catalog| &catalog.tools);
        let tools = tools.map(|tool| (tool.spec.name.clone(), tool.spec.effect));
        Self {
            name: server.name.clone(),
            key: Some(server.key.short()),
            kind: server.config.kind(),
            state,
            scope: Some(server.scope()),
            owner: Some(server.owner.clone()),
            info: view.info,
            generation: catalog.as_ref().map_or(0, |catalog| catalog.generation),
            tools: tools.collect(),
            problems: catalog.map_or_else(Vec::new, |catalog| catalog.problems.clone()),
            in_flight,
            waiting: server.gate.waiting(),
            users: server.users.load(std::sync::atomic::Ordering::Acquire),
            restarts: view.restarts,
            last_error: view.last_error,
            stderr: server.stderr.text(),
            metrics: server.counters.snapshot(server.stderr.bytes()),
        }
    }

    pub(crate) fn unused(name: &str, config: &ServerConfig) -> Self {
        Self {
            name: name.to_owned(),
            key: None,
            kind: config.kind(),
            state: State::Idle,
            scope: config.scope,
            owner: None,
            info: None,
            generation: 0,
            tools: Vec::new(),
            problems: Vec::new(),
            in_flight: 0,
            waiting: 0,
            users: 0,
            restarts: 0,
            last_error: None,
            stderr: String::new(),
            metrics: ServerMetrics::default(),
        }
    }
}
