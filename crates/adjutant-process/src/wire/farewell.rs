//! The end of a process: politely when all is well, and with its last words written down.

use std::{pin::pin, time::Duration};

use adjutant_core::RunContext;
use tokio::time::timeout;

use super::{link::Link, session::DRAIN};
use crate::{
    ending,
    logs::Logs,
    manifest::Manifest,
    port::{ExitReason, Process, StopCause},
};

/// How long a finished agent may take to notice that its stdin is closed, before TERM.
const HANG_UP_GRACE: Duration = Duration::from_secs(1);

/// Ends the process and tells how.
pub(super) async fn part(
    ctx: &RunContext,
    mut process: Box<dyn Process>,
    mut link: Link,
    mut logs: Logs,
    cause: StopCause,
    manifest: &Manifest,
) {
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
    for event in last_words {
        if let Err(error) = ctx.emit(event.event_type, event.payload).await {
            // Only records of the process are lost, and whoever took the run over has its own.
            tracing::debug!(run_id = %ctx.run_id(), pid, %error, "last events were not written");
            return;
        }
    }
}

async fn stop(
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
