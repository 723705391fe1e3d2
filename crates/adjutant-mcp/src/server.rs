//! One server, shared by those whose key is the same: one task owns its life, everybody else sends it words.

mod blueprint;
mod call;
mod owner;

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot},
    time::timeout,
};

pub(crate) use self::{
    blueprint::{Blueprint, ask},
    call::{Call, Clocks},
    owner::refused,
};
use crate::{
    catalog::Catalog,
    config::{Scope, ServerConfig},
    error::{Error, Result},
    gate::Gate,
    key::{Key, Owner},
    machine::State,
    metrics::Counters,
    peer::{Ending, Era, McpPeer, PeerInfo, Stderr},
};

/// Words to an owner that wait to be heard.
const MAX_WORDS: usize = 256;

/// What an owner is told.
pub(crate) enum Word {
    /// Somebody needs the server.
    Want(oneshot::Sender<Result<Arc<dyn McpPeer>>>),
    /// Somebody needs a fresh list.
    Refresh(oneshot::Sender<Result<()>>),
    /// Somebody wants to know whether it is well.
    Probe(oneshot::Sender<Result<Duration>>),
    /// An operator wants a new one.
    Restart,
    /// Two calls in a row had no answer in time.
    Suspect,
    /// The pool closes.
    Close(oneshot::Sender<Ending>),
}

/// Whoever keeps servers. Asked by their owners.
pub(crate) trait Home: Send + Sync {
    /// Forgets a server with which there is nothing left to do, unless somebody uses it.
    fn may_go(&self, server: &Server) -> bool;

    /// Hears what a server speaks.
    fn learned(&self, server: &Arc<Server>, era: Era);
}

/// What all see of one server.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) key: Key,
    scope: Scope,
    /// Whether everybody shares it, as was found out when it was up.
    for_all: AtomicBool,
    pub(crate) owner: Owner,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) gate: Gate,
    pub(crate) counters: Counters,
    pub(crate) stderr: Arc<Stderr>,
    /// Leases.
    pub(crate) users: AtomicUsize,
    /// Told when the last lease is gone.
    pub(crate) unused: Notify,
    in_flight: AtomicUsize,
    landed: Notify,
    timeouts_in_row: AtomicU32,
    generation: AtomicU64,
    live: RwLock<Option<Arc<dyn McpPeer>>>,
    catalog: RwLock<Option<Arc<Catalog>>>,
    pub(crate) view: Mutex<View>,
    words: mpsc::Sender<Word>,
}

/// What the owner lets everybody see.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) info: Option<PeerInfo>,
    pub(crate) restarts: u64,
    pub(crate) last_error: Option<String>,
}

/// A call that keeps the server from being ended.
pub(crate) struct Flight<'a>(&'a Server);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.landed.notify_waiters();
        }
    }
}

impl Server {
    /// A server that nothing has been done about yet, and its owner's task.
    pub(crate) fn start(
        blueprint: Blueprint,
        (key, scope, owner): (Key, Scope, Owner),
        starts: Arc<Semaphore>,
        home: Arc<dyn Home>,
    ) -> Arc<Self> {
        let (words, heard) = mpsc::channel(MAX_WORDS);
        let config = Arc::clone(&blueprint.config);
        let server = Arc::new(Self {
            name: blueprint.name.clone(),
            key,
            scope,
            for_all: AtomicBool::new(false),
            owner,
            gate: Gate::new(&config, Instant::now()),
            counters: Counters::default(),
            stderr: Arc::clone(&blueprint.stderr),
            users: AtomicUsize::new(0),
            unused: Notify::new(),
            in_flight: AtomicUsize::new(0),
            landed: Notify::new(),
            timeouts_in_row: AtomicU32::new(0),
            generation: AtomicU64::new(0),
            live: RwLock::new(None),
            catalog: RwLock::new(None),
            view: Mutex::new(View {
                state: State::Idle,
                info: None,
                restarts: 0,
                last_error: None,
            }),
            words,
            config,
        });
        let task = owner::Task::new(Arc::clone(&server), blueprint, starts);
        // Ends when the pool closes, or when nobody has used the server for its time.
        tokio::spawn(async move { task.run(heard, &*home).await });
        server
    }

    /// Who shares it.
    pub(crate) fn scope(&self) -> Scope {
        if self.for_all.load(Ordering::Acquire) {
            Scope::Shared
        } else {
            self.scope
        }
    }

    /// Lets everybody share it.
    pub(crate) fn share(&self) {
        self.for_all.store(true, Ordering::Release);
    }

    pub(crate) fn view(&self) -> View {
        let view = self.view.lock();
        view.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// The tools as they were listed last.
    pub(crate) fn catalog(&self) -> Option<Arc<Catalog>> {
        let catalog = self.catalog.read();
        catalog.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, mut catalog: Catalog, started: bool) {
        let mut slot = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        let changed = slot.as_ref().is_none_or(|old| old.differs(&catalog));
        if changed || started {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        catalog.generation = self.generation.load(Ordering::Acquire);
        for problem in &catalog.problems {
            tracing::warn!(server = self.name, "{problem}");
        }
        *slot = Some(Arc::new(catalog));
    }

    fn set_live(&self, peer: Option<Arc<dyn McpPeer>>) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = peer;
    }

    /// The live server, held for a call; `None` when it is not up.
    fn board(&self) -> Option<(Arc<dyn McpPeer>, Flight<'_>)> {
        // Counted under the lock, so that a drain, which takes the server away first, misses no call.
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let peer = live.as_ref().filter(|peer| !peer.closed().is_cancelled())?;
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        Some((Arc::clone(peer), Flight(self)))
    }

    /// Waits until no call is under way.
    async fn all_landed(&self) {
        loop {
            let landed = self.landed.notified();
            if self.in_flight() == 0 {
                return;
            }
            landed.await;
        }
    }

    /// Tells the owner, without waiting.
    pub(crate) fn tell(&self, word: Word) {
        // An owner that hears nothing for so many words has more than one to catch up with.
        let _ = self.words.try_send(word);
    }

    pub(crate) async fn ask<A>(
        &self,
        word: impl FnOnce(oneshot::Sender<Result<A>>) -> Word,
        time: Duration,
    ) -> Result<A> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.words
                .send(word(reply))
                .await
                .map_err(|_| Error::Closed)?;
            answer.await.map_err(|_| Error::Closed)?
        };
        let slow = |_| Error::Slow {
            server: self.name.clone(),
            after: time,
        };
        timeout(time, asked).await.map_err(slow)?
    }

    /// Sees to it that it is up.
    pub(crate) async fn ready(&self) -> Result<Arc<dyn McpPeer>> {
        if let Some((peer, _)) = self.board() {
            return Ok(peer);
        }
        self.ask(Word::Want, self.patience()).await
    }

    /// All the starts that are tried before the owner gives up, and the pauses between them.
    fn patience(&self) -> Duration {
        let restart = &self.config.restart;
        let once = self.config.start_timeout.saturating_add(restart.max_delay);
        once.saturating_mul(restart.max.saturating_add(1))
    }

    /// The tools; what cannot be called at present is marked.
    ///
    /// # Errors
    /// When the server has never told them and cannot be asked.
    pub(crate) async fn tools(&self) -> Result<Arc<Catalog>> {
        let known = self.catalog();
        if let Some(known) = known
            .as_ref()
            .filter(|known| known.is_fresh(Instant::now()))
        {
            return Ok(self.marked(known));
        }
        match self.ask(Word::Refresh, self.patience()).await {
            Ok(()) => self.catalog().ok_or(Error::Closed),
            Err(error) => match known {
                Some(known) => Ok(without(&known, &error.to_string())),
                None => Err(error),
            },
        }
    }

    fn marked(&self, known: &Arc<Catalog>) -> Arc<Catalog> {
        let view = self.view();
        match view.state {
            State::Open | State::Failed => {
                without(known, &view.last_error.unwrap_or_else(|| "is down".into()))
            }
            _ => Arc::clone(known),
        }
    }

    /// Whether it is up and answers, and how fast.
    pub(crate) async fn probe(&self) -> Result<Duration> {
        self.ask(Word::Probe, self.patience()).await
    }

    /// Ends it; whether something may be left.
    pub(crate) async fn close(&self) -> Ending {
        let (reply, closed) = oneshot::channel();
        if self.words.send(Word::Close(reply)).await.is_err() {
            return Ending::Clean;
        }
        closed.await.unwrap_or(Ending::Clean)
    }
}

/// The same tools, none of which can be called.
fn without(catalog: &Catalog, why: &str) -> Arc<Catalog> {
    let mut catalog = catalog.clone();
    for tool in &mut catalog.tools {
        tool.spec.unavailable = Some(why.to_owned());
    }
    Arc::new(catalog)
}
