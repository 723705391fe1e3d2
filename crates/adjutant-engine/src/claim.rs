//! Claims: who gets which ready run.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use adjutant_core::{AgentKey, IdMap, Result, RunId};
use adjutant_queue::{AgentFilter, ClaimRequest, Claimed, Lease, Payload};

use crate::{
    batch::Batch,
    slot::{Dirty, Place},
    storage::Storage,
};

/// The most runs that one claim gets, whatever its capacity.
const CLAIM_LIMIT: usize = 1000;

/// The head of the stored line for one filter.
#[derive(Default)]
struct Line {
    runs: VecDeque<(i64, RunId)>,
    complete: bool,
}

/// The lines that the claims of one batch have looked at. What is stored does not change meanwhile.
#[derive(Default)]
pub(crate) struct Lines {
    by_filter: HashMap<Vec<AgentKey>, Line>,
    /// How many runs all the claims would take: one look serves them all.
    wanted: usize,
}

impl Lines {
    pub(crate) fn wanted_by<'a>(claims: impl Iterator<Item = &'a ClaimRequest>) -> Self {
        let wanted: usize = claims.map(|claim| claim.capacity.min(CLAIM_LIMIT)).sum();
        Self {
            wanted: wanted.min(CLAIM_LIMIT),
            ..Self::default()
        }
    }
}

/// A run that a claim got, without what has to be read.
pub(crate) type Taken = (Lease, RunId);

impl<S: Storage> Batch<'_, S> {
    /// Leases ready runs.
    pub(crate) async fn claim(
        &mut self,
        request: &ClaimRequest,
        lines: &mut Lines,
    ) -> Result<Vec<Taken>> {
        let capacity = request.capacity.min(CLAIM_LIMIT);
        let mut taken = Vec::new();
        while taken.len() < capacity {
            let wanted = capacity - taken.len();
            let ready = self.ready(&request.agents, wanted, lines).await?;
            if ready.is_empty() {
                break;
            }
            self.load(&ready).await?;
            for run in ready {
                // One whose record is damaged is left out, and out of the next look.
                if self.slots.contains_key(&run) {
                    taken.extend(self.claim_one(run, request).await?);
                }
            }
        }
        Ok(taken)
    }

    async fn claim_one(&mut self, run: RunId, request: &ClaimRequest) -> Result<Option<Taken>> {
        if self.is_full(run).await? {
            let slot = self.touch(run, Dirty::Whole)?;
            let before = Place::of(&slot.record);
            slot.record.blocked = true;
            self.carry_out(run, Some(before), adjutant_queue::Effects::default())?;
            return Ok(None);
        }
        let now = self.now;
        let mut lease = None;
        self.decide(run, Dirty::Whole, |record| {
            let (new, effects) = record.claim(request.worker, request.lease_ttl, now)?;
            lease = Some(new);
            Ok(effects)
        })?;
        Ok(lease.map(|lease| (lease, run)))
    }

    /// Whether the run's concurrency key has no slot left for it.
    async fn is_full(&mut self, run: RunId) -> Result<bool> {
        let Some(concurrency) = self.record(run)?.concurrency.clone() else {
            return Ok(false);
        };
        let stored = match self.running_stored.get(&concurrency.key) {
            Some(stored) => *stored,
            None => {
                let stored = self.db.running(&concurrency.key).await?;
                self.running_stored
                    .insert(Arc::clone(&concurrency.key), stored);
                stored
            }
        };
        let changed = self.running.get(&concurrency.key).copied().unwrap_or(0);
        Ok(stored + changed >= i64::from(concurrency.limit.get()))
    }

    /// The best-ranked ready runs of these agents, from the slots and from what is stored.
    async fn ready(
        &mut self,
        agents: &AgentFilter,
        limit: usize,
        lines: &mut Lines,
    ) -> Result<Vec<RunId>> {
        let names = names(agents);
        if names.is_empty() && *agents != AgentFilter::Any {
            return Ok(Vec::new());
        }
        if self.cache.is_drained(&names) {
            let kept = self.cache.ready(agents, limit);
            self.load(&kept).await?;
            return Ok(self.ready_here(agents, limit).map(|(_, run)| run).collect());
        }
        let asked = limit.max(lines.wanted);
        let line = lines.by_filter.entry(names.clone()).or_default();
        line.runs.retain(|(_, run)| self.may_claim(*run));
        if line.runs.len() < limit && !line.complete {
            let mut known = self.known_where(|place| place.ready);
            known.extend(&self.unreadable);
            let found = self.db.ready(&names, asked, &known).await?;
            line.complete = found.len() < asked;
            line.runs.clear();
            for ready in found {
                match ready.loaded {
                    // The record came along: it stands in the batch's own line from now on.
                    Some(loaded) if !self.cache.contains(ready.run) => self.take_in([loaded]),
                    _ => line.runs.push_back((ready.rank, ready.run)),
                }
            }
        }
        let mut found: Vec<_> = self
            .ready_here(agents, limit)
            .chain(line.runs.iter().copied().take(limit))
            .collect();
        found.sort_unstable();
        found.truncate(limit);
        Ok(found.into_iter().map(|(_, run)| run).collect())
    }

    /// The best-ranked ready runs of these agents among the slots.
    fn ready_here(&self, agents: &AgentFilter, limit: usize) -> impl Iterator<Item = (i64, RunId)> {
        let here = self.ready.iter().copied().filter(|(_, run)| {
            let slot = self.slots.get(run);
            slot.is_some_and(|slot| takes(agents, &slot.record.agent))
        });
        here.take(limit)
    }

    /// Remembers the filters for which no ready runs are stored but those among the slots.
    pub(crate) fn note_drained(&mut self, lines: Lines) {
        for (names, line) in lines.by_filter {
            if line.complete && !line.runs.iter().any(|(_, run)| self.may_claim(*run)) {
                self.cache.set_drained(names);
            }
        }
    }

    /// Whether a run of the stored line is as it is stored.
    fn may_claim(&self, run: RunId) -> bool {
        !(self.slots.contains_key(&run)
            || self.unreadable.contains(&run)
            || self.absent.contains(&run))
    }

    /// What the claimers get of the runs that they have taken: one read for all of them.
    pub(crate) async fn hand_out(&mut self, claims: &[Vec<Taken>]) -> Result<Vec<Vec<Claimed>>> {
        let all = || {
            claims
                .iter()
                .flatten()
                .filter_map(|(_, run)| self.slots.get(run))
        };
        let bare = all()
            .filter(|slot| slot.payload.is_none())
            .map(|slot| slot.record.id);
        let bare: Vec<RunId> = bare.collect();
        let called = all()
            .filter(|slot| slot.record.unread_signals > 0)
            .map(|slot| slot.record.id);
        let called: Vec<RunId> = called.collect();
        let mut payloads: IdMap<RunId, Payload> = IdMap::default();
        if !bare.is_empty() {
            payloads.extend(self.db.payloads(&bare).await?);
        }
        let mut signals = HashMap::new();
        for run in called {
            signals.insert(run, self.mailbox(run).await?);
        }
        let hand_out = |(lease, run): &Taken| {
            let slot = self.slots.get(run)?;
            let payload = slot.payload.clone().or_else(|| payloads.remove(run));
            Some(Claimed {
                lease: *lease,
                run: slot.record.clone(),
                payload: payload.unwrap_or_default(),
                signals: signals.remove(run).unwrap_or_default(),
            })
        };
        let mut hand_out = hand_out;
        Ok(claims
            .iter()
            .map(|taken| taken.iter().filter_map(&mut hand_out).collect())
            .collect())
    }
}

/// The names of a filter, each once; empty for all.
fn names(agents: &AgentFilter) -> Vec<AgentKey> {
    match agents {
        AgentFilter::Any => Vec::new(),
        AgentFilter::Only(agents) => {
            let mut names = agents.clone();
            names.sort_unstable();
            names.dedup();
            names
        }
    }
}

/// Whether a worker with this filter takes runs of this agent.
pub(crate) fn takes(filter: &AgentFilter, agent: &AgentKey) -> bool {
    match filter {
        AgentFilter::Any => true,
        AgentFilter::Only(agents) => agents.contains(agent),
    }
}
