//! The machine by random histories.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{SECOND, states};
use crate::supervise::*;

/// A world in which processes do what they like, and everything that a machine may never do is looked for.
struct World {
    machine: Machine,
    random: SmallRng,
    now: Duration,
    /// Living processes, and whether they have been told to end.
    live: BTreeMap<String, (u64, bool)>,
    depends_on: BTreeMap<String, Vec<String>>,
    serving: BTreeSet<String>,
    /// Whether all are to go down.
    ending: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let count = random.random_range(1..7);
        let mut all = Vec::new();
        for at in 0..count {
            let mut child = Child::new(format!("p{at}"));
            let earlier = (0..at).filter(|_| random.random_bool(0.3));
            child.depends_on = earlier.map(|on| format!("p{on}")).collect();
            child.restart.when = [
                Restart::No,
                Restart::OnFailure,
                Restart::Always,
                Restart::UnlessStopped,
            ][random.random_range(0..4)];
            child.restart.max_attempts = random.random_range(0..6);
            child.heartbeat = random.random_bool(0.5).then_some(SECOND * 30);
            all.push(child);
        }
        let strategy = [
            Strategy::OneForOne,
            Strategy::OneForAll,
            Strategy::RestForOne,
        ][random.random_range(0..3)];
        let depends_on = all
            .iter()
            .map(|child| (child.name.clone(), child.depends_on.clone()))
            .collect();
        Self {
            machine: Machine::new(all, strategy, Intensity::default(), seed).unwrap(),
            random,
            now: SECOND,
            live: BTreeMap::new(),
            depends_on,
            serving: BTreeSet::new(),
            ending: false,
        }
    }

    fn apply(&mut self, event: Event) {
        for action in self.machine.apply(event, self.now) {
            self.act(action);
        }
        assert!(
            self.machine.next_wake().is_none_or(|wake| wake > self.now),
            "time that has run out was overlooked"
        );
        for name in self.depends_on.keys() {
            let state = self.machine.state(name).unwrap();
            assert_eq!(
                state.is_live(),
                self.live.contains_key(name),
                "{name} {state}"
            );
        }
    }

    fn act(&mut self, action: Action) {
        let current = |live: &BTreeMap<String, (u64, bool)>, name: &str, generation| {
            assert_eq!(
                live.get(name).map(|(live, _)| *live),
                Some(generation),
                "{name}"
            );
        };
        match action {
            Action::Start(name, generation) => {
                for on in &self.depends_on[&name] {
                    assert!(self.serving.contains(on), "{name} before {on}");
                }
                let old = self.live.insert(name.clone(), (generation, false));
                assert_eq!(old, None, "two processes of {name}");
            }
            Action::Stop(name, generation) => {
                current(&self.live, &name, generation);
                let needs = |other: &&String| self.depends_on[*other].contains(&name);
                let needed_by = self.live.keys().find(needs).filter(|_| self.ending);
                assert_eq!(needed_by, None, "{name} is stopped too early");
                self.live.insert(name, (generation, true));
            }
            Action::Kill(name, generation) => {
                current(&self.live, &name, generation);
                assert!(self.live[&name].1, "{name} was not asked first");
            }
            Action::Pause(name, generation) | Action::Resume(name, generation) => {
                current(&self.live, &name, generation);
            }
            Action::Tell(name, state) if state.serves() => drop(self.serving.insert(name)),
            Action::Tell(name, _) => drop(self.serving.remove(&name)),
        }
    }

    fn any_name(&mut self) -> String {
        let at = self.random.random_range(0..self.depends_on.len());
        self.depends_on.keys().nth(at).unwrap().clone()
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.random.random_range(0..5000));
        self.apply(Event::Tick);
        let name = self.any_name();
        let event = match self.random.random_range(0..30) {
            0 => Event::StartAll,
            1 => Event::StopAll,
            2 => Event::Start(name),
            3 => Event::Stop(name),
            4 => Event::Restart(name),
            5 => Event::Pause(name),
            6 => Event::Resume(name),
            _ => return self.life(name),
        };
        self.apply(event);
    }

    /// One process does something; old news arrive too.
    fn life(&mut self, name: String) {
        let generation = self
            .live
            .get(&name)
            .map_or(0, |(generation, _)| *generation);
        let happened = [
            Happened::Ready,
            Happened::Ready,
            Happened::Ready,
            Happened::Heartbeat,
            Happened::RunStarted,
            Happened::RunEnded,
            Happened::Sick,
            Happened::Exited { clean: true },
            Happened::Exited { clean: false },
            Happened::NotStarted { lasting: false },
            Happened::NotStarted { lasting: true },
        ][self.random.random_range(0..11)];
        let old = self.random.random_bool(0.1);
        let ends = matches!(
            happened,
            Happened::Exited { .. } | Happened::NotStarted { .. }
        );
        if ends && !old {
            self.live.remove(&name);
        }
        let generation = generation.saturating_sub(u64::from(old));
        self.apply(Event::Process(name, generation, happened));
    }

    /// After a stop all is over as soon as everybody heeds it, whatever was before.
    fn end(&mut self) {
        self.ending = true;
        self.apply(Event::StopAll);
        for _ in 0..self.depends_on.len() {
            let asked: Vec<(String, u64)> = self
                .live
                .iter()
                .filter(|(_, (_, asked))| *asked)
                .map(|(name, (generation, _))| (name.clone(), *generation))
                .collect();
            for (name, generation) in asked {
                self.live.remove(&name);
                let gone = Happened::Exited { clean: true };
                self.apply(Event::Process(name, generation, gone));
            }
        }
        assert!(self.machine.is_settled(), "{}", states(&self.machine));
        assert_eq!(self.machine.next_wake(), None);
    }
}

#[test]
fn no_history_leads_to_two_processes_a_wrong_order_or_one_that_is_forgotten() {
    for seed in 0..2000 {
        let played = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.apply(Event::StartAll);
            (0..200).for_each(|_| world.step());
            world.end();
        });
        assert!(played.is_ok(), "seed {seed}");
    }
}

#[test]
fn the_same_history_has_the_same_end() {
    let play = |seed| {
        let mut world = World::new(seed);
        world.apply(Event::StartAll);
        (0..200).for_each(|_| world.step());
        format!("{:?}", world.machine)
    };
    for seed in 0..20 {
        assert_eq!(play(seed), play(seed), "seed {seed}");
    }
}
