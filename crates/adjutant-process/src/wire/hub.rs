//! One process that works on several runs at once.
//!
//! Each run has a conversation of its own, as if it had the process to itself: a [`Peer`] whose pipes lead here. The hub
//! passes on what goes by, by the run that it is about, and gives the host's requests numbers that do not collide. A
//! conversation that is given up fences its run and leaves the others alone; the end of the process ends them all.

mod lines;
mod routes;
mod seat;

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use adjutant_core::RunId;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::{Notify, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use self::{lines::Lines, routes::Routes, seat::Seat};
use super::{farewell, peer::Peer};
use crate::{
    ending::DRAIN,
    logs::Logs,
    pool::{Name, PoolConfig},
    port::{ExitReason, Process, StopCause},
    usage::Observer,
};

/// What the conversations of one process have in common. Dropped with all of them, it ends the process.
pub(crate) struct Hub {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What the hub, its task and the conversations share.
pub(super) struct Shared {
    name: Arc<Name>,
    pid: u32,
    observer: Observer,
    greeting: adjutant_wire::Initialized,
    grace: Duration,
    /// When it makes way for another process, and how long it is kept without a run.
    until: Instant,
    idle: Duration,
    routes: Mutex<Routes>,
    /// There is something to write to the process.
    written: Notify,
    /// The process is to leave.
    leave: Notify,
    exit: watch::Sender<Option<ExitReason>>,
    /// A run has given up its place.
    freed: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// Takes over a process that has been greeted. `freed` is called whenever there may be room again.
    pub(crate) fn new(
        peer: Peer,
        config: &PoolConfig,
        grace: Duration,
        freed: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let greeting = peer.greeting().cloned().unwrap_or_default();
        let at_once = config.runs_per_process.get();
        let capacity = at_once.min(greeting.max_concurrent_runs).max(1) as usize;
        let shared = Arc::new(Shared {
            name: peer.name,
            pid: peer.process.id(),
            observer: peer.process.observer(),
            greeting,
            grace,
            until: Instant::now() + config.max_age,
            idle: config.idle,
            routes: Mutex::new(Routes::new(capacity, config.max_runs.get())),
            written: Notify::new(),
            leave: Notify::new(),
            exit: watch::Sender::new(None),
            freed: Box::new(freed),
        });
        let lines = Lines::new(peer.link);
        let task = tokio::spawn(tend(Arc::clone(&shared), peer.process, lines, peer.logs));
        Self { shared, task }
    }

    /// A conversation about this run, if there is room for it.
    pub(crate) fn seat(&self, run: &RunId) -> Option<Peer> {
        Seat::take(&self.shared, run.to_string())
    }

    /// Whether it takes no more runs and has none.
    pub(crate) fn is_over(&self) -> bool {
        let routes = self.shared.routes();
        routes.takes_no_more() && routes.used() == 0
    }

    /// Runs that it has now, those included that are on their way out.
    pub(crate) fn used(&self) -> usize {
        self.shared.routes().used()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if self.is_over() {
            // It leaves in peace.
            self.shared.leave.notify_one();
        } else {
            self.task.abort();
        }
    }
}

/// Passes on until the process has ended.
async fn tend(shared: Arc<Shared>, mut process: Box<dyn Process>, lines: Lines, mut logs: Logs) {
    let Lines { mut reader, stdin } = lines;
    let (mut heard_all, mut logged_all) = (false, false);
    let mut up = pin!(reader.pass_on(&shared));
    let mut log = pin!(pass_on_log(&shared, &mut logs));
    let mut down = Box::pin(write(&shared, stdin));
    let mut leave = pin!(leave(&shared));
    let mut worn = pin!(wear_out(&shared));
    let cause = loop {
        tokio::select! {
            reason = process.wait() => {
                let rest = async {
                    if !heard_all {
                        let _ = up.as_mut().await;
                    }
                    if !logged_all {
                        log.as_mut().await;
                    }
                };
                let _ = timeout(DRAIN, rest).await;
                // Its end was not seen, but seen to be over.
                end(&shared, reason.unwrap_or(ExitReason::Stopped(StopCause::Misbehaved)));
                return;
            }
            breach = up.as_mut(), if !heard_all => {
                heard_all = true;
                if let Some(breach) = breach {
                    shared.routes().tell_log(&breach);
                    break StopCause::Misbehaved;
                }
            }
            () = log.as_mut(), if !logged_all => logged_all = true,
            // One that has closed its stdout and does not end is good for nothing.
            () = sleep(shared.grace), if heard_all => break StopCause::Misbehaved,
            () = leave.as_mut() => break StopCause::Finished,
            () = down.as_mut() => {}
            () = worn.as_mut() => {}
        }
    };
    // Closes its stdin.
    drop(down);
    let reason = farewell::stop(&mut *process, cause, shared.grace).await;
    end(&shared, reason.unwrap_or(ExitReason::Stopped(cause)));
}

async fn pass_on_log(shared: &Shared, logs: &mut Logs) {
    while let Some(line) = logs.line().await {
        shared.routes().tell_log(&line);
    }
}

/// Writes what there is to write. Never returns.
async fn write(shared: &Shared, mut stdin: Box<dyn AsyncWrite + Send + Unpin>) {
    loop {
        let written = shared.written.notified();
        let bytes = shared.routes().take_unwritten();
        if bytes.is_empty() {
            written.await;
        } else if stdin.write_all(&bytes).await.is_err() {
            // What it still says is heard to the end.
            std::future::pending::<()>().await;
        }
    }
}

/// Returns once the process is to leave and no conversation is under way.
async fn leave(shared: &Shared) {
    loop {
        shared.leave.notified().await;
        if shared.routes().leave() {
            return;
        }
    }
}

/// Retires the process when it is old, or has had no run for long. Never returns.
async fn wear_out(shared: &Shared) {
    loop {
        let now = Instant::now();
        let rested = shared.routes().resting().map(|since| since + shared.idle);
        let at = rested.map_or(shared.until, |rested| rested.min(shared.until));
        if at <= now {
            shared.routes().retire();
            shared.leave.notify_one();
            std::future::pending::<()>().await;
        }
        // It may come to rest meanwhile.
        sleep((at - now).min(shared.idle)).await;
    }
}

/// Tells all conversations that the process has ended.
fn end(shared: &Shared, reason: ExitReason) {
    shared.exit.send_replace(Some(reason));
    shared.routes().close();
    (shared.freed)();
}
