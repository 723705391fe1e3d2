//! A server that is a process of ours.

use std::{sync::Arc, time::Duration};

use adjutant_process::{
    ExitReason, Process, ProcessManager, ProcessSpec, StopCause, usage::Observer,
};
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Ending,
    stderr::{Stderr, drain},
    tickets::Tickets,
    width::{MAX_LINE_BYTES, Widths},
};
use crate::secrets::Hidden;

/// Time for a server to end by itself after its input was closed, and again after it was asked to.
const GRACE: Duration = Duration::from_secs(3);

/// How long the output of a process that has ended is read on.
const DRAIN: Duration = Duration::from_secs(1);

/// What to start.
pub(crate) struct Launch {
    pub(crate) server: String,
    pub(crate) spec: ProcessSpec,
    pub(crate) hidden: Hidden,
    pub(crate) stderr: Arc<Stderr>,
}

type Reader = Widths<Box<dyn AsyncRead + Send + Unpin>>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The pipes of a server, as the library wants them.
pub(super) type Pipes = AsyncRwTransport<rmcp::RoleClient, Reader, Writer>;

/// A started process.
pub(crate) struct Launched {
    pub(super) pipes: Pipes,
    pub(super) keeper: Keeper,
    pub(super) tickets: Arc<Tickets>,
    pub(super) closed: CancellationToken,
    pub(super) observer: Observer,
}

/// Starts a server's process and reads its stderr.
pub(crate) async fn launch(
    processes: &dyn ProcessManager,
    launch: Launch,
) -> Result<Launched, adjutant_process::Error> {
    let spawned = processes.spawn(launch.spec).await?;
    let observer = spawned.process.observer();
    // Ends when the last process that has the pipe has ended, which the keeper sees to.
    tokio::spawn(drain(
        launch.server,
        spawned.stderr,
        launch.hidden,
        observer.clone(),
        launch.stderr,
    ));
    let tickets = Arc::<Tickets>::default();
    let closed = CancellationToken::new();
    let stdout = Widths::new(spawned.stdout, Arc::clone(&tickets));
    let pipes = AsyncRwTransport::new(stdout, spawned.stdin).with_max_line_length(MAX_LINE_BYTES);
    let keeper = Keeper::start(spawned.process, closed.clone());
    Ok(Launched {
        pipes,
        keeper,
        tickets,
        closed,
        observer,
    })
}

/// Has a process until it ends. Dropping it ends the process at once.
pub(super) struct Keeper {
    pub(super) pid: u32,
    stop: mpsc::Sender<()>,
    end: watch::Receiver<Option<End>>,
    _dropped: tokio_util::sync::DropGuard,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq)]
struct End {
    how: String,
    ending: Ending,
}

impl Keeper {
    fn start(process: Box<dyn Process>, closed: CancellationToken) -> Self {
        let (stop, ordered) = mpsc::channel(1);
        let (tell, end) = watch::channel(None);
        let dropped = CancellationToken::new();
        let pid = process.id();
        let guard = dropped.clone().drop_guard();
        tokio::spawn(async move {
            let end = tokio::select! {
                end = keep(process, ordered) => end,
                // Whoever started it has gone: the process goes with it, by being dropped.
                () = dropped.cancelled() => End { how: "was dropped".into(), ending: Ending::Clean },
            };
            tell.send_replace(Some(end));
            // Its last words may still be in the pipe.
            let _ = timeout(DRAIN, closed.cancelled()).await;
            closed.cancel();
        });
        Self {
            pid,
            stop,
            end,
            _dropped: guard,
        }
    }

    /// Waits for the end of a process whose input has been closed; ends it if it stays.
    pub(super) async fn stop(&self) -> Ending {
        let _ = self.stop.try_send(());
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some).await;
        let ending = ended
            .ok()
            .and_then(|end| end.as_ref().map(|end| end.ending));
        ending.unwrap_or(Ending::Survivors)
    }

    /// How it ended, if that is known within a moment.
    pub(super) async fn how(&self) -> Option<String> {
        let mut end = self.end.clone();
        let known = timeout(DRAIN, end.wait_for(Option::is_some)).await;
        known.ok()?.ok()?.as_ref().map(|end| end.how.clone())
    }
}

async fn keep(mut process: Box<dyn Process>, mut ordered: mpsc::Receiver<()>) -> End {
    let reason = tokio::select! {
        reason = process.wait() => reason,
        Some(()) = ordered.recv() => match timeout(GRACE, process.wait()).await {
            Ok(reason) => reason,
            Err(_) => process.stop(StopCause::Finished, GRACE).await,
        },
    };
    match reason {
        Ok(reason) => End {
            how: told(reason),
            ending: Ending::Clean,
        },
        Err(error) => End {
            how: error.to_string(),
            ending: Ending::Survivors,
        },
    }
}

fn told(reason: ExitReason) -> String {
    format!("its process {reason}")
}
