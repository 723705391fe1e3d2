//! How one server is started: as a process or at an address, up to its list of tools.

use std::{path::PathBuf, sync::Arc, time::Instant};

use adjutant_process::{Environment, ProcessManager, ProcessSpec};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    catalog::{Catalog, Page},
    config::{Flow, Kind, ServerConfig},
    locate::{self, Lookup},
    oauth::{Access, Account, TokenStore},
    peer::{
        Answer, Ask, Dial, Launch, McpPeer, Mode, PeerError, RmcpPeer, StartError, Stderr, What,
        launch, reach,
    },
    secrets::Resolved,
};

/// Pages of one list; a server that has more goes round in circles.
const MAX_PAGES: usize = 1000;

/// All that is needed to start one server, again and again.
#[derive(Clone)]
pub(crate) struct Blueprint {
    pub(crate) name: String,
    pub(crate) config: Arc<ServerConfig>,
    /// Its variables or headers.
    pub(crate) values: Resolved,
    /// What every process has in its environment.
    pub(crate) base: Environment,
    /// The folder that paths are relative to.
    pub(crate) dir: PathBuf,
    pub(crate) lookup: Lookup,
    pub(crate) processes: Arc<dyn ProcessManager>,
    /// The name and version that servers are told.
    pub(crate) client: (String, String),
    pub(crate) stderr: Arc<Stderr>,
    /// Where tokens are, and whose.
    pub(crate) tokens: Option<(Arc<dyn TokenStore>, Account)>,
}

impl Blueprint {
    /// Starts the server and asks it for its tools.
    pub(crate) async fn start(
        &self,
        mode: Mode,
        changed: Arc<Notify>,
    ) -> Result<(Arc<dyn McpPeer>, Catalog), StartError> {
        let dial = Dial {
            server: self.name.clone(),
            access: self.access(),
            client: self.client.clone(),
            roots: self.config.roots.clone(),
            mode,
            changed,
        };
        let peer: Arc<dyn McpPeer> = match self.config.kind() {
            Kind::Stdio => Arc::new(self.start_process(dial).await?),
            Kind::Http => Arc::new(reach(self, dial).await?),
        };
        let listed = self.list(&*peer).await;
        let catalog = listed.map_err(|error| StartError {
            why: format!("its tools could not be listed: {error}"),
            lasting: error.wants_login(),
            next: None,
        })?;
        Ok((peer, catalog))
    }

    /// Where its token comes from.
    fn access(&self) -> Access {
        let own = self.config.oauth.as_ref();
        let by_secret = own.is_some_and(|oauth| oauth.flow() == Flow::ClientCredentials);
        let mut headers = self.values.values.iter();
        let by_header = headers.any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        Access {
            server: self.name.clone(),
            configured: by_secret || by_header,
        }
    }

    async fn start_process(&self, dial: Dial) -> Result<RmcpPeer, StartError> {
        let lasting = |why: String| StartError {
            why,
            lasting: true,
            next: None,
        };
        let spec = self.spec().map_err(lasting)?;
        let launched = launch(
            &*self.processes,
            Launch {
                server: self.name.clone(),
                spec,
                hidden: self.values.hidden.clone(),
                stderr: Arc::clone(&self.stderr),
            },
        );
        let launched = launched.await.map_err(|error| StartError {
            why: error.to_string(),
            lasting: !error.retryable(),
            next: None,
        })?;
        dial.process(launched).await
    }

    fn spec(&self) -> Result<ProcessSpec, String> {
        let config = &self.config;
        let mut env = self.base.clone();
        for (name, value) in &self.values.values {
            env.set(name, value);
        }
        let cwd = config.cwd.as_ref().map(|cwd| self.dir.join(cwd));
        let dir = cwd.unwrap_or_else(|| self.dir.clone());
        if !dir.is_dir() {
            return Err(format!(
                "`cwd`: the folder {} does not exist",
                dir.display()
            ));
        }
        let command = config.command.as_deref().unwrap_or_default();
        let mut isolation = config.isolation.clone();
        isolation.network = config.network;
        Ok(ProcessSpec {
            program: locate::find(command, &self.dir, &env, &self.lookup)?,
            args: config.args.clone(),
            dir,
            env,
            limits: config.limits,
            isolation,
        })
    }

    /// Asks for all tools.
    pub(crate) async fn list(&self, peer: &dyn McpPeer) -> Result<Catalog, PeerError> {
        let mut pages = Vec::new();
        let mut cursor: Option<String> = None;
        while peer.info().tools && pages.len() < MAX_PAGES {
            let params = match &cursor {
                Some(cursor) => json!({ "cursor": cursor }),
                None => json!({}),
            };
            let answer = ask(peer, "tools/list", params).await?;
            let read: Result<Page, _> = serde_json::from_value(answer);
            let page = read.map_err(|error| PeerError::Nonsense(error.to_string()))?;
            cursor = page.next_cursor.clone();
            pages.push(page);
            if cursor.is_none() {
                break;
            }
        }
        Ok(Catalog::read(
            &self.name,
            &self.config,
            pages,
            Instant::now(),
        ))
    }
}

/// Sends a plain request and waits for its answer; the caller limits the time.
pub(crate) async fn ask(
    peer: &dyn McpPeer,
    method: &'static str,
    params: Value,
) -> Result<Value, PeerError> {
    let pending = peer
        .send(Ask {
            what: What::Other { method, params },
            meta: Vec::new(),
            events: None,
        })
        .await?;
    match pending.answer.await? {
        Answer::Json(value) => Ok(value),
        Answer::Tool(_) => Err(PeerError::Nonsense(format!(
            "the answer to `{method}` is one of a tool"
        ))),
    }
}
