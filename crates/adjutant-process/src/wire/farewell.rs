//! The end of a process: politely when all is well, and with its last words written down.

use std::{pin::pin, time::Duration};

use adjutant_core::RunContext;
use futures::FutureExt;
use tokio::time::timeout;

use super::peer::Peer;
use crate::{
    ending::{self, DRAIN},
    manifest::Manifest,
    port::{ExitReason, Process, StopCause},
};

/// How long a finished agent may take to notice that its stdin is closed, before TERM.
const HANG_UP_GRACE: Duration = Duration::from_secs(1);

/// Lines that a process may have left when its run ends; later ones belong to nobody.
const MAX_LAST_LINES: usize = 1000;

/// Ends the process and tells how.
pub(super) async fn part(ctx: &RunContext, peer: Peer, cause: StopCause, manifest: &Manifest) {
    let Peer {
        mut process,
        mut link,
        mut logs,
        ..
    } = peer;
    let (grace, limits) = (manifest.stop_grace, &manifest.limits);
    let pid = process.id();
    link.hang_up();
    let mut last_words = Vec::new();
    let reason = {
        let listen = async {
            while let Some(event) = logs.next(ctx).await {
                last_words.extend(event);
            }
        };
        // An agent on its way out must not block on a full pipe.
        let mut drain = pin!(futures::future::join(listen, link.discard()));
        let mut stop = pin!(stop(&mut *process, cause, grace));
        tokio::select! {
            reason = &mut stop => {
                let _ = timeout(DRAIN, drain).await;
                reason
            }
            _ = &mut drain => stop.await,
        }
    };
    match reason {
        Ok(reason) => {
            last_words.extend(ending::events(pid, reason, limits));
        }
        Err(error) => {
            tracing::warn!(run_id = %ctx.run_id(), pid, %error, "a process's end was not seen");
        }
    }
    ending::tell(ctx, pid, last_words).await;
}

/// Lets a process rest that has ended its run as it should. What it logged until then still belongs to that run.
pub(super) async fn pause(ctx: &RunContext, mut peer: Peer) -> Peer {
    let mut last_words = Vec::new();
    for _ in 0..MAX_LAST_LINES {
        match peer.logs.next(ctx).now_or_never() {
            Some(Some(event)) => last_words.extend(event),
            _ => break,
        }
    }
    peer.logs.forget();
    ending::tell(ctx, peer.process.id(), last_words).await;
    peer
}

/// Ends a process whose stdin is closed.
pub(super) async fn stop(
    process: &mut dyn Process,
    cause: StopCause,
    grace: Duration,
) -> crate::Result<ExitReason> {
    let patience = match cause {
        StopCause::Finished | StopCause::Cancelled => HANG_UP_GRACE,
        StopCause::Unresponsive | StopCause::Misbehaved => Duration::ZERO,
    };
    match timeout(patience, process.wait()).await {
        Ok(reason) => reason,
        Err(_) => process.stop(cause, grace).await,
    }
}
