//! All servers, and who uses them.

mod lease;
mod login;
mod options;
mod view;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use adjutant_process::Variables;
use adjutant_tools::Caller;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{Semaphore, oneshot};

pub use self::{
    lease::{Lease, Request},
    options::PoolOptions,
    view::ServerView,
};
use crate::{
    config::{Kind, Scope, ServerConfig, ServersConfig},
    error::{Error, Result},
    key::{self, Key, Owner},
    machine::State,
    peer::{Ending, Era, Stderr},
    secrets::{self, Resolved},
    server::{Blueprint, Home, Server, Word},
};

/// No more servers than this are started at a time.
const MOST_STARTS: usize = 8;

/// Starts, shares, watches and ends MCP servers. Cheap to clone. Contract:
///
/// - Servers are shared by those who have everything in common that matters: see `scope` in the configuration. Never
///   across tenants and principals.
/// - A server is started when it is first needed, again when it dies, and ended when nobody has used it for its time.
/// - A call that was sent and not answered is made again only where its tool's effect allows that.
#[derive(Clone)]
pub struct McpServerPool {
    inner: Arc<Inner>,
}

struct Inner {
    config: BTreeMap<String, Arc<ServerConfig>>,
    options: PoolOptions,
    starts: Arc<Semaphore>,
    servers: Mutex<HashMap<Key, Arc<Server>>>,
    /// What was found out about servers that were up once.
    modern: Mutex<HashMap<Key, bool>>,
    closed: AtomicBool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let servers = self
            .servers
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for server in servers.values() {
            server.tell(Word::Close(oneshot::channel().0));
        }
    }
}

impl McpServerPool {
    /// A pool of these servers; nothing is started.
    #[must_use]
    pub fn new(config: ServersConfig, options: PoolOptions) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let enabled = config.servers.into_iter().filter(|(_, one)| !one.disabled);
        Self {
            inner: Arc::new(Inner {
                config: enabled.map(|(name, one)| (name, Arc::new(one))).collect(),
                options,
                starts: Arc::new(Semaphore::new(cores.min(MOST_STARTS))),
                servers: Mutex::default(),
                modern: Mutex::default(),
                closed: AtomicBool::new(false),
            }),
        }
    }

    /// The names of the servers, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.inner.config.keys().map(String::as_str)
    }

    /// Whether there is such a server.
    #[must_use]
    pub fn has(&self, server: &str) -> bool {
        self.inner.config.contains_key(server)
    }

    /// A server's configuration.
    #[must_use]
    pub fn config(&self, server: &str) -> Option<&ServerConfig> {
        self.inner.config.get(server).map(|config| &**config)
    }

    /// Keeps a server for a caller, without starting it. It is not ended for want of use before the lease is dropped. To be
    /// called within a tokio runtime, which the server's owner then lives in.
    ///
    /// # Errors
    /// When there is no such server, a secret of it is not there, or the pool is closed.
    pub fn acquire(&self, server: &str, caller: &Caller) -> Result<Lease> {
        let shared = self.inner.find(server, caller)?;
        Ok(Lease::new(
            shared,
            caller.clone(),
            Arc::clone(&self.inner.options.audit),
        ))
    }

    /// All servers: those that were needed so far, once for each that shares nothing with the others, and those that
    /// were not.
    #[must_use]
    pub fn list(&self) -> Vec<ServerView> {
        let servers = self.inner.servers();
        let mut views: Vec<ServerView> = servers.values().map(|one| ServerView::of(one)).collect();
        // One that everybody shares by now is there under two keys.
        views.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
        views.dedup_by(|a, b| a.key == b.key && a.key.is_some());
        let unused = self.inner.config.iter().filter(|(name, _)| {
            let used = |one: &Arc<Server>| one.name == **name;
            !servers.values().any(used)
        });
        views.extend(unused.map(|(name, config)| ServerView::unused(name, config)));
        views.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
        views
    }

    /// Starts a server if need be, asks it whether it is well, and says how long that took to answer.
    ///
    /// # Errors
    /// When it is not well.
    pub async fn probe(&self, server: &str, caller: &Caller) -> Result<Duration> {
        let lease = self.acquire(server, caller)?;
        lease.server().probe().await
    }

    /// Starts a server anew wherever it is up, after its calls have ended; returns how many there were.
    ///
    /// # Errors
    /// When one does not come up again.
    pub async fn restart(&self, server: &str) -> Result<usize> {
        if !self.has(server) {
            return Err(unknown(server));
        }
        let mut all = self.inner.unique();
        let rests = |one: &Server| matches!(one.view().state, State::Idle | State::Stopped);
        all.retain(|one| one.name == server && !rests(one));
        for one in &all {
            one.tell(Word::Restart);
        }
        for one in &all {
            one.ask(Word::Want, one.config.max_call_time).await?;
        }
        Ok(all.len())
    }

    /// Starts what the configuration wants started ahead, for a caller; failures are logged and tried again when needed.
    pub async fn prewarm(&self, caller: &Caller) {
        let wanted = self.inner.config.iter().filter(|(_, one)| one.prewarm);
        let mut starts: FuturesUnordered<_> = wanted
            .map(|(name, _)| async move {
                let started = match self.acquire(name, caller) {
                    Ok(lease) => lease.server().ready().await.map(drop),
                    Err(error) => Err(error),
                };
                if let Err(error) = started {
                    tracing::warn!(server = name, %error, "MCP server was not started ahead");
                }
            })
            .collect();
        while starts.next().await.is_some() {}
    }

    /// Ends all servers; calls under way fail. Returns how many servers something may be left of, which should be none.
    pub async fn close(&self) -> usize {
        self.inner.closed.store(true, Ordering::Release);
        let all = self.inner.unique();
        self.inner.servers().clear();
        let mut closing: FuturesUnordered<_> = all.iter().map(|one| one.close()).collect();
        let mut survivors = 0;
        while let Some(ending) = closing.next().await {
            survivors += usize::from(ending == Ending::Survivors);
        }
        survivors
    }
}

fn unknown(server: &str) -> Error {
    Error::UnknownServer {
        server: server.to_owned(),
    }
}

impl Inner {
    fn servers(&self) -> MutexGuard<'_, HashMap<Key, Arc<Server>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, each once.
    fn unique(&self) -> Vec<Arc<Server>> {
        let mut all: Vec<Arc<Server>> = self.servers().values().cloned().collect();
        all.sort_by_key(|one| Arc::as_ptr(one).addr());
        all.dedup_by(|a, b| Arc::ptr_eq(a, b));
        all
    }

    /// The server that this caller shares, made if need be and counted as used.
    fn find(self: &Arc<Self>, name: &str, caller: &Caller) -> Result<Arc<Server>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let config = self.config.get(name).ok_or_else(|| unknown(name))?;
        let values = self.resolve(name, config)?;
        let base = Key::of_server(name, config, &values);
        let scope = key::scope(config, self.is_modern(&base));
        let key = Key::new(name, config, &values, scope, caller);
        let mut servers = self.servers();
        let server = match servers.get(&key) {
            Some(server) => Arc::clone(server),
            None => {
                let owner = Owner::new(scope, caller);
                let identity = (key.clone(), scope, owner);
                let undecided = config.scope.is_none() && config.stateless.is_none();
                let for_all =
                    undecided.then(|| Key::new(name, config, &values, Scope::Shared, caller));
                let tie = Tie {
                    inner: Arc::downgrade(self),
                    base,
                    for_all,
                };
                let mut blueprint = self.blueprint(name, config, values);
                blueprint.tokens = self.tokens(config, caller);
                let home = Arc::new(tie);
                let server = Server::start(blueprint, identity, Arc::clone(&self.starts), home);
                servers.insert(key, Arc::clone(&server));
                server
            }
        };
        server.users.fetch_add(1, Ordering::AcqRel);
        Ok(server)
    }

    fn is_modern(&self, base: &Key) -> bool {
        let known = self.modern.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(base).copied().unwrap_or_default()
    }

    fn resolve(&self, name: &str, config: &ServerConfig) -> Result<Resolved> {
        let (field, variables): (&str, &Variables) = match config.kind() {
            Kind::Stdio => ("env", &config.env),
            Kind::Http => ("headers", &config.headers),
        };
        let PoolOptions { dir, lookup, .. } = &self.options;
        secrets::resolve(field, variables, dir, lookup).map_err(|problem| Error::Unusable {
            server: name.to_owned(),
            problem,
        })
    }

    fn blueprint(&self, name: &str, config: &Arc<ServerConfig>, values: Resolved) -> Blueprint {
        let options = &self.options;
        Blueprint {
            name: name.to_owned(),
            config: Arc::clone(config),
            values,
            base: options.base.clone(),
            dir: PathBuf::clone(&options.dir),
            lookup: Arc::clone(&options.lookup),
            processes: Arc::clone(&options.processes),
            client: options.client.clone(),
            stderr: Arc::<Stderr>::default(),
            tokens: None,
        }
    }
}

/// A server's way back to the pool.
struct Tie {
    inner: Weak<Inner>,
    /// What it is apart from who uses it.
    base: Key,
    /// Its key if everybody shared it, where nobody chose another scope.
    for_all: Option<Key>,
}

impl Home for Tie {
    fn may_go(&self, server: &Server) -> bool {
        let Some(inner) = self.inner.upgrade() else {
            return true;
        };
        let mut servers = inner.servers();
        let unused = server.users.load(Ordering::Acquire) == 0;
        if unused {
            servers.retain(|_, one| !std::ptr::eq(&**one, server));
        }
        unused
    }

    fn learned(&self, server: &Arc<Server>, era: Era) {
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        let modern = era == Era::Modern;
        let mut known = inner.modern.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(self.base.clone(), modern);
        drop(known);
        // From now on everybody who may share it does.
        if let Some(key) = self.for_all.as_ref().filter(|_| modern) {
            let mut servers = inner.servers();
            let shared = servers.entry(key.clone());
            let shared = shared.or_insert_with(|| Arc::clone(server));
            if Arc::ptr_eq(shared, server) {
                server.share();
            }
        }
    }
}
