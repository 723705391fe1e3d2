//! Every decision about supervised processes: plain values in, plain values out.
//!
//! The machine is told what happens and when, and answers with what to do. It starts nothing itself and has no clock:
//! call [`Machine::apply`] with [`Event::Tick`] at [`Machine::next_wake`].

use std::{collections::VecDeque, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    event::{Action, Child, Event, Happened},
    order::{OrderError, start_order},
    policy::{Intensity, Restart, Strategy},
    slot::Slot,
    state::{Failure, State, Up, Verdict},
};

/// The processes that are supervised together.
#[derive(Debug, Clone)]
pub struct Machine {
    strategy: Strategy,
    intensity: Intensity,
    /// In start order.
    slots: Vec<Slot>,
    /// When there were restarts lately.
    lately: VecDeque<Duration>,
    random: SmallRng,
    actions: Vec<Action>,
}

impl Machine {
    /// Puts processes in order; none is started before [`Event::StartAll`] or [`Event::Start`]. `seed` is for jitter.
    ///
    /// # Errors
    /// When two have one name, or one depends on another that does not exist, or several on each other.
    pub fn new(
        children: Vec<Child>,
        strategy: Strategy,
        intensity: Intensity,
        seed: u64,
    ) -> Result<Self, OrderError> {
        let mut machine = Self {
            strategy,
            intensity,
            slots: Vec::new(),
            lately: VecDeque::new(),
            random: SmallRng::seed_from_u64(seed),
            actions: Vec::new(),
        };
        let slots: Vec<Slot> = children.into_iter().map(Slot::new).collect();
        machine.arrange(&slots)?;
        Ok(machine)
    }

    /// Adds one that is not started yet.
    ///
    /// # Errors
    /// As [`Machine::new`]; then nothing is added.
    pub fn add(&mut self, child: Child) -> Result<(), OrderError> {
        let mut slot = Slot::new(child);
        let names = self.slots.iter().chain([&slot]);
        let names: Vec<(&str, &[String])> = names.map(Slot::name).collect();
        start_order(&names)?;
        slot.after = self.before(&slot, &self.slots);
        self.slots.push(slot);
        Ok(())
    }

    /// Forgets one that has no process, and on whom nobody depends; whether it did.
    pub fn remove(&mut self, name: &str) -> bool {
        let needed = |slot: &Slot| slot.child.depends_on.iter().any(|on| on == name);
        let free = self.slot(name).is_some_and(|slot| slot.state.is_settled());
        if !free || self.slots.iter().any(needed) {
            return false;
        }
        let mut slots = self.slots.clone();
        slots.retain(|slot| slot.child.name != name);
        self.arrange(&slots).is_ok()
    }

    fn arrange(&mut self, slots: &[Slot]) -> Result<(), OrderError> {
        let names: Vec<(&str, &[String])> = slots.iter().map(Slot::name).collect();
        let order = start_order(&names)?;
        let mut sorted: Vec<Slot> = Vec::with_capacity(slots.len());
        for slot in order.into_iter().filter_map(|at| slots.get(at)) {
            let mut slot = slot.clone();
            slot.after = self.before(&slot, &sorted);
            sorted.push(slot);
        }
        self.slots = sorted;
        Ok(())
    }

    /// Positions of those among `earlier` that have to serve before this one starts.
    fn before(&self, slot: &Slot, earlier: &[Slot]) -> Vec<usize> {
        let in_line = self.strategy == Strategy::RestForOne;
        let needed = |other: &Slot| slot.child.depends_on.contains(&other.child.name);
        let all = earlier.iter().enumerate();
        all.filter(|(_, other)| in_line || needed(other))
            .map(|(at, _)| at)
            .collect()
    }

    /// Names in start order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| slot.child.name.as_str())
    }

    /// The state of one.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<State> {
        self.slot(name).map(|slot| slot.state)
    }

    /// How often one has been restarted in a row.
    #[must_use]
    pub fn restarts(&self, name: &str) -> Option<u32> {
        self.slot(name).map(|slot| slot.restarts)
    }

    /// For whom one waits.
    #[must_use]
    pub fn waits_for(&self, name: &str) -> Vec<&str> {
        let slot = self.slot(name).filter(|slot| slot.state == State::Waiting);
        let after = slot.into_iter().flat_map(|slot| &slot.after);
        let others = after.filter_map(|at| self.slots.get(*at));
        others
            .filter(|other| !other.state.serves())
            .map(|other| other.child.name.as_str())
            .collect()
    }

    /// Whether nothing will happen any more unless somebody says so.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.slots.iter().all(|slot| slot.state.is_settled())
    }

    /// The next time at which [`Event::Tick`] does something.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        let wake = |slot: &Slot| match slot.state {
            State::Starting { by } => Some(by),
            State::Up(up) => Some(up.heard + slot.child.heartbeat?),
            State::Unhealthy { kill_at, .. } | State::Stopping { kill_at } => kill_at,
            State::BackOff { until } => Some(until),
            _ => None,
        };
        self.slots.iter().filter_map(wake).min()
    }

    fn slot(&self, name: &str) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.child.name == name)
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.slots.iter().position(|slot| slot.child.name == name)
    }

    /// Takes in what has happened at `now` and returns what to do, in this order.
    pub fn apply(&mut self, event: Event, now: Duration) -> Vec<Action> {
        match event {
            Event::StartAll => self.start_all(),
            Event::StopAll => self.slots.iter_mut().for_each(Slot::ask_down),
            Event::Start(name) => self.command(&name, now, Self::start),
            Event::Stop(name) => self.command(&name, now, Self::stop),
            Event::Restart(name) => self.command(&name, now, Self::restart),
            Event::Pause(name) => self.command(&name, now, Self::pause),
            Event::Resume(name) => self.command(&name, now, Self::resume),
            Event::Process(name, generation, happened) => {
                let current = self.find(&name).filter(|at| {
                    let slot = self.slots.get(*at);
                    slot.is_some_and(|slot| slot.generation == generation && slot.state.is_live())
                });
                if let Some(at) = current {
                    self.happened(at, happened, now);
                }
            }
            Event::Tick => {}
        }
        for at in 0..self.slots.len() {
            self.watch(at, now);
        }
        self.reconcile(now);
        std::mem::take(&mut self.actions)
    }

    fn command(&mut self, name: &str, now: Duration, command: fn(&mut Self, usize, Duration)) {
        if let Some(at) = self.find(name) {
            command(self, at, now);
        }
    }

    fn start_all(&mut self) {
        self.lately.clear();
        for slot in &mut self.slots {
            let stays = slot.child.restart.when == Restart::UnlessStopped && slot.stopped;
            if !stays {
                slot.ask_up();
            }
        }
    }

    fn start(&mut self, at: usize, _: Duration) {
        self.lately.clear();
        if let Some(slot) = self.slots.get_mut(at) {
            slot.ask_up();
        }
    }

    fn stop(&mut self, at: usize, _: Duration) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.ask_down();
            slot.stopped = true;
        }
    }

    fn restart(&mut self, at: usize, now: Duration) {
        self.start(at, now);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.bounce = slot.state.is_live();
        }
    }

    fn pause(&mut self, at: usize, _: Duration) {
        if let Some(slot) = self.slots.get(at)
            && let State::Up(up) = slot.state
        {
            self.act(at, Action::Pause);
            self.turn(at, State::Paused(up));
        }
    }

    fn resume(&mut self, at: usize, now: Duration) {
        if let Some(slot) = self.slots.get(at)
            && let State::Paused(up) = slot.state
        {
            self.act(at, Action::Resume);
            self.turn(at, State::Up(Up { heard: now, ..up }));
        }
    }

    fn happened(&mut self, at: usize, happened: Happened, now: Duration) {
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        let ready = Up {
            since: now,
            heard: now,
            runs: 0,
            served: false,
        };
        let next = match (happened, slot.state) {
            (Happened::Ready, State::Starting { .. }) => State::Up(ready),
            (Happened::Heartbeat, State::Up(up)) => State::Up(Up { heard: now, ..up }),
            (Happened::RunStarted, State::Up(up)) => State::Up(Up {
                runs: up.runs.saturating_add(1),
                heard: now,
                ..up
            }),
            (Happened::RunEnded, State::Up(up)) => State::Up(Up {
                runs: up.runs.saturating_sub(1),
                served: true,
                heard: now,
                ..up
            }),
            (Happened::Sick, State::Starting { .. } | State::Up(_)) => {
                return self.condemn(at, Verdict::Sick, now);
            }
            (Happened::Exited { clean }, _) => return self.ended(at, clean, now),
            (Happened::NotStarted { lasting: true }, _) if slot.wanted => {
                return self.fail(at, Failure::Start);
            }
            (Happened::NotStarted { .. }, _) => return self.ended(at, false, now),
            _ => return,
        };
        self.turn(at, next);
    }

    /// A process has ended, for whatever reason.
    fn ended(&mut self, at: usize, clean: bool, now: Duration) {
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        let was = slot.state;
        if matches!(was, State::Stopping { .. }) || !slot.wanted || slot.bounce {
            // It was to go down anyway. One that is never restarted is not restarted for others' sake either.
            let again = slot.wanted && slot.child.restart.when != Restart::No;
            slot.bounce = false;
            slot.wanted = again;
            let next = if again {
                State::Waiting
            } else {
                State::Stopped
            };
            return self.turn(at, next);
        }
        let clean = clean && !matches!(was, State::Unhealthy { .. });
        let again = match slot.child.restart.when {
            Restart::No => false,
            Restart::OnFailure => !clean,
            Restart::Always | Restart::UnlessStopped => true,
        };
        if let State::Up(up) | State::Paused(up) = was
            && now.saturating_sub(up.since) >= slot.child.restart.stable_after
        {
            slot.restarts = 0;
        }
        match (again, clean) {
            (true, _) => self.back_off(at, now),
            (false, false) => self.fail(at, Failure::Ended),
            (false, true) => {
                slot.wanted = false;
                self.turn(at, State::Exited);
            }
        }
    }

    fn back_off(&mut self, at: usize, now: Duration) {
        let random = self.random.random::<f64>();
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        if slot.restarts >= slot.child.restart.max_attempts {
            return self.fail(at, Failure::Attempts);
        }
        let since = now.saturating_sub(self.intensity.period);
        self.lately.retain(|restart| *restart > since);
        self.lately.push_back(now);
        if self.lately.len() > self.intensity.restarts as usize {
            self.slots.iter_mut().for_each(Slot::ask_down);
            return self.fail(at, Failure::Intensity);
        }
        slot.restarts += 1;
        let until = now + slot.child.restart.backoff.pause(slot.restarts, random);
        self.turn(at, State::BackOff { until });
        for other in self.affected(at) {
            if let Some(slot) = self.slots.get_mut(other) {
                slot.bounce = slot.state.is_live();
            }
        }
    }

    /// It will not come up again, and neither will those that go down with it.
    fn fail(&mut self, at: usize, why: Failure) {
        self.turn(at, State::Failed(why));
        for other in self.affected(at).chain([at]) {
            if let Some(slot) = self.slots.get_mut(other) {
                slot.ask_down();
            }
        }
    }

    /// Those that go down when this one does.
    fn affected(&self, at: usize) -> impl Iterator<Item = usize> + use<> {
        let (from, to) = match self.strategy {
            Strategy::OneForOne => (0, 0),
            Strategy::OneForAll => (0, self.slots.len()),
            Strategy::RestForOne => (at + 1, self.slots.len()),
        };
        (from..to).filter(move |other| *other != at)
    }

    /// Acts on time that has run out.
    fn watch(&mut self, at: usize, now: Duration) {
        let Some(slot) = self.slots.get(at) else {
            return;
        };
        match slot.state {
            State::Starting { by } if by <= now => self.condemn(at, Verdict::StartTimeout, now),
            State::Up(up)
                if slot
                    .child
                    .heartbeat
                    .is_some_and(|silence| up.heard + silence <= now) =>
            {
                self.condemn(at, Verdict::Silent, now);
            }
            State::BackOff { until } if until <= now => self.turn(at, State::Waiting),
            State::Stopping {
                kill_at: Some(kill_at),
            } if kill_at <= now => {
                self.act(at, Action::Kill);
                self.turn(at, State::Stopping { kill_at: None });
            }
            State::Unhealthy {
                verdict,
                kill_at: Some(kill_at),
            } if kill_at <= now => {
                self.act(at, Action::Kill);
                let kill_at = None;
                self.turn(at, State::Unhealthy { verdict, kill_at });
            }
            _ => {}
        }
    }

    fn condemn(&mut self, at: usize, verdict: Verdict, now: Duration) {
        let grace = self.slots.get(at).map(|slot| slot.child.stop_timeout);
        let kill_at = grace.map(|grace| now + grace);
        self.turn(at, State::Unhealthy { verdict, kill_at });
        self.act(at, Action::Stop);
    }

    /// Stops what is to go down and starts what may come up.
    fn reconcile(&mut self, now: Duration) {
        for at in (0..self.slots.len()).rev() {
            if self.may_stop(at)
                && let Some(slot) = self.slots.get(at)
            {
                let kill_at = Some(now + slot.child.stop_timeout);
                if matches!(slot.state, State::Paused(_)) {
                    self.act(at, Action::Resume);
                }
                self.turn(at, State::Stopping { kill_at });
                self.act(at, Action::Stop);
            }
        }
        for at in 0..self.slots.len() {
            let may_start = self.may_start(at);
            let Some(slot) = self.slots.get_mut(at) else {
                continue;
            };
            match slot.state {
                State::Waiting | State::BackOff { .. } if !slot.wanted => {
                    self.turn(at, State::Stopped);
                }
                State::Waiting if may_start => {
                    slot.generation += 1;
                    let by = now + slot.child.start_timeout;
                    self.turn(at, State::Starting { by });
                    self.act(at, Action::Start);
                }
                _ => {}
            }
        }
    }

    /// Whether nobody is left to go down before it.
    fn may_stop(&self, at: usize) -> bool {
        let due = |slot: &Slot| slot.is_due_down() && !slot.state.is_ending();
        let before = |slot: &Slot| slot.is_due_down() && slot.after.contains(&at);
        self.slots.get(at).is_some_and(due) && !self.slots.iter().any(before)
    }

    fn may_start(&self, at: usize) -> bool {
        let serves = |at: &usize| self.slots.get(*at).is_some_and(|slot| slot.state.serves());
        let served = |slot: &Slot| slot.state == State::Waiting && slot.after.iter().all(serves);
        let goes_down = |slot: &Slot| slot.bounce || matches!(slot.state, State::BackOff { .. });
        let together = self.strategy == Strategy::OneForAll;
        self.slots.get(at).is_some_and(served) && !(together && self.slots.iter().any(goes_down))
    }

    fn act(&mut self, at: usize, action: fn(String, u64) -> Action) {
        if let Some(slot) = self.slots.get(at) {
            let action = action(slot.child.name.clone(), slot.generation);
            self.actions.push(action);
        }
    }

    fn turn(&mut self, at: usize, state: State) {
        if let Some(slot) = self.slots.get_mut(at) {
            if slot.state.name() != state.name() {
                let tell = Action::Tell(slot.child.name.clone(), state);
                self.actions.push(tell);
            }
            slot.state = state;
        }
    }
}
