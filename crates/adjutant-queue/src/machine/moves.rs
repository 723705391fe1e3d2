//! The moves of the run machine: what each of its decisions does to the record, and which event tells of
//! it.

use std::sync::Arc;

use adjutant_core::{
    Error, ErrorInfo, EventType, IllegalTransition, Json, Outcome, Result, RunState, STEER_SIGNAL,
    Timestamp, Transition,
};

use super::{ChildEnded, Effects, RunRecord};
use crate::{
    Wait, WakeOn,
    payload::{LeaseLost, Parked, Reason, Retrying, SignalReceived},
};

impl RunRecord {
    pub(super) fn go(&mut self, transition: Transition) -> Result<()> {
        let run = self.id;
        self.state = self
            .state
            .apply(transition)
            .map_err(|source| Error::Illegal { run, source })?;
        Ok(())
    }

    pub(super) fn concurrency_key(&self) -> Option<Arc<str>> {
        self.concurrency
            .as_ref()
            .map(|concurrency| Arc::clone(&concurrency.key))
    }

    pub(super) fn has_children(&self, reason: &str) -> Option<String> {
        (self.children > 0).then(|| reason.to_owned())
    }

    pub(super) fn end(
        &mut self,
        by: Transition,
        outcome: Outcome,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<()> {
        self.go(by)?;
        self.reason = None;
        self.finished_at = Some(now);
        self.held = None;
        self.wait = None;
        self.cancel = None;
        self.pause = false;
        self.blocked = false;
        self.not_before = None;
        let succeeded = matches!(outcome, Outcome::Succeeded(_));
        if !succeeded {
            effects.cancel_children = self.has_children("the parent run ended");
        }
        if let Some(parent) = &self.parent {
            let ended = ChildEnded {
                parent: parent.clone(),
                child: self.id,
                succeeded,
            };
            effects.child_ended = Some(ended);
        }
        effects.outcome = Some(outcome);
        Ok(())
    }

    pub(super) fn end_cancelled(
        &mut self,
        reason: String,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<()> {
        effects.event(EventType::RunCancelled, Reason { reason: &reason });
        let outcome = Outcome::Cancelled {
            reason: reason.clone(),
        };
        self.end(Transition::Cancelled, outcome, now, effects)?;
        // As when a running one is told to stop: who asks why a child has ended wants to know this.
        effects.cancel_children = self.has_children(&reason);
        self.reason = Some(reason);
        Ok(())
    }

    pub(super) fn fail(
        &mut self,
        error: ErrorInfo,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<()> {
        self.error = Some(error.clone());
        if self.cancel.is_some() || !error.retriable || !self.retry.allows_after(self.attempt) {
            effects.event(EventType::RunFailed, &error);
            let kind = error.kind.clone();
            self.end(Transition::Failed, Outcome::Failed { error }, now, effects)?;
            self.reason = Some(kind);
            return Ok(());
        }
        let retry_at = now + self.retry.delay_after(self.attempt, self.dice());
        effects.event(
            EventType::RunRetrying,
            Retrying {
                attempt: self.attempt,
                error: &error,
                retry_at,
            },
        );
        self.requeue(Transition::RetryScheduled, Some(retry_at), now)?;
        self.fresh = true;
        self.reason = Some(error.kind);
        Ok(())
    }

    /// A number in 0..1 that differs between runs and epochs, and is the same on every engine.
    pub(super) fn dice(&self) -> f64 {
        let bytes = self.id.as_bytes();
        let mut hash = self.epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    pub(super) fn suspend(
        &mut self,
        wait: Wait,
        now: Timestamp,
        satisfied: impl Fn(&WakeOn) -> bool,
        effects: &mut Effects,
    ) -> Result<()> {
        let by = if wait.input_required {
            Transition::InputRequested
        } else {
            Transition::Waited
        };
        let fulfilled = wait.wake_on.iter().any(|on| match on {
            WakeOn::At(at) => *at <= now,
            other => satisfied(other),
        });
        effects.event(EventType::RunWaiting, &wait);
        self.go(by)?;
        self.reason = None;
        self.wait = Some(wait);
        if fulfilled {
            self.wake("already there", now, effects)?;
        }
        if self.cancel.is_some() {
            let reason = self.cancel.take().unwrap_or_default();
            return self.end_cancelled(reason, now, effects);
        }
        if self.pause {
            self.hold(effects)?;
        }
        Ok(())
    }

    pub(super) fn release(
        &mut self,
        reason: String,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<()> {
        if let Some(reason) = self.cancel.take() {
            return self.end_cancelled(reason, now, effects);
        }
        if self.pause {
            return self.hold(effects);
        }
        effects.event(EventType::RunReleased, Reason { reason: &reason });
        self.requeue(Transition::Released, None, now)?;
        self.reason = Some(reason);
        Ok(())
    }

    pub(super) fn hold(&mut self, effects: &mut Effects) -> Result<()> {
        self.go(Transition::Paused)?;
        self.pause = false;
        self.blocked = false;
        self.wait = None;
        effects.event(EventType::RunPaused, ());
        Ok(())
    }

    pub(super) fn requeue(
        &mut self,
        by: Transition,
        at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<()> {
        self.go(by)?;
        self.held = None;
        self.wait = None;
        self.reason = None;
        self.blocked = false;
        self.not_before = at.filter(|at| *at > now);
        self.ready_at = self.not_before.unwrap_or(now);
        Ok(())
    }

    pub(super) fn wake(
        &mut self,
        reason: &str,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<()> {
        self.requeue(Transition::Woken, None, now)?;
        effects.event(EventType::RunResumed, Reason { reason });
        Ok(())
    }

    pub(super) fn lose_worker(&mut self, now: Timestamp, effects: &mut Effects) -> Result<()> {
        let worker = self.held.map(|held| held.worker);
        self.deaths += 1;
        effects.unblock = self.concurrency_key();
        effects.event(
            EventType::LeaseLost,
            LeaseLost {
                worker,
                epoch: self.epoch,
                deaths: self.deaths,
            },
        );
        if let Some(reason) = self.cancel.take() {
            return self.end_cancelled(reason, now, effects);
        }
        if self.deaths > self.max_deaths {
            self.go(Transition::Parked)?;
            self.held = None;
            self.pause = false;
            self.finished_at = Some(now);
            self.reason = Some(format!("its worker died {} times", self.deaths));
            effects.event(
                EventType::RunParked,
                Parked {
                    reason: self.reason.as_deref(),
                    deaths: self.deaths,
                },
            );
            return Ok(());
        }
        if self.pause {
            self.held = None;
            return self.hold(effects);
        }
        self.requeue(Transition::LeaseExpired, None, now)?;
        self.reason = Some("lease expired".to_owned());
        Ok(())
    }

    pub(super) fn signal(
        &mut self,
        name: String,
        payload: Json,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<()> {
        if self.state.is_terminal() {
            let source = IllegalTransition {
                state: self.state,
                transition: Transition::Woken,
            };
            return Err(Error::Illegal {
                run: self.id,
                source,
            });
        }
        self.signals += 1;
        self.unread_signals += 1;
        let said = (name == STEER_SIGNAL).then_some(&payload);
        effects.event(
            EventType::SignalReceived,
            SignalReceived {
                name: &name,
                payload: said,
            },
        );
        let waits_for_it = self
            .wait
            .iter()
            .flat_map(|wait| &wait.wake_on)
            .any(|on| match on {
                WakeOn::Signal(wanted) => *wanted == name,
                _ => false,
            });
        if waits_for_it && matches!(self.state, RunState::Waiting | RunState::InputRequired) {
            self.wake("signal", now, effects)?;
        }
        effects.signal = Some((name, payload));
        Ok(())
    }
}
