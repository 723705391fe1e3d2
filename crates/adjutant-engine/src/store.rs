//! The store: a handle to the writer, the reading side, and those who wait.

use std::{
    collections::VecDeque,
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use adjutant_budget::BudgetLedger;
use adjutant_core::{Clock, Error, Limits, Result, RunId};
use adjutant_queue::Submitted;
use adjutant_store::{CheckReport, Commit, Committed, Fork, Op, Package, Store, StoreInfo};
use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{
    batch::Rules,
    cache::Cache,
    ledger::EngineLedger,
    reply::Reply,
    request::{Entry, ReadyCommit, ReadyFork, Request},
    storage::{Reads, Storage},
    wake::{Hub, WakeUps},
    writer::{QUEUE, Requests, Writer},
};

/// What every engine is told.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where times come from that are written before the transaction's own is known.
    pub clock: Arc<dyn Clock>,
    /// What the store takes at most.
    pub limits: Limits,
    /// Checkpoints kept per run, at least 1.
    pub checkpoints_kept: usize,
}

/// What a store's writer has done so far, for tests and measurements.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    calls: AtomicU64,
}

impl Counters {
    /// Counts a call to the database.
    pub fn call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }
}

/// [`Counters`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterStats {
    /// Requests carried out.
    pub requests: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Transactions that were tried again because of another process.
    pub conflicts: u64,
    /// Calls to the database by the writer.
    pub calls: u64,
}

/// A store whose writes are grouped: whatever has queued up while the last group was written becomes the
/// next transaction. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct EngineStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: EngineConfig,
    pub requests: Requests,
    pub reads: Arc<dyn Reads>,
    pub hub: Arc<Hub>,
    pub counters: Arc<Counters>,
}

impl fmt::Debug for EngineStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shape = f.debug_struct("EngineStore");
        shape
            .field("location", &self.inner.reads.info().location)
            .finish_non_exhaustive()
    }
}

impl EngineStore {
    /// Starts a writer on the current runtime. It ends by itself: when the store is closed, or all handles to it
    /// are gone.
    #[must_use]
    pub fn start<S: Storage>(
        storage: S,
        reads: Arc<dyn Reads>,
        config: EngineConfig,
        counters: Arc<Counters>,
    ) -> Self {
        let hub = Arc::new(Hub::default());
        let (requests, receiver) = mpsc::channel(QUEUE);
        let writer = Writer {
            storage,
            requests: receiver,
            own: requests.downgrade(),
            hub: Arc::clone(&hub),
            counters: Arc::clone(&counters),
            rules: Rules {
                checkpoints_kept: u64::try_from(config.checkpoints_kept.max(1)).unwrap_or(u64::MAX),
                location: reads.info().location.into(),
            },
            cache: Cache::default(),
            parked: VecDeque::new(),
        };
        tokio::spawn(writer.run());
        Self {
            inner: Arc::new(Inner {
                config,
                requests,
                reads,
                hub,
                counters,
            }),
        }
    }

    /// Where an engine tells what it hears of other processes' writes.
    #[must_use]
    pub fn wake_ups(&self) -> WakeUps {
        WakeUps(Arc::clone(&self.inner.hub))
    }

    /// What the writer has done so far.
    #[must_use]
    pub fn writer_stats(&self) -> WriterStats {
        let counters = &self.inner.counters;
        WriterStats {
            requests: counters.requests.load(Relaxed),
            commits: counters.commits.load(Relaxed),
            conflicts: counters.conflicts.load(Relaxed),
            calls: counters.calls.load(Relaxed),
        }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.inner.config.clock
    }

    pub(crate) fn limits_ref(&self) -> &Limits {
        &self.inner.config.limits
    }

    /// Asks the writer and waits for its answer.
    pub(crate) async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let (reply, answer) = Reply::new();
        let sent = self.inner.requests.send(request(reply)).await;
        sent.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// Does what needs no look at the store.
fn ready(commit: Commit, store: &EngineStore) -> Result<ReadyCommit> {
    let (limits, now) = (store.limits_ref(), store.clock().now());
    commit.check(limits)?;
    let children = commit.ops.iter().filter_map(|op| match op {
        Op::Spawn(child) => Some(Entry::new((**child).clone(), limits, now)),
        _ => None,
    });
    let children = children.collect::<Result<_>>()?;
    Ok(ReadyCommit { commit, children })
}

#[async_trait]
impl Store for EngineStore {
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        let commit = Box::new(ready(commit, self)?);
        self.ask(|reply| Request::Commit(commit, reply)).await
    }

    async fn fork(&self, fork: Fork) -> Result<Submitted> {
        let fork = Box::new(ReadyFork {
            source: fork.source,
            steps: fork.steps,
            entry: Entry::new(fork.run, self.limits_ref(), self.clock().now())?,
        });
        self.ask(|reply| Request::Fork(fork, reply)).await
    }

    async fn export(&self, run: RunId) -> Result<Option<Package>> {
        self.pack(run).await
    }

    async fn import(&self, package: Package) -> Result<()> {
        package.check()?;
        let package = Box::new(package);
        self.ask(|reply| Request::Import(package, reply)).await
    }

    fn ledger(&self) -> Arc<dyn BudgetLedger> {
        Arc::new(EngineLedger(self.clone()))
    }

    fn info(&self) -> StoreInfo {
        self.inner.reads.info()
    }

    fn limits(&self) -> Limits {
        self.inner.config.limits
    }

    async fn check(&self) -> Result<CheckReport> {
        self.inner.reads.check().await
    }

    async fn backup(&self, to: &Path) -> Result<()> {
        self.inner.reads.backup(to).await
    }

    async fn close(&self) {
        self.inner.reads.close().await;
        // No answer means that somebody else has closed it.
        let _closed = self.ask(Request::Close).await;
    }
}
