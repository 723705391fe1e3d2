//! The servers of a pool as a source of tools.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use adjutant_core::{RunId, ToolSpec};
use adjutant_tools::{Caller, Invocation, Reply, Result, ToolError, ToolSource};
use async_trait::async_trait;
use futures::future::join_all;
use serde_json::{Map, Value};

use crate::{
    config::ToolFilter,
    names,
    pool::{Lease, McpServerPool, Request},
};

/// How long a server is kept for a run that is not heard of and that nobody has released.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);

/// Servers of a pool as a source of tools, which are named `server__tool`. A run keeps the servers that it has used until
/// [`McpSource::release`].
pub struct McpSource {
    pool: McpServerPool,
    servers: BTreeMap<String, ToolFilter>,
    kept: Mutex<HashMap<(Caller, String), Kept>>,
}

/// A server that a run keeps.
struct Kept {
    lease: Arc<Lease>,
    used: Instant,
}

impl McpSource {
    /// All servers of a pool.
    #[must_use]
    pub fn new(pool: McpServerPool) -> Self {
        let all = pool
            .names()
            .map(|name| (name.to_owned(), ToolFilter::default()));
        let servers = all.collect();
        Self {
            pool,
            servers,
            kept: Mutex::default(),
        }
    }

    /// Some servers of a pool, and of each the tools that its filter admits, besides what the pool's configuration says.
    /// Names of which the pool has no server are left out.
    #[must_use]
    pub fn of(
        pool: McpServerPool,
        servers: impl IntoIterator<Item = (String, ToolFilter)>,
    ) -> Self {
        let servers = servers.into_iter().filter(|(name, _)| pool.has(name));
        let servers = servers.collect();
        Self {
            pool,
            servers,
            kept: Mutex::default(),
        }
    }

    /// Lets go of what a run keeps; call this when the run has ended or waits.
    pub fn release(&self, run: RunId) {
        let mut released = Vec::new();
        let mut kept = self.kept();
        let keys: Vec<_> = kept
            .keys()
            .filter(|(one, _)| one.run == run)
            .cloned()
            .collect();
        for key in keys {
            released.extend(kept.remove(&key));
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<(Caller, String), Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self, server: &str, caller: &Caller) -> crate::Result<Arc<Lease>> {
        let now = Instant::now();
        let mut kept = self.kept();
        kept.retain(|_, one| now.saturating_duration_since(one.used) < FORGOTTEN);
        let key = (caller.clone(), server.to_owned());
        if let Some(one) = kept.get_mut(&key) {
            one.used = now;
            return Ok(Arc::clone(&one.lease));
        }
        let lease = Arc::new(self.pool.acquire(server, caller)?);
        let one = Kept {
            lease: Arc::clone(&lease),
            used: now,
        };
        kept.insert(key, one);
        Ok(lease)
    }

    async fn tools(&self, server: &str, caller: &Caller) -> crate::Result<Vec<ToolSpec>> {
        let catalog = self.lease(server, caller)?.tools().await?;
        let filter = self.servers.get(server);
        let seen = |name: &str| filter.is_none_or(|filter| filter.admits(name));
        let tools = catalog.tools.iter().filter(|tool| seen(&tool.name));
        Ok(tools.map(|tool| tool.spec.clone()).collect())
    }

    /// The server that has a tool of this name, if the caller may use it.
    fn server_of<'a>(&self, name: &'a str) -> Result<&'a str> {
        let missing = || ToolError::NotFound {
            tool: name.to_owned(),
        };
        let server = names::server_of(name).ok_or_else(missing)?;
        if self.servers.contains_key(server) {
            Ok(server)
        } else {
            Err(missing())
        }
    }
}

#[async_trait]
impl ToolSource for McpSource {
    fn name(&self) -> &str {
        "mcp"
    }

    /// The tools of all servers. One that has never told its tools and is down is an error, unless it is optional: an
    /// agent that lacks its tools gives answers that look right.
    async fn list(&self, caller: &Caller) -> Result<Vec<ToolSpec>> {
        let asked = self.servers.keys().map(|server| self.tools(server, caller));
        let mut all = Vec::new();
        for (server, listed) in self.servers.keys().zip(join_all(asked).await) {
            let optional = self
                .pool
                .config(server)
                .is_some_and(|config| config.optional);
            match listed {
                Ok(tools) => all.extend(tools),
                Err(error) if optional => {
                    tracing::warn!(server, %error, run_id = %caller.run, "the run goes without its tools");
                }
                Err(error) => return Err(error.into_tool_error(server)),
            }
        }
        Ok(all)
    }

    async fn call(&self, caller: &Caller, call: Invocation<'_>) -> Result<Reply> {
        let server = self.server_of(call.name)?;
        let lease = self.lease(server, caller);
        let lease = lease.map_err(|error| error.into_tool_error(call.name))?;
        let arguments: Map<String, Value> = call
            .arguments
            .to()
            .map_err(|_| ToolError::invalid(call.name, "", "they are no object"))?;
        let request = Request {
            tool: call.name,
            arguments: &arguments,
            timeout: Some(call.timeout),
            traceparent: call.traceparent,
            idempotency_key: Some(call.idempotency_key),
            progress: call.progress,
            port: call.port,
            resume: call.resume,
            filter: self.servers.get(server),
        };
        lease.call(request).await
    }
}
