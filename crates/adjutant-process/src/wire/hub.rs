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
    pool::Name,
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
    capacity: usize,
    grace: Duration,
    born: Instant,
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
    /// Takes over a process that has been greeted, for at most `most` runs at once, fewer if it takes fewer. `freed` is
    /// called whenever there may be room again.
    pub(crate) fn new(
        peer: Peer,
        most: u32,
        grace: Duration,
        freed: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let greeting = peer.greeting().cloned().unwrap_or_default();
        let capacity = most.min(greeting.max_concurrent_runs).max(1) as usize;
        let shared = Arc::new(Shared {
            name: peer.name,
            pid: peer.process.id(),
            observer: peer.process.observer(),
            greeting,
            capacity,
            grace,
            born: Instant::now(),
            routes: Mutex::default(),
            written: Notify::new(),
            leave: Notify::new(),
            exit: watch::Sender::new(None),
            freed: Box::new(freed),
        });
        let lines = Lines::new(peer.link);
        let task = tokio::spawn(tend(Arc::clone(&shared), peer.process, lines, peer.logs));
        Self { shared, task }
    }

    /// Whether the process can take this run now.
    pub(crate) fn has_room(&self, run: &RunId) -> bool {
        if self.has_ended() {
            return false;
        }
        let routes = self.shared.routes();
        routes.used() < self.shared.capacity && !routes.knows(&run.to_string())
    }

    /// Whether nothing good can be expected of the process any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.exit.borrow().is_some() || self.shared.routes().is_spoilt()
    }

    /// Runs that it has now, those included that are on their way out.
    pub(crate) fn used(&self) -> usize {
        self.shared.routes().used()
    }

    /// Runs that it has ever been given.
    pub(crate) fn runs(&self) -> u32 {
        self.shared.routes().runs()
    }

    pub(crate) fn age(&self) -> Duration {
        self.shared.born.elapsed()
    }

    /// A conversation about this run. Check [`Hub::has_room`] before.
    pub(crate) fn seat(&self, run: &RunId) -> Peer {
        Seat::take(&self.shared, run.to_string())
    }

    /// Lets the process go once it has no run.
    pub(crate) fn retire(&self) {
        self.shared.leave.notify_one();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.task.abort();
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
        if shared.routes().may_leave() {
            return;
        }
    }
}

/// Tells all conversations that the process has ended.
fn end(shared: &Shared, reason: ExitReason) {
    shared.exit.send_replace(Some(reason));
    shared.routes().close();
    (shared.freed)();
}
