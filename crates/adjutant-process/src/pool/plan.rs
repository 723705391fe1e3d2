//! Which processes are kept for the next run, and when new ones are needed. Decides only.

use std::{collections::VecDeque, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{supervise::Backoff, units::duration};

/// How many processes of an agent are kept ready for its runs, and how long each is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Idle processes that are kept ready; started ahead of the first run. Default 1.
    pub min: u32,
    /// Most processes at once, busy ones included; further runs wait for one. Default 4.
    pub max: NonZeroU32,
    /// Runs that a process works on at once, if its program takes so many. Default 1. With more, `min` does not count:
    /// processes are started when runs come.
    pub runs_per_process: NonZeroU32,
    /// Runs after which a process makes way for a new one. Default 100.
    pub max_runs: NonZeroU32,
    /// Age at which a process makes way for a new one, once it is idle. Default 1 h.
    #[serde(with = "duration")]
    pub max_age: Duration,
    /// How long more than `min` processes are kept idle. Default 60 s.
    #[serde(with = "duration")]
    pub idle: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            min: 1,
            max: NonZeroU32::MIN.saturating_add(3),
            runs_per_process: NonZeroU32::MIN,
            max_runs: NonZeroU32::MIN.saturating_add(99),
            max_age: Duration::from_secs(3600),
            idle: Duration::from_secs(60),
        }
    }
}

impl PoolConfig {
    /// Names what cannot be right, by field.
    pub(crate) fn check(&self, need: &mut impl FnMut(bool, &'static str, &str)) {
        need(
            self.min <= self.max.get(),
            "pool.min",
            "must not be more than `pool.max`",
        );
        let positive = "must be longer than 0";
        need(!self.max_age.is_zero(), "pool.max_age", positive);
        need(!self.idle.is_zero(), "pool.idle", positive);
    }
}

/// One idle process; `P` is whatever leads to it.
struct Idle<P> {
    place: P,
    born: Duration,
    since: Duration,
}

/// What a run gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<P> {
    /// A process that is ready, and when it was started.
    Warm(P, Duration),
    /// Room to start one.
    Room,
    /// Nothing yet: somebody has to give one back first.
    Nothing,
}

/// The state of a pool. Times are on any clock that does not go back.
pub(super) struct Plan<P> {
    config: PoolConfig,
    /// Those used last are at the back, and used next.
    idle: VecDeque<Idle<P>>,
    /// Processes that runs have, or are starting.
    busy: u32,
    /// Processes that are started ahead.
    warming: u32,
    /// Runs that wait for one of those.
    awaited: u32,
    /// Starts ahead that failed in a row, and when the next may be tried.
    failures: u32,
    not_before: Duration,
    backoff: Backoff,
}

impl<P> Plan<P> {
    pub(super) fn new(config: PoolConfig) -> Self {
        Self {
            config,
            idle: VecDeque::new(),
            busy: 0,
            warming: 0,
            awaited: 0,
            failures: 0,
            not_before: Duration::ZERO,
            backoff: Backoff::default(),
        }
    }

    fn total(&self) -> u32 {
        self.busy + self.warming + self.idle_count()
    }

    pub(super) fn idle_count(&self) -> u32 {
        u32::try_from(self.idle.len()).unwrap_or(u32::MAX)
    }

    pub(super) const fn busy_count(&self) -> u32 {
        self.busy
    }

    /// A run needs a process. It comes back, or its room, through [`Plan::free`]. `waited` is whether this run has been
    /// counted as one that waits for a start ahead.
    pub(super) fn take(&mut self, waits: &mut bool, now: Duration) -> Taken<P> {
        if std::mem::take(waits) {
            self.awaited = self.awaited.saturating_sub(1);
        }
        while let Some(idle) = self.idle.pop_back() {
            if !self.is_old(idle.born, now) {
                self.busy += 1;
                return Taken::Warm(idle.place, idle.born);
            }
        }
        // One that is nearly ready is sooner there than one that is started now.
        if self.warming > self.awaited {
            self.awaited += 1;
            *waits = true;
            return Taken::Nothing;
        }
        if self.total() >= self.config.max.get() {
            return Taken::Nothing;
        }
        self.busy += 1;
        Taken::Room
    }

    /// A run that waited is given up.
    pub(super) fn give_up(&mut self, waits: bool) {
        if waits {
            self.awaited = self.awaited.saturating_sub(1);
        }
    }

    /// Whether a process may take another run, and where it fits in it may be given back.
    pub(super) fn keeps(&self, born: Duration, runs: u32, now: Duration) -> bool {
        runs < self.config.max_runs.get() && !self.is_old(born, now)
    }

    fn is_old(&self, born: Duration, now: Duration) -> bool {
        now.saturating_sub(born) >= self.config.max_age
    }

    /// A run is done with its process, or never got one.
    pub(super) fn free(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }

    /// A process waits for its next run. Call [`Plan::free`] or [`Plan::warmed`] before.
    pub(super) fn put(&mut self, place: P, born: Duration, now: Duration) {
        self.idle.push_back(Idle {
            place,
            born,
            since: now,
        });
    }

    /// An idle process has ended; whether it was here.
    pub(super) fn lost(&mut self, is_it: impl Fn(&P) -> bool) -> bool {
        let before = self.idle.len();
        self.idle.retain(|idle| !is_it(&idle.place));
        before > self.idle.len()
    }

    /// A start ahead has ended. After a failure the next one waits.
    pub(super) fn warmed(&mut self, ready: bool, now: Duration) {
        self.warming = self.warming.saturating_sub(1);
        self.failures = if ready { 0 } else { self.failures + 1 };
        if !ready {
            self.not_before = now + self.backoff.pause(self.failures, 0.0);
        }
    }

    /// Idle processes that make way.
    pub(super) fn retire(&mut self, now: Duration) -> Vec<P> {
        let mut retired = Vec::new();
        let mut kept = VecDeque::new();
        let mut spare = self.idle_count().saturating_sub(self.config.min);
        // Those that were used longest ago come first.
        for idle in std::mem::take(&mut self.idle) {
            let bored = spare > 0 && now.saturating_sub(idle.since) >= self.config.idle;
            if self.is_old(idle.born, now) || bored {
                spare = spare.saturating_sub(1);
                retired.push(idle.place);
            } else {
                kept.push_back(idle);
            }
        }
        self.idle = kept;
        retired
    }

    /// How many processes are to be started ahead now; they count from here on, until [`Plan::warmed`].
    pub(super) fn warm_up(&mut self, now: Duration) -> u32 {
        if now < self.not_before {
            return 0;
        }
        let wanted = self
            .config
            .min
            .saturating_sub(self.idle_count() + self.warming);
        let room = self.config.max.get().saturating_sub(self.total());
        let count = wanted.min(room);
        self.warming += count;
        count
    }

    /// Empties the pool.
    pub(super) fn drain(&mut self) -> Vec<P> {
        let idle = std::mem::take(&mut self.idle);
        idle.into_iter().map(|idle| idle.place).collect()
    }

    /// When to look again.
    pub(super) fn next_wake(&self, now: Duration) -> Option<Duration> {
        let spare = self.idle_count() > self.config.min;
        let ends = |idle: &Idle<P>| {
            let old = idle.born + self.config.max_age;
            let bored = spare.then(|| idle.since + self.config.idle);
            bored.map_or(old, |bored| bored.min(old))
        };
        let short = self.idle_count() + self.warming < self.config.min;
        let again = (short && self.not_before > now).then_some(self.not_before);
        self.idle.iter().map(ends).chain(again).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn plan(min: u32, max: u32) -> Plan<u32> {
        Plan::new(PoolConfig {
            min,
            max: NonZeroU32::new(max).unwrap(),
            ..PoolConfig::default()
        })
    }

    fn take(plan: &mut Plan<u32>, now: Duration) -> Taken<u32> {
        plan.take(&mut false, now)
    }

    /// Lets what is to be started ahead be ready.
    fn warm(plan: &mut Plan<u32>, now: Duration) -> u32 {
        let count = plan.warm_up(now);
        for place in 0..count {
            plan.warmed(true, now);
            plan.put(place, now, now);
        }
        count
    }

    #[test]
    fn the_minimum_is_started_ahead_and_replaced_when_taken() {
        let mut plan = plan(2, 4);
        assert_eq!(warm(&mut plan, SECOND), 2);
        assert_eq!(warm(&mut plan, SECOND), 0);
        assert_eq!(take(&mut plan, SECOND), Taken::Warm(1, SECOND));
        assert_eq!(warm(&mut plan, SECOND), 1);
    }

    #[test]
    fn there_are_never_more_than_the_maximum() {
        let mut plan = plan(1, 2);
        assert_eq!(take(&mut plan, SECOND), Taken::Room);
        assert_eq!(take(&mut plan, SECOND), Taken::Room);
        assert_eq!(take(&mut plan, SECOND), Taken::Nothing);
        assert_eq!(plan.warm_up(SECOND), 0);
        plan.free();
        assert_eq!(take(&mut plan, SECOND), Taken::Room);
    }

    #[test]
    fn a_run_waits_for_a_start_ahead_rather_than_start_another() {
        let mut plan = plan(1, 4);
        assert_eq!(plan.warm_up(SECOND), 1);
        let (mut first, mut second) = (false, false);
        assert_eq!(plan.take(&mut first, SECOND), Taken::Nothing);
        assert!(first);
        assert_eq!(plan.take(&mut second, SECOND), Taken::Room);
        plan.warmed(true, SECOND);
        plan.put(7, SECOND, SECOND);
        assert_eq!(plan.take(&mut first, SECOND), Taken::Warm(7, SECOND));
        assert!(!first);
    }

    #[test]
    fn a_start_ahead_that_fails_is_tried_again_later_and_later() {
        let mut plan = plan(1, 1);
        for (at, next) in [(1, 2), (2, 4), (4, 8)] {
            assert_eq!(plan.warm_up(SECOND * at), 1, "{at}");
            plan.warmed(false, SECOND * at);
            assert_eq!(plan.warm_up(SECOND * at), 0);
            assert_eq!(plan.next_wake(SECOND * at), Some(SECOND * next));
        }
        assert_eq!(take(&mut plan, SECOND * 4), Taken::Room, "runs try at once");
    }

    #[test]
    fn old_and_much_used_processes_make_way() {
        let mut plan = plan(1, 4);
        let hour = PoolConfig::default().max_age;
        assert!(plan.keeps(SECOND, 99, SECOND));
        assert!(!plan.keeps(SECOND, 100, SECOND));
        assert!(!plan.keeps(SECOND, 1, SECOND + hour));
        warm(&mut plan, SECOND);
        assert_eq!(plan.next_wake(SECOND), Some(SECOND + hour));
        assert_eq!(plan.retire(hour), [0; 0]);
        assert_eq!(plan.retire(SECOND + hour), [0]);
        warm(&mut plan, SECOND);
        assert_eq!(take(&mut plan, SECOND + hour), Taken::Room);
    }

    #[test]
    fn those_beyond_the_minimum_go_after_a_while_without_work() {
        let mut plan = plan(1, 4);
        for place in 0..3 {
            plan.put(place, SECOND, SECOND * (1 + place));
        }
        assert_eq!(plan.next_wake(SECOND), Some(SECOND * 61));
        assert_eq!(plan.retire(SECOND * 61), [0]);
        assert_eq!(plan.retire(SECOND * 100), [1]);
        assert_eq!(plan.retire(SECOND * 1000), [0; 0]);
    }

    #[test]
    fn the_one_used_last_is_used_next() {
        let mut plan = plan(0, 4);
        plan.put(1, SECOND, SECOND);
        plan.put(2, SECOND, SECOND * 2);
        assert!(!plan.lost(|place| *place == 7));
        assert_eq!(take(&mut plan, SECOND * 3), Taken::Warm(2, SECOND));
        assert!(plan.lost(|place| *place == 1));
        assert_eq!(take(&mut plan, SECOND * 3), Taken::Room);
    }
}
