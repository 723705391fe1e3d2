//! Which runs are ready, due or held back, kept in step with the records.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
};

use adjutant_core::{AgentKey, RunId, RunState, Timestamp};

use crate::{AgentFilter, QueueStats, RunRecord};

/// A run's place in line: best rank first, then the older id. The priority only rides along.
pub(super) type Ranked = (i64, RunId, i32);

/// Empty lines of agents kept for their next run, so that a busy agent's line is not made anew each time.
const IDLE_LINES: usize = 64;

/// What the index knows of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    state: RunState,
    ready: bool,
    blocked: bool,
    ranked: Ranked,
    due: Option<Timestamp>,
}

impl Place {
    pub(super) fn of(record: &RunRecord) -> Self {
        Self {
            state: record.state,
            ready: record.is_ready(),
            blocked: record.state == RunState::Pending && record.blocked,
            ranked: (record.rank(), record.id, record.priority),
            due: record.due_at(),
        }
    }

    /// Whether the run uses, or is about to use, a slot of its concurrency key.
    fn takes_slot(&self) -> bool {
        self.ready || self.state == RunState::Running
    }
}

/// What a change of a record's place means for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Moved {
    /// A slot of its concurrency key became free.
    pub freed: bool,
    /// It became ready.
    pub ready: bool,
    /// It is due at this new time.
    pub due: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Slots {
    running: u32,
    blocked: BTreeSet<Ranked>,
}

/// The sorted sets over all runs.
#[derive(Debug, Default)]
pub(super) struct Index {
    ready: HashMap<AgentKey, BTreeSet<Ranked>>,
    due: BTreeSet<(Timestamp, RunId)>,
    slots: HashMap<Arc<str>, Slots>,
    by_state: [u64; RunState::ALL.len()],
    ready_runs: u64,
    blocked_runs: u64,
}

impl Index {
    /// Follows a record from its place `before` (`None` for a new one) to where it is now.
    pub(super) fn moved(&mut self, before: Option<Place>, record: &RunRecord) -> Moved {
        let after = Place::of(record);
        let mut moved = Moved::default();
        if before == Some(after) {
            return moved;
        }
        let (was_ready, was_blocked, was_due, was_in, had_slot) = match before {
            Some(p) => (p.ready, p.blocked, p.due, Some(p.state), p.takes_slot()),
            None => (false, false, None, None, false),
        };
        let was_ranked = before.map_or(after.ranked, |place| place.ranked);
        if was_ready != after.ready || (after.ready && was_ranked != after.ranked) {
            if was_ready {
                self.leave_line(&record.agent, was_ranked);
            }
            if after.ready {
                self.join_line(&record.agent, after.ranked);
            }
            moved.ready = after.ready;
        }
        if was_due != after.due {
            if let Some(due) = was_due {
                self.due.remove(&(due, record.id));
            }
            if let Some(due) = after.due {
                self.due.insert((due, record.id));
            }
            moved.due = after.due;
        }
        if was_in != Some(after.state) {
            if let Some(state) = was_in {
                self.by_state[usize::from(state.code())] -= 1;
            }
            self.by_state[usize::from(after.state.code())] += 1;
        }
        if let Some(concurrency) = &record.concurrency {
            self.occupy(
                &concurrency.key,
                was_in,
                was_blocked.then_some(was_ranked),
                after,
            );
            let still_there = after.state == RunState::Running || (after.ready && was_ready);
            moved.freed = had_slot && !still_there && !after.blocked;
        }
        moved
    }

    /// Takes a record out altogether.
    pub(super) fn forget(&mut self, record: &RunRecord) {
        self.by_state[usize::from(record.state.code())] -= 1;
        if record.state.is_terminal() {
            // It is in no line. To look closer would fetch a record that has long left the cache.
            return;
        }
        let place = Place::of(record);
        if place.ready {
            self.leave_line(&record.agent, place.ranked);
        }
        if let Some(due) = place.due {
            self.due.remove(&(due, record.id));
        }
    }

    fn join_line(&mut self, agent: &AgentKey, ranked: Ranked) {
        self.ready_runs += 1;
        if let Some(line) = self.ready.get_mut(agent) {
            line.insert(ranked);
            return;
        }
        self.ready.insert(agent.clone(), BTreeSet::from([ranked]));
    }

    fn leave_line(&mut self, agent: &AgentKey, ranked: Ranked) {
        let Some(line) = self.ready.get_mut(agent) else {
            return;
        };
        if line.remove(&ranked) {
            self.ready_runs -= 1;
        }
        if line.is_empty() && self.ready.len() > IDLE_LINES {
            self.ready.remove(agent);
        }
    }

    fn occupy(
        &mut self,
        key: &Arc<str>,
        was_in: Option<RunState>,
        was_blocked: Option<Ranked>,
        after: Place,
    ) {
        let slots = self.slots.entry(Arc::clone(key)).or_default();
        if was_in != Some(after.state) {
            if was_in == Some(RunState::Running) {
                slots.running -= 1;
            }
            if after.state == RunState::Running {
                slots.running += 1;
            }
        }
        if let Some(ranked) = was_blocked {
            slots.blocked.remove(&ranked);
            self.blocked_runs -= 1;
        }
        if after.blocked {
            slots.blocked.insert(after.ranked);
            self.blocked_runs += 1;
        }
        if slots.running == 0 && slots.blocked.is_empty() {
            self.slots.remove(key);
        }
    }

    /// Whether the record's concurrency key has no slot left for it.
    pub(super) fn is_full(&self, record: &RunRecord) -> bool {
        record.concurrency.as_ref().is_some_and(|concurrency| {
            let running = self.slots.get(&concurrency.key).map_or(0, |s| s.running);
            running >= concurrency.limit.get()
        })
    }

    /// The best-ranked run that the key holds back.
    pub(super) fn first_blocked(&self, key: &str) -> Option<RunId> {
        let slots = self.slots.get(key)?;
        slots.blocked.first().map(|(_, id, _)| *id)
    }

    /// The best-ranked ready run of these agents.
    pub(super) fn first_ready(&self, agents: &AgentFilter) -> Option<RunId> {
        let best = match agents {
            AgentFilter::Any => self.ready.values().filter_map(BTreeSet::first).min(),
            AgentFilter::Only(agents) => agents
                .iter()
                .filter_map(|agent| self.ready.get(agent)?.first())
                .min(),
        };
        best.map(|(_, id, _)| *id)
    }

    /// The best-ranked `limit` ready runs of these agents, in order.
    pub(super) fn ready(&self, agents: &AgentFilter, limit: usize) -> Vec<RunId> {
        let lines: Vec<_> = match agents {
            AgentFilter::Any => self.ready.values().collect(),
            AgentFilter::Only(agents) => {
                let mut names: Vec<_> = agents.iter().collect();
                names.sort_unstable();
                names.dedup();
                names
                    .into_iter()
                    .filter_map(|a| self.ready.get(a))
                    .collect()
            }
        };
        if let [line] = lines.as_slice() {
            return line.iter().take(limit).map(|(_, id, _)| *id).collect();
        }
        let mut lines: Vec<_> = lines.into_iter().map(BTreeSet::iter).collect();
        let mut heads: BinaryHeap<_> = lines
            .iter_mut()
            .enumerate()
            .filter_map(|(n, line)| line.next().map(|ranked| Reverse((*ranked, n))))
            .collect();
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(Reverse(((_, id, _), n))) = heads.pop()
        {
            found.push(id);
            if let Some(ranked) = lines[n].next() {
                heads.push(Reverse((*ranked, n)));
            }
        }
        found
    }

    /// The run that is due first, and when.
    pub(super) fn first_due(&self) -> Option<(Timestamp, RunId)> {
        self.due.first().copied()
    }

    /// What is wrong, measured by the records themselves.
    pub(super) fn problem<'a>(
        &self,
        records: impl Iterator<Item = &'a RunRecord>,
    ) -> Option<String> {
        let mut right = Self::default();
        for record in records {
            right.moved(None, record);
        }
        let lines = |index: &Self| -> BTreeSet<Ranked> {
            index.ready.values().flatten().copied().collect()
        };
        let running = |index: &Self| -> BTreeMap<Arc<str>, (u32, BTreeSet<Ranked>)> {
            let slots = index.slots.iter();
            slots
                .map(|(k, s)| (Arc::clone(k), (s.running, s.blocked.clone())))
                .collect()
        };
        let checks = [
            ("ready", lines(self) == lines(&right)),
            ("due", self.due == right.due),
            ("held back", running(self) == running(&right)),
            ("counted", self.by_state == right.by_state),
            ("counted ready", self.ready_runs == right.ready_runs),
            ("counted held back", self.blocked_runs == right.blocked_runs),
        ];
        let wrong = checks.into_iter().find(|(_, right)| !right);
        wrong.map(|(what, _)| format!("the runs that are {what} are not the right ones"))
    }

    pub(super) fn stats(&self) -> QueueStats {
        let by_state: BTreeMap<_, _> = RunState::ALL
            .into_iter()
            .map(|state| (state, self.by_state[usize::from(state.code())]))
            .filter(|(_, runs)| *runs > 0)
            .collect();
        let pending = by_state.get(&RunState::Pending).copied().unwrap_or(0);
        QueueStats {
            ready: self.ready_runs,
            delayed: pending - self.ready_runs - self.blocked_runs,
            blocked: self.blocked_runs,
            oldest_ready_at: self
                .ready
                .values()
                .flatten()
                .map(|(rank, _, priority)| crate::machine::ready_at(*rank, *priority))
                .min(),
            by_state,
        }
    }
}
