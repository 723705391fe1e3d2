//! The life of one server, decided without looking at a clock or a process.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::Restart;

/// Where a server is in its life.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Life {
    /// Not needed so far.
    Idle,
    /// Being started.
    Starting,
    /// Up since.
    Ready { since: Instant },
    /// Finishes its calls, then ends.
    Draining { then: Then },
    /// Ends.
    Ending { then: Then },
    /// Was up, and is not needed at present.
    Stopped,
    /// Died; will be started at the timer's end.
    Backoff { until: Instant },
    /// Died too often; will not be tried before.
    Open { until: Instant },
    /// Will not start before something is corrected; will not be tried before.
    Failed { until: Instant },
}

/// What follows on an end that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Start,
    Rest,
}

/// A server's state as operators see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// Not needed so far.
    Idle,
    /// Being started.
    Starting,
    /// Up, without a call.
    Ready,
    /// Up, with calls.
    Busy,
    /// Finishes its calls before it ends.
    Draining,
    /// Ended because it was not needed.
    Stopped,
    /// Died; will be started again in a moment.
    Backoff,
    /// Died too often; left alone for a while.
    Open,
    /// Cannot be started before something is corrected.
    Failed,
}

/// What happens to a server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// Somebody needs it.
    Wanted,
    /// It is up.
    Started,
    /// It did not come up; `lasting` if it will not before something is corrected.
    StartFailed { why: String, lasting: bool },
    /// It died.
    Lost { why: String },
    /// An operator wants a new one.
    Restart,
    /// Nobody needs it.
    Rest,
    /// Its calls have ended, or were given up.
    Drained,
    /// Its process has ended.
    Ended,
    /// The timer with this number ran out; `needed` if somebody still uses it.
    Timer { token: u64, needed: bool },
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Start it.
    Start,
    /// Let those who wait use it.
    Admit,
    /// Let nobody use it, and tell when its calls have ended.
    Drain,
    /// End it, and tell when that is done.
    End,
    /// Tell when this time is over.
    Timer { token: u64, after: Duration },
    /// Tell those who wait that they wait in vain.
    Refuse,
}

/// The life of one server.
#[derive(Debug)]
pub(crate) struct Machine {
    restart: Restart,
    life: Life,
    /// Starts that failed and deaths since it was last healthy.
    failures: u32,
    /// The number of the timer that counts; others are stale.
    token: u64,
    /// Whether somebody waits for it.
    wanted: bool,
    last_error: Option<String>,
}

impl Machine {
    pub(crate) fn new(restart: Restart) -> Self {
        Self {
            restart,
            life: Life::Idle,
            failures: 0,
            token: 0,
            wanted: false,
            last_error: None,
        }
    }

    pub(crate) const fn life(&self) -> &Life {
        &self.life
    }

    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// The state as operators see it.
    pub(crate) const fn state(&self, in_flight: usize) -> State {
        match self.life {
            Life::Idle => State::Idle,
            Life::Starting => State::Starting,
            Life::Ready { .. } if in_flight > 0 => State::Busy,
            Life::Ready { .. } => State::Ready,
            Life::Draining { .. } | Life::Ending { .. } => State::Draining,
            Life::Stopped => State::Stopped,
            Life::Backoff { .. } => State::Backoff,
            Life::Open { .. } => State::Open,
            Life::Failed { .. } => State::Failed,
        }
    }

    /// Takes in what happened. `jitter` is from 0 to 1 and spreads restarts.
    pub(crate) fn apply(&mut self, event: Event, now: Instant, jitter: f64) -> Vec<Effect> {
        match event {
            Event::Wanted => self.want(now),
            Event::Started if self.life == Life::Starting => {
                self.wanted = false;
                self.life = Life::Ready { since: now };
                vec![Effect::Admit]
            }
            Event::StartFailed { why, lasting } if self.life == Life::Starting => {
                self.last_error = Some(why);
                if lasting {
                    self.give_up(now, true)
                } else {
                    self.fail(now, jitter)
                }
            }
            Event::Lost { why } => self.lose(why, now, jitter),
            Event::Restart => self.replace(),
            Event::Rest => self.rest(),
            Event::Drained => match self.life {
                Life::Draining { then } => {
                    self.life = Life::Ending { then };
                    vec![Effect::End]
                }
                _ => Vec::new(),
            },
            Event::Ended => match self.life {
                Life::Ending { then } => self.after_end(then),
                _ => Vec::new(),
            },
            Event::Timer { token, needed } if token == self.token => self.ring(needed),
            Event::Started | Event::StartFailed { .. } | Event::Timer { .. } => Vec::new(),
        }
    }

    fn start(&mut self) -> Vec<Effect> {
        self.life = Life::Starting;
        vec![Effect::Start]
    }

    fn want(&mut self, now: Instant) -> Vec<Effect> {
        match self.life {
            Life::Idle | Life::Stopped => {
                self.wanted = true;
                self.start()
            }
            // One try, by whoever comes first after the rest.
            Life::Open { until } | Life::Failed { until } if now >= until => {
                self.wanted = true;
                self.start()
            }
            Life::Open { .. } | Life::Failed { .. } => vec![Effect::Refuse],
            Life::Ready { .. } => vec![Effect::Admit],
            Life::Starting | Life::Backoff { .. } | Life::Draining { .. } | Life::Ending { .. } => {
                self.wanted = true;
                Vec::new()
            }
        }
    }

    fn lose(&mut self, why: String, now: Instant, jitter: f64) -> Vec<Effect> {
        match self.life {
            Life::Ready { since } => {
                self.last_error = Some(why);
                if now.saturating_duration_since(since) >= self.restart.reset_after {
                    self.failures = 0;
                }
                self.fail(now, jitter)
            }
            // It was to end anyway; what is left of it still has to be seen to.
            Life::Draining { then } => {
                self.life = Life::Ending { then };
                vec![Effect::End]
            }
            _ => Vec::new(),
        }
    }

    /// One more failure: try again in a while, or give up for longer.
    fn fail(&mut self, now: Instant, jitter: f64) -> Vec<Effect> {
        self.failures += 1;
        if self.failures > self.restart.max {
            return self.give_up(now, false);
        }
        let doubled = 2_u32.saturating_pow(self.failures - 1);
        let full = self.restart.delay.saturating_mul(doubled);
        let after = full
            .min(self.restart.max_delay)
            .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        self.life = Life::Backoff { until: now + after };
        vec![self.timer(after)]
    }

    fn give_up(&mut self, now: Instant, lasting: bool) -> Vec<Effect> {
        let until = now + self.restart.open_for;
        self.wanted = false;
        self.life = if lasting {
            Life::Failed { until }
        } else {
            Life::Open { until }
        };
        // The next try is one try.
        self.failures = self.restart.max;
        vec![Effect::Refuse]
    }

    fn replace(&mut self) -> Vec<Effect> {
        self.failures = 0;
        match self.life {
            Life::Ready { .. } => {
                self.life = Life::Draining { then: Then::Start };
                vec![Effect::Drain]
            }
            Life::Draining { .. } => {
                self.life = Life::Draining { then: Then::Start };
                Vec::new()
            }
            Life::Ending { .. } => {
                self.life = Life::Ending { then: Then::Start };
                Vec::new()
            }
            Life::Starting => Vec::new(),
            _ => self.start(),
        }
    }

    fn rest(&mut self) -> Vec<Effect> {
        match self.life {
            Life::Ready { .. } => {
                self.life = Life::Draining { then: Then::Rest };
                vec![Effect::Drain]
            }
            Life::Draining { .. } => {
                self.life = Life::Draining { then: Then::Rest };
                Vec::new()
            }
            Life::Ending { .. } => {
                self.life = Life::Ending { then: Then::Rest };
                Vec::new()
            }
            Life::Backoff { .. } | Life::Open { .. } | Life::Failed { .. } => {
                self.life = Life::Stopped;
                Vec::new()
            }
            Life::Idle | Life::Starting | Life::Stopped => Vec::new(),
        }
    }

    fn after_end(&mut self, then: Then) -> Vec<Effect> {
        if then == Then::Start || self.wanted {
            return self.start();
        }
        self.life = Life::Stopped;
        Vec::new()
    }

    fn ring(&mut self, needed: bool) -> Vec<Effect> {
        match self.life {
            Life::Backoff { .. } if needed || self.wanted => self.start(),
            Life::Backoff { .. } => {
                self.life = Life::Stopped;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn timer(&mut self, after: Duration) -> Effect {
        self.token += 1;
        Effect::Timer {
            token: self.token,
            after,
        }
    }
}

#[cfg(test)]
mod tests;
