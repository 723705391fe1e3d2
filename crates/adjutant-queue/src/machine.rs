//! What happens to a run, decided without I/O: engines load a [`RunRecord`], call one method of it, and
//! store what came out. All engines share these decisions, so they cannot differ in them.

mod moves;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use adjutant_core::{
    AgentKey, Error, ErrorInfo, EventType, Json, NewEvent, Outcome, Result, RetryPolicy, RunId,
    RunState, Timestamp, Transition, WorkerId,
};
use serde::Serialize;

use crate::{
    Beat, Command, Concurrency, Disposition, Lease, NewRun, Origin, ParentLink, Wait, WakeOn,
    payload::{Queued, Reason, Started, Succeeded, TimedOut},
};

/// Waiting this long raises a run by one level of priority, so that none waits for ever.
pub const AGEING: Duration = Duration::from_secs(60);

/// A lease as the run knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Who holds it.
    pub worker: WorkerId,
    /// Until when, unless a heartbeat extends it.
    pub expires_at: Timestamp,
}

/// Everything a queue knows of a run but its payload and outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// The run.
    pub id: RunId,
    /// Who does it.
    pub agent: AgentKey,
    /// Where it stands.
    pub state: RunState,
    /// Why it stands there, in a word or two; for a running run: why it had to be claimed again.
    pub reason: Option<String>,
    /// Higher goes first.
    pub priority: i32,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// Since when it could run; the base of its rank.
    pub ready_at: Timestamp,
    /// When it was first claimed.
    pub started_at: Option<Timestamp>,
    /// When it ended or was parked.
    pub finished_at: Option<Timestamp>,
    /// For a pending run: not to be started before.
    pub not_before: Option<Timestamp>,
    /// For a pending run: held back by its concurrency key.
    pub blocked: bool,
    /// Attempts of the agent so far, the current one included; 0 before the first claim.
    pub attempt: u32,
    /// Whether the next claim begins a new attempt, rather than continuing one.
    pub fresh: bool,
    /// Workers that fell silent while they held it.
    pub deaths: u32,
    /// Deaths it survives.
    pub max_deaths: u32,
    /// The fencing token of the latest claim; 0 before the first.
    pub epoch: u64,
    /// For a running run: its lease.
    pub held: Option<Held>,
    /// For a suspended run: what it waits for.
    pub wait: Option<Wait>,
    /// Somebody wants the running run cancelled, for this reason.
    pub cancel: Option<String>,
    /// Somebody wants the running run paused.
    pub pause: bool,
    /// What becomes of failed attempts.
    pub retry: RetryPolicy,
    /// Longest time for one execution.
    pub timeout: Option<Duration>,
    /// Limits how many run at a time.
    pub concurrency: Option<Concurrency>,
    /// For a child run.
    pub parent: Option<ParentLink>,
    /// For a retried or forked run.
    pub origin: Option<Origin>,
    /// The submitter's key.
    pub idempotency_key: Option<String>,
    /// The failure of the latest failed attempt.
    pub error: Option<ErrorInfo>,
    /// Number of the latest event.
    pub last_seq: u64,
    /// Number of journal records.
    pub steps: u64,
    /// Number of the latest checkpoint; 0 for none.
    pub checkpoint: u64,
    /// Number of the latest signal; 0 for none.
    pub signals: u64,
    /// Signals that no wait has taken.
    pub unread_signals: u64,
    /// Child runs that it has ever spawned.
    pub children: u64,
}

/// What an engine has to do besides storing the changed record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Effects {
    /// Events to append to the run, in order.
    pub events: Vec<NewEvent>,
    /// The outcome to store: the run has ended.
    pub outcome: Option<Outcome>,
    /// A running run stopped running: let the best-ranked run held back by this key go.
    pub unblock: Option<Arc<str>>,
    /// A child run ended: count it off its parent's group, and wake the parent if that is what it waits for.
    pub child_ended: Option<ChildEnded>,
    /// Cancel the run's children that have not ended, for this reason.
    pub cancel_children: Option<String>,
    /// Store this signal.
    pub signal: Option<(String, Json)>,
}

/// A child run's end, for its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildEnded {
    /// The parent and its group.
    pub parent: ParentLink,
    /// The child.
    pub child: RunId,
    /// Whether it succeeded.
    pub succeeded: bool,
}

/// How far a fan-out is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Group {
    /// Children that have not ended.
    pub open: u64,
    /// Children that ended without success.
    pub failed: u64,
}

impl Effects {
    fn event(&mut self, event_type: EventType, payload: impl Serialize) {
        // The payloads of `payload.rs` always have a JSON form.
        let payload = Json::from_value(&payload).unwrap_or_default();
        self.events.push(NewEvent::new(event_type, payload));
    }
}

impl RunRecord {
    /// The record of a run that was just submitted.
    #[must_use]
    pub fn submitted(new: &NewRun, now: Timestamp) -> (Self, Effects) {
        let not_before = new.not_before.filter(|at| *at > now);
        let record = Self {
            id: new.id,
            agent: new.agent.clone(),
            state: RunState::Pending,
            reason: None,
            priority: new.priority,
            created_at: now,
            ready_at: not_before.unwrap_or(now),
            started_at: None,
            finished_at: None,
            not_before,
            blocked: false,
            attempt: 0,
            fresh: true,
            deaths: 0,
            max_deaths: new.max_deaths,
            epoch: 0,
            held: None,
            wait: None,
            cancel: None,
            pause: false,
            retry: new.retry.clone(),
            timeout: new.timeout,
            concurrency: new.concurrency.clone(),
            parent: new.parent.clone(),
            origin: new.origin.clone(),
            idempotency_key: new.idempotency_key.clone(),
            error: None,
            last_seq: 0,
            steps: 0,
            checkpoint: 0,
            signals: 0,
            unread_signals: 0,
            children: 0,
        };
        let mut effects = Effects::default();
        effects.event(
            EventType::RunQueued,
            Queued {
                agent_key: record.agent.as_str(),
                priority: record.priority,
            },
        );
        (record, effects)
    }

    /// Whether a worker could take it now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == RunState::Pending && self.not_before.is_none() && !self.blocked
    }

    /// Its place among the ready runs: lower goes first. It does not change while the run waits, and yet
    /// ages: a level of priority is worth as much as having come [`AGEING`] earlier.
    #[must_use]
    pub fn rank(&self) -> i64 {
        self.ready_at
            .as_micros()
            .saturating_sub(bonus(self.priority))
    }

    /// When a sweep has to look at it next.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        match self.state {
            RunState::Pending => self.not_before,
            RunState::Running => self.held.map(|held| held.expires_at),
            RunState::Waiting | RunState::InputRequired => {
                let wake_on = self.wait.iter().flat_map(|wait| &wait.wake_on);
                let times = wake_on.filter_map(|on| match on {
                    WakeOn::At(at) => Some(*at),
                    _ => None,
                });
                times.min()
            }
            _ => None,
        }
    }

    /// Takes the lease on a ready run.
    ///
    /// # Errors
    /// `Illegal` when it is not pending.
    pub fn claim(
        &mut self,
        worker: WorkerId,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<(Lease, Effects)> {
        self.go(Transition::Claimed)?;
        self.epoch += 1;
        self.attempt += u32::from(self.fresh);
        let continued = !self.fresh;
        self.fresh = false;
        self.held = Some(Held {
            worker,
            expires_at: now + ttl,
        });
        self.started_at.get_or_insert(now);
        let mut effects = Effects::default();
        effects.event(
            EventType::RunStarted,
            Started {
                agent_key: self.agent.as_str(),
                attempt: self.attempt,
                epoch: self.epoch,
                worker,
                continued,
            },
        );
        Ok((
            Lease {
                run: self.id,
                worker,
                epoch: self.epoch,
            },
            effects,
        ))
    }

    /// Whether `lease` is the run's current one.
    ///
    /// # Errors
    /// `LeaseLost` when it is not.
    pub fn check(&self, lease: &Lease) -> Result<()> {
        let holds = self.state == RunState::Running
            && self.epoch == lease.epoch
            && self.held.is_some_and(|held| held.worker == lease.worker);
        if holds {
            Ok(())
        } else {
            Err(Error::LeaseLost {
                run: lease.run,
                epoch: lease.epoch,
            })
        }
    }

    /// Extends the lease.
    pub fn heartbeat(&mut self, lease: &Lease, ttl: Duration, now: Timestamp) -> Beat {
        if self.check(lease).is_err() {
            return Beat::Lost;
        }
        if let Some(held) = &mut self.held {
            held.expires_at = held.expires_at.max(now + ttl);
        }
        Beat::Alive {
            cancel: self.cancel.clone(),
            pause: self.pause,
        }
    }

    /// Gives the run back; `satisfied` says whether a condition is already fulfilled.
    ///
    /// # Errors
    /// `LeaseLost` when the lease is not the current one.
    pub fn settle(
        &mut self,
        lease: &Lease,
        disposition: Disposition,
        now: Timestamp,
        satisfied: impl Fn(&WakeOn) -> bool,
    ) -> Result<Effects> {
        self.check(lease)?;
        self.held = None;
        let mut effects = Effects {
            unblock: self.concurrency_key(),
            ..Effects::default()
        };
        match disposition {
            Disposition::Succeeded(result) => {
                effects.event(
                    EventType::RunSucceeded,
                    Succeeded {
                        final_output: &result.final_output,
                        usage: &result.usage,
                    },
                );
                self.end(
                    Transition::Succeeded,
                    Outcome::Succeeded(result),
                    now,
                    &mut effects,
                )?;
            }
            Disposition::Failed(error) => self.fail(error, now, &mut effects)?,
            Disposition::Cancelled { reason } => self.end_cancelled(reason, now, &mut effects)?,
            Disposition::TimedOut { timeout } => {
                let timeout_seconds = timeout.as_secs_f64();
                effects.event(EventType::RunTimedOut, TimedOut { timeout_seconds });
                self.end(
                    Transition::TimedOut,
                    Outcome::TimedOut { timeout_seconds },
                    now,
                    &mut effects,
                )?;
            }
            Disposition::Waiting(wait) => self.suspend(wait, now, satisfied, &mut effects)?,
            Disposition::Released { reason } => self.release(reason, now, &mut effects)?,
        }
        Ok(effects)
    }

    /// Acts on the run from outside.
    ///
    /// # Errors
    /// `Illegal` when the state does not allow it.
    pub fn control(&mut self, command: Command, now: Timestamp) -> Result<Effects> {
        let mut effects = Effects::default();
        match command {
            Command::Cancel { reason } => match self.state {
                RunState::Cancelled => {}
                RunState::Running => {
                    if self.cancel.is_none() {
                        effects.event(EventType::RunCancelRequested, Reason { reason: &reason });
                        effects.cancel_children = self.has_children(&reason);
                        self.cancel = Some(reason);
                    }
                }
                _ => self.end_cancelled(reason, now, &mut effects)?,
            },
            Command::Pause => match self.state {
                RunState::Paused => {}
                RunState::Running => self.pause = true,
                _ => self.hold(&mut effects)?,
            },
            Command::Resume if self.state == RunState::Running && self.pause => self.pause = false,
            Command::Resume => {
                // A delay goes on where it was.
                self.requeue(Transition::Resumed, self.not_before, now)?;
                effects.event(EventType::RunResumed, Reason { reason: "resumed" });
            }
            Command::Redrive => {
                self.requeue(Transition::Redriven, None, now)?;
                self.deaths = 0;
                self.finished_at = None;
                self.error = None;
                effects.event(EventType::RunResumed, Reason { reason: "redriven" });
            }
            Command::Signal { name, payload } => self.signal(name, payload, now, &mut effects)?,
        }
        Ok(effects)
    }

    /// Deals with a run that is due: an expired lease, a delay that is over, a timer.
    ///
    /// # Errors
    /// Never for a run whose [`RunRecord::due_at`] has come; `Illegal` otherwise.
    pub fn sweep(&mut self, now: Timestamp) -> Result<Effects> {
        let mut effects = Effects::default();
        if self.due_at().is_none_or(|due| due > now) {
            return Ok(effects);
        }
        match self.state {
            RunState::Pending => self.not_before = None,
            RunState::Running => self.lose_worker(now, &mut effects)?,
            _ => self.wake("timer", now, &mut effects)?,
        }
        Ok(effects)
    }

    /// Tells a parent that a child has ended; `group` is the child's group after counting it off.
    ///
    /// # Errors
    /// Never for a consistent record.
    pub fn child_ended(
        &mut self,
        ended: &ChildEnded,
        group: Group,
        now: Timestamp,
    ) -> Result<Effects> {
        let mut effects = Effects::default();
        let waits_for_it = self
            .wait
            .iter()
            .flat_map(|wait| &wait.wake_on)
            .any(|on| match on {
                WakeOn::Group { key, fail_fast } => {
                    *key == ended.parent.group && group_is_done(group, *fail_fast)
                }
                _ => false,
            });
        if waits_for_it && matches!(self.state, RunState::Waiting | RunState::InputRequired) {
            self.wake("children", now, &mut effects)?;
        }
        Ok(effects)
    }
}

/// What a priority is worth, in microseconds of waiting.
fn bonus(priority: i32) -> i64 {
    let level = i64::try_from(AGEING.as_micros()).unwrap_or(i64::MAX);
    level.saturating_mul(i64::from(priority))
}

/// The way back from [`RunRecord::rank`].
pub(crate) fn ready_at(rank: i64, priority: i32) -> Timestamp {
    Timestamp::from_micros(rank.saturating_add(bonus(priority)))
}

/// Whether a fan-out in this shape is what its parent waits for.
#[must_use]
pub const fn group_is_done(group: Group, fail_fast: bool) -> bool {
    group.open == 0 || (fail_fast && group.failed > 0)
}
