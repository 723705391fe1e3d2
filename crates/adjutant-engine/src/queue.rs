//! The queue's contract.

use std::{pin::pin, time::Duration};

use adjutant_core::{Error, Result, RunId, Timestamp};
use adjutant_queue::{
    Beat, ClaimRequest, Claimed, Command, Disposition, Lease, NewRun, PrunePolicy, QueueStats,
    RunFilter, RunLookup, RunQueue, RunRecord, RunView, Submitted, Swept,
    engine::{check_command, check_disposition},
};
use async_trait::async_trait;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    EngineStore,
    recent::Known,
    reply::{Reply, give_back},
    request::{Claim, Entry, Request},
    wake::Topic,
    writer::{Requests, patience},
};

/// A claim on its way. If it is dropped when its answer is already there, the runs go back.
struct Claiming<'a> {
    requests: &'a Requests,
    answer: oneshot::Receiver<Result<Vec<Claimed>>>,
}

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(claimed)) = self.answer.try_recv() {
            give_back(claimed, self.requests);
        }
    }
}

#[async_trait]
impl RunQueue for EngineStore {
    async fn submit(&self, runs: Vec<NewRun>) -> Result<Vec<Submitted>> {
        let now = self.clock().now();
        let entries = runs
            .into_iter()
            .map(|run| Entry::new(run, self.limits_ref(), now));
        let entries = entries.collect::<Result<Vec<_>>>()?;
        self.ask(|reply| Request::Submit(entries, reply)).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>> {
        let until = patience(request.wait);
        let (reply, answer) = Reply::new();
        let mut claiming = Claiming {
            requests: &self.inner.requests,
            answer,
        };
        let claim = Request::Claim(Claim {
            request,
            until,
            reply,
        });
        let sent = self.inner.requests.send(claim).await;
        sent.map_err(|_| Error::Closed)?;
        (&mut claiming.answer).await.map_err(|_| Error::Closed)?
    }

    async fn heartbeat(&self, leases: &[Lease], ttl: Duration) -> Result<Vec<Beat>> {
        let leases = leases.to_vec();
        self.ask(|reply| Request::Heartbeat(leases, ttl, reply))
            .await
    }

    async fn settle(&self, lease: Lease, disposition: Disposition) -> Result<RunRecord> {
        check_disposition(&disposition, self.limits_ref())?;
        let disposition = Box::new(disposition);
        self.ask(|reply| Request::Settle(lease, disposition, reply))
            .await
    }

    async fn control(&self, run: RunId, command: Command) -> Result<RunRecord> {
        check_command(&command, self.limits_ref())?;
        self.ask(|reply| Request::Control(run, command, reply))
            .await
    }

    async fn sweep(&self, limit: usize, wait: Duration) -> Result<Swept> {
        let hub = &self.inner.hub;
        let end = patience(wait);
        if wait.is_zero() || limit == 0 {
            let (swept, _) = self.ask(|reply| Request::Sweep(limit, reply)).await?;
            return Ok(swept);
        }
        let sweeper = hub.sweeper();
        loop {
            // Registered before the look, so that what becomes due meanwhile is not missed.
            let mut earlier = pin!(sweeper.notify().notified());
            earlier.as_mut().enable();
            sweeper.sleeps_until(Timestamp::MAX);
            let (swept, now) = self.ask(|reply| Request::Sweep(limit, reply)).await?;
            let left = end.saturating_duration_since(Instant::now());
            if !swept.is_idle() || left.is_zero() {
                return Ok(swept);
            }
            let nap = swept.next_due.map_or(left, |due| due.since(now).min(left));
            sweeper.sleeps_until(now + nap);
            // Both ends mean the same: look again.
            let _elapsed = timeout(nap, earlier).await;
        }
    }

    async fn prune(&self, policy: PrunePolicy) -> Result<u64> {
        self.ask(|reply| Request::Prune(policy, reply)).await
    }
}

#[async_trait]
impl RunLookup for EngineStore {
    async fn get(&self, run: RunId) -> Result<Option<RunView>> {
        self.inner.reads.view(run).await
    }

    async fn settled(&self, run: RunId, wait: Duration) -> Result<RunView> {
        let end = patience(wait);
        let ticket = self.inner.hub.register(Topic::Settled, run);
        loop {
            let mut woken = pin!(ticket.notify.notified());
            woken.as_mut().enable();
            match self.inner.hub.recent.look(run) {
                Some(Known::Ended(view)) => return Ok(RunView::clone(&view)),
                Some(Known::Going) if Instant::now() < end => {}
                _ => {
                    let view = self.get(run).await?.ok_or(Error::RunNotFound(run))?;
                    if view.run.state.is_settled() || Instant::now() >= end {
                        return Ok(view);
                    }
                }
            }
            // Both ends mean the same: look again.
            let _elapsed = timeout_at(end, woken).await;
        }
    }

    async fn list(&self, filter: RunFilter) -> Result<Vec<RunRecord>> {
        self.inner.reads.list(&filter).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.inner.reads.stats().await
    }
}
