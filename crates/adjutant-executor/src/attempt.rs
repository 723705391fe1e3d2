//! One attempt at a run, from claim to settlement.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use adjutant_core::{Agent, AgentError, Error, ErrorInfo, Result, RunContext, RunHost, RunResult};
use adjutant_queue::{Claimed, Disposition};
use adjutant_state::History;
use adjutant_store::{Commit, Op};
use futures::FutureExt;

use crate::{
    control::{CANCEL, Control, DRAIN, LOST, PAUSE},
    host::Host,
    shared::Shared,
};

/// What the agent's future ends with: its answer, or the panic that it died of.
type Answer = Result<Result<RunResult, AgentError>, Box<dyn Any + Send>>;

/// Drives one claimed run until it ends, waits, is given back, or its lease is lost. What is large is
/// boxed: this future is a task of its own for each run, and is moved several times on its way there.
pub(crate) async fn drive(shared: Arc<Shared>, claimed: Box<Claimed>) {
    let lease = claimed.lease;
    let (control, _entered) = shared.enter(lease, claimed.run.held);
    let settled = match execute(&shared, &control, claimed).await {
        Some((ops, end)) => {
            let end = Some(end);
            give_back(&shared, &mut Commit { lease, ops, end }).await
        }
        None => Err(Error::LeaseLost {
            run: lease.run,
            epoch: lease.epoch,
        }),
    };
    if let Err(error) = settled {
        // Whoever holds the run now, or takes it when the lease expires, goes on from the journal.
        tracing::warn!(run_id = %lease.run, epoch = lease.epoch, error = &error as &dyn std::error::Error, "an attempt ended without being recorded");
    }
}

/// Runs the agent. `None` means that the lease is lost and nothing may be written.
async fn execute(
    shared: &Arc<Shared>,
    control: &Arc<Control>,
    claimed: Box<Claimed>,
) -> Option<(Vec<Op>, Disposition)> {
    let Some(agent) = shared.agents.get(claimed.run.agent.as_str()) else {
        let message = format!("no worker knows the agent `{}`", claimed.run.agent);
        return Some((
            Vec::new(),
            Disposition::Failed(ErrorInfo::permanent("unknown_agent", message)),
        ));
    };
    let history = match load(shared, &claimed).await {
        Ok(history) => history,
        Err(error) => {
            return Some((
                Vec::new(),
                Disposition::Failed(AgentError::from(error).into_info()),
            ));
        }
    };
    let timeout = claimed.run.timeout.unwrap_or(shared.config.run_timeout);
    let host = Arc::new(Host::new(
        Arc::clone(shared),
        Arc::clone(control),
        claimed,
        history,
    ));
    let ctx = RunContext::new(Arc::clone(&host) as Arc<dyn RunHost>);
    let end = supervise(
        &**agent,
        &ctx,
        &host,
        control,
        timeout,
        shared.config.cancel_grace,
    )
    .await?;
    if host.is_broken() && matches!(end, Disposition::Succeeded(_) | Disposition::Waiting(_)) {
        // The agent went on after a write that may be lost: its answer may rest on it.
        let error = ErrorInfo::retriable("write_failed", "a write of this attempt failed");
        return Some((Vec::new(), Disposition::Failed(error)));
    }
    Some((host.take_pending(), end))
}

async fn load(shared: &Shared, claimed: &Claimed) -> Result<History> {
    if claimed.run.steps == 0 && claimed.run.checkpoint == 0 {
        return Ok(History::default());
    }
    shared.store.history(claimed.run.id).await
}

/// Polls the agent and everything that can end its attempt.
async fn supervise(
    agent: &dyn Agent,
    ctx: &RunContext,
    host: &Host,
    control: &Control,
    timeout: Duration,
    cancel_grace: Duration,
) -> Option<Disposition> {
    let work = AssertUnwindSafe(agent.run(ctx)).catch_unwind();
    let deadline = tokio::time::sleep(timeout);
    tokio::pin!(work, deadline);
    let mut farewell: Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = None;
    loop {
        let changed = control.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if let Some(verdict) = verdict(host, control) {
            return verdict;
        }
        if control.has(CANCEL) && farewell.is_none() {
            farewell = Some(Box::pin(say_farewell(agent, ctx, cancel_grace)));
        }
        tokio::select! {
            biased;
            answer = &mut work => return Some(match conclude(control, answer) {
                Ok(end) => end,
                Err(error) => Box::pin(classify(agent, ctx, error)).await,
            }),
            () = changed => {}
            () = async { if let Some(farewell) = &mut farewell { farewell.await } }, if farewell.is_some() => {
                return Some(Disposition::Cancelled { reason: control.cancel_reason() });
            }
            () = &mut deadline => {
                return Some(if control.has(CANCEL) {
                    Disposition::Cancelled { reason: control.cancel_reason() }
                } else {
                    Disposition::TimedOut { timeout }
                });
            }
        }
    }
}

/// What the flags demand right now: `Some(None)` for a lost lease.
#[expect(
    clippy::option_option,
    reason = "go on, stop without a word, or stop with a disposition"
)]
fn verdict(host: &Host, control: &Control) -> Option<Option<Disposition>> {
    if control.has(LOST) {
        return Some(None);
    }
    if control.has(DRAIN) {
        return Some(Some(Disposition::Released {
            reason: "drain".to_owned(),
        }));
    }
    // A step under way is let finish: its result is paid for.
    if host.is_busy() {
        return None;
    }
    if let Some(wait) = host.waiting() {
        return Some(Some(if control.has(CANCEL) {
            Disposition::Cancelled {
                reason: control.cancel_reason(),
            }
        } else {
            Disposition::Waiting(wait)
        }));
    }
    if control.has(PAUSE) {
        return Some(Some(Disposition::Released {
            reason: "pause".to_owned(),
        }));
    }
    None
}

/// Tells the agent of the cancellation and waits until the grace is over.
async fn say_farewell(agent: &dyn Agent, ctx: &RunContext, grace: Duration) {
    let hook = AssertUnwindSafe(agent.cancel(ctx)).catch_unwind();
    let both = futures::future::join(hook, tokio::time::sleep(grace));
    let _ = tokio::time::timeout(grace, both).await;
}

/// What the agent's answer means, or the error that the agent is still to classify.
fn conclude(control: &Control, answer: Answer) -> Result<Disposition, AgentError> {
    if control.has(CANCEL) {
        return Ok(Disposition::Cancelled {
            reason: control.cancel_reason(),
        });
    }
    match answer {
        Ok(answer) => answer.map(Disposition::Succeeded),
        Err(panic) => Ok(Disposition::Failed(panicked(&*panic))),
    }
}

async fn classify(agent: &dyn Agent, ctx: &RunContext, error: AgentError) -> Disposition {
    let classified = AssertUnwindSafe(agent.on_error(ctx, &error))
        .catch_unwind()
        .await;
    // An agent that cannot even classify its error has the error taken as it is.
    Disposition::Failed(
        classified
            .ok()
            .flatten()
            .unwrap_or_else(|| error.into_info()),
    )
}

fn panicked(panic: &(dyn Any + Send)) -> ErrorInfo {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    ErrorInfo::retriable(
        "panic",
        text.unwrap_or_else(|| "the agent panicked".to_owned()),
    )
}

/// Commits the end of the attempt. A result that cannot be stored is a failure, not a lost run.
async fn give_back(shared: &Shared, commit: &mut Commit) -> Result<()> {
    let error = match shared.settle(commit).await {
        Err(error @ (Error::TooLarge { .. } | Error::Invalid { .. } | Error::Conflict { .. })) => {
            error
        }
        other => return other,
    };
    let failure = ErrorInfo::permanent(error.code().0, error.to_string());
    commit.ops = Vec::new();
    commit.end = Some(Disposition::Failed(failure));
    shared.settle(commit).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F: Future>(_of: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_task_stays_small() {
        let size = size(drive);
        assert!(
            size <= 1024,
            "{size} bytes are allocated and moved for each attempt"
        );
    }
}
