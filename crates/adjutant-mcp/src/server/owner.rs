//! The task that owns one server: turns what happens into the machine's events, and carries out its effects.

mod watch;

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{Home, Server, View, Word, blueprint::Blueprint};
use crate::{
    catalog::Catalog,
    config::Scope,
    error::{Error, Result},
    machine::{Effect, Event, Life, Machine, State},
    metrics::count,
    peer::{Ending, McpPeer, Mode, PeerError, StartError},
};

/// How long a server may be silent when asked for the modern revision.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);

/// How long calls may go on when the server is to be ended.
const DRAIN: Duration = Duration::from_secs(30);

/// Changes within this time are one change.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What has been done.
enum Done {
    Started(Result<(Arc<dyn McpPeer>, Catalog), StartError>),
    Gone(Arc<dyn McpPeer>, String),
    Drained,
    Ended(Ending),
    Rang(u64),
    Cleaned(Ending),
    Idled(u64),
    Listed(Arc<dyn McpPeer>, Result<Catalog, PeerError>),
    Checked(Arc<dyn McpPeer>, Result<Duration, String>),
}

/// The owner of one server.
pub(super) struct Task {
    server: Arc<Server>,
    blueprint: Blueprint,
    starts: Arc<Semaphore>,
    machine: Machine,
    peer: Option<Arc<dyn McpPeer>>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    waiting: Vec<oneshot::Sender<Result<Arc<dyn McpPeer>>>>,
    refreshing: Vec<oneshot::Sender<Result<()>>>,
    probing: Vec<oneshot::Sender<Result<Duration>>>,
    /// Told when the tools have changed.
    changed: Arc<Notify>,
    listing: bool,
    /// Whether the tools have changed while they were listed.
    list_again: bool,
    checking: bool,
    mode: Mode,
    started: u64,
    /// The number of the idle timer that counts.
    idle_token: u64,
    clean: bool,
}

impl Task {
    pub(super) fn new(server: Arc<Server>, blueprint: Blueprint, starts: Arc<Semaphore>) -> Self {
        Self {
            machine: Machine::new(server.config.restart),
            server,
            blueprint,
            starts,
            peer: None,
            work: FuturesUnordered::new(),
            waiting: Vec::new(),
            refreshing: Vec::new(),
            probing: Vec::new(),
            changed: Arc::default(),
            listing: false,
            list_again: false,
            checking: false,
            mode: Mode::Probe(PROBE_PATIENCE),
            started: 0,
            idle_token: 0,
            clean: true,
        }
    }

    /// Owns the server until the pool closes or forgets it.
    pub(super) async fn run(mut self, mut words: mpsc::Receiver<Word>, home: &dyn Home) {
        let changed = Arc::clone(&self.changed);
        let server = Arc::clone(&self.server);
        loop {
            self.show();
            if self.at_rest() && home.may_go(&self.server) {
                return;
            }
            tokio::select! {
                word = words.recv() => match word {
                    Some(Word::Close(reply)) => {
                        let ending = self.close().await;
                        let _ = reply.send(ending);
                        return;
                    }
                    Some(word) => self.hear(word),
                    // The pool and all leases are gone.
                    None => {
                        self.close().await;
                        return;
                    }
                },
                Some(done) = self.work.next(), if !self.work.is_empty() => {
                    if let Done::Started(Ok((peer, _))) = &done {
                        home.learned(&self.server, peer.info().era);
                    }
                    self.take(done);
                }
                () = changed.notified() => self.list(DEBOUNCE),
                () = server.unused.notified() => self.count_down(),
            }
        }
    }

    /// Nothing lives, nobody waits.
    fn at_rest(&self) -> bool {
        let rests = matches!(self.machine.life(), Life::Idle | Life::Stopped);
        rests && self.waiting.is_empty() && self.refreshing.is_empty() && self.probing.is_empty()
    }

    fn show(&self) {
        let view = View {
            state: self.machine.state(0),
            info: self.peer.as_ref().map(|peer| peer.info().clone()),
            restarts: self.started.saturating_sub(1),
            last_error: self.machine.last_error().map(str::to_owned),
        };
        *self
            .server
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = view;
    }

    fn push(&self, work: impl Future<Output = Done> + Send + 'static) {
        self.work.push(work.boxed());
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Want(reply) => {
                self.waiting.push(reply);
                self.apply(Event::Wanted);
            }
            Word::Refresh(reply) => {
                self.refreshing.push(reply);
                self.refresh();
            }
            Word::Probe(reply) => {
                self.probing.push(reply);
                if matches!(self.machine.life(), Life::Ready { .. }) {
                    self.check();
                } else {
                    self.apply(Event::Wanted);
                }
            }
            Word::Restart => self.apply(Event::Restart),
            Word::Suspect => self.check(),
            Word::Close(_) => {}
        }
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Started(result) => self.started(result),
            Done::Gone(peer, why) => self.gone(&peer, why),
            Done::Drained => self.apply(Event::Drained),
            Done::Ended(ending) => self.ended(ending),
            Done::Rang(token) => {
                let used = self.server.users.load(Ordering::Acquire) > 0;
                let needed = used || !self.waiting.is_empty() || !self.refreshing.is_empty();
                self.apply(Event::Timer { token, needed });
            }
            Done::Cleaned(ending) => self.cleaned(ending),
            Done::Idled(token) => self.idled(token),
            Done::Listed(peer, listed) => self.listed(&peer, listed),
            Done::Checked(peer, health) => self.checked(&peer, &health),
        }
    }

    fn apply(&mut self, event: Event) {
        let jitter = RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64;
        let effects = self.machine.apply(event, Instant::now(), jitter);
        for effect in effects {
            self.carry_out(&effect);
        }
    }

    fn carry_out(&mut self, effect: &Effect) {
        match *effect {
            Effect::Start => self.start(),
            Effect::Admit => self.admit(),
            Effect::Drain => {
                self.server.set_live(None);
                let server = Arc::clone(&self.server);
                self.push(async move {
                    let _ = timeout(DRAIN, server.all_landed()).await;
                    Done::Drained
                });
            }
            Effect::End => {
                self.server.set_live(None);
                let peer = self.peer.take();
                self.push(async move {
                    let ending = match peer {
                        Some(peer) => peer.end().await,
                        None => Ending::Clean,
                    };
                    Done::Ended(ending)
                });
            }
            Effect::Timer { token, after } => self.push(async move {
                tokio::time::sleep(after).await;
                Done::Rang(token)
            }),
            Effect::Refuse => self.refuse(),
        }
    }

    fn start(&mut self) {
        count(&self.server.counters.starts);
        self.started += 1;
        let blueprint = self.blueprint.clone();
        let starts = Arc::clone(&self.starts);
        let changed = Arc::clone(&self.changed);
        let mode = self.mode;
        self.push(async move {
            // Closed never; a start that waits for its turn is not yet slow.
            let _turn = starts.acquire_owned().await;
            let time = blueprint.config.start_timeout;
            let slow = |_| StartError {
                why: format!("it did not get ready within {time:?}"),
                lasting: false,
                next: Some(mode.other()),
            };
            let started = timeout(time, blueprint.start(mode, changed)).await;
            Done::Started(started.map_err(slow).flatten())
        });
    }

    fn started(&mut self, result: Result<(Arc<dyn McpPeer>, Catalog), StartError>) {
        match result {
            Ok((peer, catalog)) => {
                self.server.publish(catalog, true);
                self.server.timeouts_in_row.store(0, Ordering::Relaxed);
                let info = peer.info();
                tracing::info!(
                    server = self.server.name,
                    revision = info.revision,
                    pid = info.pid,
                    "MCP server is up"
                );
                self.peer = Some(Arc::clone(&peer));
                self.push(async move {
                    peer.closed().cancelled().await;
                    let why = peer.why().await;
                    Done::Gone(peer, why)
                });
                self.apply(Event::Started);
                self.count_down();
            }
            Err(error) => {
                count(&self.server.counters.start_failures);
                self.mode = error.next.unwrap_or(self.mode);
                let last = self.blueprint.stderr.last_line();
                let why = match last {
                    Some(line) => format!("{}; its last words: {line}", error.why),
                    None => error.why,
                };
                tracing::warn!(server = self.server.name, "MCP server did not start: {why}");
                let lasting = error.lasting;
                self.apply(Event::StartFailed { why, lasting });
            }
        }
    }

    /// Lets everybody in who waits.
    fn admit(&mut self) {
        // One that has just gone is not let in to; whoever waits gets the next.
        let up = |peer: &&Arc<dyn McpPeer>| !peer.closed().is_cancelled();
        let Some(peer) = self.peer.as_ref().filter(up) else {
            return;
        };
        self.server.set_live(Some(Arc::clone(peer)));
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Ok(Arc::clone(peer)));
        }
        if !self.refreshing.is_empty() {
            self.refresh();
        }
        if !self.probing.is_empty() {
            self.check();
        }
    }

    /// Sends everybody away who waits.
    fn refuse(&mut self) {
        let error = self.down();
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
        for reply in self.refreshing.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
        for reply in self.probing.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
    }

    fn down(&self) -> Error {
        let server = self.server.name.clone();
        let problem = self.machine.last_error().unwrap_or("it is down").to_owned();
        match self.machine.life() {
            Life::Failed { .. } => Error::Unusable { server, problem },
            Life::Open { until } => Error::Down {
                server,
                problem,
                retry_after: until.saturating_duration_since(Instant::now()),
            },
            _ => Error::Lost { server, problem },
        }
    }

    fn ended(&mut self, ending: Ending) {
        self.cleaned(ending);
        self.apply(Event::Ended);
    }

    fn cleaned(&mut self, ending: Ending) {
        if ending == Ending::Survivors {
            count(&self.server.counters.survivors);
            self.clean = false;
        }
    }

    /// Begins to count when nobody uses it.
    fn count_down(&mut self) {
        if self.server.users.load(Ordering::Acquire) > 0 {
            return;
        }
        let idle = match self.server.scope() {
            Scope::Run => Duration::ZERO,
            Scope::Shared | Scope::Agent => self.server.config.idle_shutdown,
        };
        self.idle_token += 1;
        let token = self.idle_token;
        self.push(async move {
            tokio::time::sleep(idle).await;
            Done::Idled(token)
        });
    }

    fn idled(&mut self, token: u64) {
        if token == self.idle_token
            && self.server.users.load(Ordering::Acquire) == 0
            && self.server.in_flight() == 0
        {
            self.apply(Event::Rest);
        }
    }

    /// Ends whatever lives; calls under way fail.
    async fn close(&mut self) -> Ending {
        self.server.set_live(None);
        // Drops a start under way, and its process with it.
        self.work.clear();
        let error = Error::Closed;
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
        let ending = match self.peer.take() {
            Some(peer) => peer.end().await,
            None => Ending::Clean,
        };
        let mut view = self
            .server
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        view.state = State::Stopped;
        if self.clean {
            ending
        } else {
            Ending::Survivors
        }
    }
}

/// A refusal as callers see it.
pub(crate) fn refused(server: &str, method: &str, error: PeerError) -> Error {
    let server = server.to_owned();
    match error {
        PeerError::Lost { why, .. } => Error::Lost {
            server,
            problem: why,
        },
        PeerError::Refused { code, message } => Error::Refused {
            server,
            method: method.to_owned(),
            problem: message,
            code,
        },
        PeerError::Nonsense(problem) => Error::Refused {
            server,
            method: method.to_owned(),
            problem,
            code: 0,
        },
    }
}
