//! The store: a handle to the writer, the readers, and those who wait.

use std::{fmt, path::Path, sync::Arc};

use adjutant_core::{Clock, Error, Limits, Result};
use adjutant_events::engine::check_event;
use adjutant_queue::{Submitted, engine::check_disposition};
use adjutant_state::engine::{check_checkpoint, check_step};
use adjutant_store::{CheckReport, Commit, Committed, Fork, Op, Store, StoreInfo};
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::{
    batch::Rules,
    config::{SqliteConfig, Synchronous},
    db::{Counters, Db},
    inspect,
    reader::Readers,
    request::{Entry, ReadyCommit, ReadyFork, Reply, Request},
    schema,
    slot::Cache,
    wake::Hub,
    writer::{QUEUE, Requests, Writer},
    writes::Joined,
};

/// Queue, state and events in one SQLite file. Cheap to clone; all clones are one store.
///
/// Several processes may open the same file; they share its queue.
#[derive(Clone)]
pub struct SqliteStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: SqliteConfig,
    pub requests: Requests,
    pub readers: Readers,
    pub hub: Arc<Hub>,
    pub counters: Arc<Counters>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shape = f.debug_struct("SqliteStore");
        shape
            .field("path", &self.inner.config.path)
            .finish_non_exhaustive()
    }
}

/// What a store's writer has done so far, for tests and measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterStats {
    /// Requests carried out.
    pub requests: u64,
    /// Transactions committed, and so syncs.
    pub commits: u64,
    /// Statements run.
    pub statements: u64,
}

impl SqliteStore {
    /// Opens the file, makes or upgrades its tables, and starts the writer on the current runtime.
    ///
    /// # Errors
    /// `SchemaTooNew`, `Corrupt`, `ReadOnly`, `StorageFull`, or `Backend`.
    pub async fn open(config: SqliteConfig) -> Result<Self> {
        let mut db = Db::writer(&config).await?;
        schema::migrate(db.raw(), &config.path).await?;
        let version = db.version().await?;
        let counters = Arc::clone(&db.counters);
        let hub = Arc::new(Hub::default());
        let (requests, receiver) = mpsc::channel(QUEUE);
        let writer = Writer {
            db,
            requests: receiver,
            hub: Arc::clone(&hub),
            config: config.clone(),
            own: requests.downgrade(),
            rules: Rules {
                checkpoints_kept: u64::try_from(config.checkpoints_kept.max(1)).unwrap_or(u64::MAX),
            },
            cache: Cache::default(),
            joined: Joined::default(),
            parked: std::collections::VecDeque::new(),
            version,
        };
        // It ends by itself: when the store is closed, or all handles to it are gone.
        tokio::spawn(writer.run());
        Ok(Self {
            inner: Arc::new(Inner {
                readers: Readers::new(config.clone()),
                requests,
                hub,
                counters,
                config,
            }),
        })
    }

    /// What the writer has done so far.
    #[must_use]
    pub fn writer_stats(&self) -> WriterStats {
        use std::sync::atomic::Ordering::Relaxed;
        let counters = &self.inner.counters;
        WriterStats {
            requests: counters.requests.load(Relaxed),
            commits: counters.commits.load(Relaxed),
            statements: counters.statements.load(Relaxed),
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
        let (reply, answer) = oneshot::channel();
        let sent = self.inner.requests.send(request(reply)).await;
        sent.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// Does what needs no look at the store.
fn ready(mut commit: Commit, store: &SqliteStore) -> Result<ReadyCommit> {
    let (limits, now) = (store.limits_ref(), store.clock().now());
    let mut children = Vec::new();
    for op in &mut commit.ops {
        match op {
            Op::Step(step) => check_step(step, limits)?,
            Op::Checkpoint(state) => check_checkpoint(state, limits)?,
            Op::Event(event) => check_event(event, limits)?,
            Op::Spawn(child) => {
                if child.parent.as_ref().map(|link| link.run) != Some(commit.lease.run) {
                    return Err(Error::Invalid {
                        field: "parent",
                        problem: "must name the run that spawns the child".to_owned(),
                    });
                }
                children.push(Entry::new((**child).clone(), limits, now)?);
            }
            Op::TakeSignal(_) | Op::CancelGroup { .. } => {}
        }
    }
    if let Some(end) = &commit.end {
        check_disposition(end, limits)?;
    }
    Ok(ReadyCommit { commit, children })
}

#[async_trait]
impl Store for SqliteStore {
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

    fn info(&self) -> StoreInfo {
        let durability = match self.inner.config.synchronous {
            Synchronous::Full => "a loss of power",
            Synchronous::Normal => {
                "a crash of the process; a loss of power may take the last moments"
            }
            Synchronous::Off => "a crash of the process; a loss of power may damage the file",
        };
        StoreInfo {
            engine: "sqlite",
            location: self.inner.config.location(),
            durability: durability.to_owned(),
            schema: Some(schema::VERSION),
        }
    }

    fn limits(&self) -> Limits {
        self.inner.config.limits
    }

    async fn check(&self) -> Result<CheckReport> {
        inspect::check(self).await
    }

    async fn backup(&self, to: &Path) -> Result<()> {
        inspect::backup(self, to).await
    }

    async fn close(&self) {
        let (done, closed) = oneshot::channel();
        self.inner.readers.close().await;
        if self.inner.requests.send(Request::Close(done)).await.is_ok() {
            // No answer means that somebody else has closed it.
            let _closed = closed.await;
        }
    }
}
