//! From the changes of a batch to commands. What concerns the same key goes into the same command.

use std::{collections::BTreeMap, num::NonZeroU32};

use adjutant_core::{IdMap, IdSet, RunId, StepRecord, Timestamp};
use adjutant_engine::{ChangedRun, Changes, Place};

use crate::{
    keys::{self, Id, Keys, score},
    news::News,
    record, shapes,
    transaction::Transaction,
    words::Words,
};

/// The most words of one command: scripts can hand over some 8000.
const WORDS: usize = 4000;

/// Members of sorted sets that come and go, and values to set.
#[derive(Default)]
struct Gathered {
    set: Vec<(Vec<u8>, Vec<u8>)>,
    add: BTreeMap<Vec<u8>, Vec<(i64, Vec<u8>)>>,
    remove: BTreeMap<Vec<u8>, Vec<Id>>,
    agents: Vec<Vec<u8>>,
}

impl Gathered {
    fn add(&mut self, key: Vec<u8>, number: i64, id: impl Into<Vec<u8>>) {
        let members = self.add.entry(key).or_default();
        members.push((score(number), id.into()));
    }

    fn remove(&mut self, key: Vec<u8>, id: Id) {
        self.remove.entry(key).or_default().push(id);
    }

    fn write(self, keys: &Keys, to: &mut Words) {
        for page in self.set.chunks(WORDS / 2) {
            to.size(1 + 2 * page.len());
            to.push("MSET");
            for (key, value) in page {
                to.push(key);
                to.push(value);
            }
        }
        for (key, ids) in &self.remove {
            zrem(key, ids, to);
        }
        for (key, members) in &self.add {
            for page in members.chunks(WORDS / 2) {
                to.size(2 + 2 * page.len());
                to.push("ZADD");
                to.push(key);
                for (number, id) in page {
                    to.int(*number);
                    to.push(id);
                }
            }
        }
        if !self.agents.is_empty() {
            several("SADD", &keys.of("agents", ""), &self.agents, to);
        }
    }
}

/// A command with a key and some more words; several of them if there are too many.
pub(crate) fn several<W: AsRef<[u8]>>(name: &str, key: &[u8], values: &[W], to: &mut Words) {
    for page in values.chunks(WORDS) {
        to.size(2 + page.len());
        to.push(name);
        to.push(key);
        page.iter().for_each(|value| to.push(value));
    }
}

pub(crate) fn zrem(key: &[u8], ids: &[Id], to: &mut Words) {
    several("ZREM", key, ids, to);
}

/// Adds to numbers of runs.
pub(crate) fn count(keys: &Keys, counts: &[(i64, i64)], to: &mut Words) {
    let key = keys.of("counts", "");
    for (class, by) in counts {
        to.size(4);
        to.push("HINCRBY");
        to.push(&key);
        to.int(*class);
        to.int(*by);
    }
}

/// Puts all changes of a batch into its transaction.
pub(crate) fn put(
    tx: &mut Transaction,
    keys: &Keys,
    changes: &Changes<'_>,
    events_kept: Option<NonZeroU32>,
) {
    let mut gathered = Gathered::default();
    let mut touched: IdSet<RunId> = IdSet::default();
    for run in &changes.runs {
        let id = run.record.id;
        touched.insert(id);
        let bytes = record::bytes(&tx.token, run.record);
        gathered.set.push((keys.run("run:", id), bytes));
        if run.before.is_none() {
            create(run, keys, tx, &mut gathered);
        }
        if !run.counts_only {
            move_run(run, keys, tx, &mut gathered);
        }
    }
    let added = changes.added;
    for (run, payload) in &added.payloads {
        let bytes = shapes::payload_bytes(payload);
        gathered.set.push((keys.run("in:", *run), bytes));
    }
    for (run, text) in &added.outcomes {
        gathered
            .set
            .push((keys.run("out:", *run), text.as_bytes().to_vec()));
    }
    gathered.write(keys, &mut tx.commands);
    let others = steps(&changes.steps, keys, &mut tx.commands)
        .chain(added.events.iter().map(|(run, ..)| *run))
        .chain(changes.fanouts.iter().map(|(run, ..)| *run))
        .chain(added.taken.iter().map(|(run, _)| *run));
    let others: IdSet<RunId> = others.filter(|run| !touched.contains(run)).collect();
    for run in others {
        touch(tx, keys, run);
    }
    for (run, key, group) in &changes.fanouts {
        let (name, value) = (keys.run("fo:", *run), shapes::group_bytes(*group));
        tx.commands
            .command(&[b"HSET", &name, key.as_bytes(), &value]);
    }
    checkpoints(changes, keys, &mut tx.commands);
    for (run, signal) in &added.signals {
        let (name, value) = (keys.run("mb:", *run), shapes::signal_bytes(signal));
        let number = signal.id.to_string();
        tx.commands
            .command(&[b"HSET", &name, number.as_bytes(), &value]);
    }
    for (run, signal) in &added.taken {
        let (name, number) = (keys.run("mb:", *run), signal.to_string());
        tx.commands.command(&[b"HDEL", &name, number.as_bytes()]);
    }
    events(changes, keys, events_kept, tx);
    count(keys, &changes.counts(), &mut tx.commands);
    tx.news = News::of(changes);
}

/// Notes in a run's record which transaction has changed what belongs to it.
pub(crate) fn touch(tx: &mut Transaction, keys: &Keys, run: RunId) {
    let (key, token) = (keys.run("run:", run), tx.token);
    tx.commands.command(&[b"SETRANGE", &key, b"0", &token]);
}

/// What a run gets once and for all.
fn create(run: &ChangedRun<'_>, keys: &Keys, tx: &mut Transaction, to: &mut Gathered) {
    let record = run.record;
    let id = keys::id(record.id);
    tx.new.push(record.id);
    to.add(keys.of("all", ""), 0, id);
    if let Some(link) = &record.parent {
        let mut member = id.to_vec();
        member.extend_from_slice(link.group.as_bytes());
        to.add(keys.run("ki:", link.run), 0, member);
    }
    if let Some(key) = &record.idempotency_key {
        tx.given.push(key.clone());
        to.set.push((keys.of("key:", key), id.to_vec()));
    }
}

/// Takes a run from one line to another.
fn move_run(run: &ChangedRun<'_>, keys: &Keys, tx: &mut Transaction, to: &mut Gathered) {
    let record = run.record;
    let (before, after) = (run.before, Place::of(record));
    let (was, id) = (
        |is: fn(Place) -> bool| before.is_some_and(is),
        keys::id(record.id),
    );
    let same_rank = before.is_some_and(|before| before.rank == after.rank);
    let line = || keys.of("ready:", record.agent.as_str());
    if after.ready && !(was(|place| place.ready) && same_rank) {
        to.add(line(), after.rank, id);
        to.add(keys.of("since", ""), record.ready_at.as_micros(), id);
        let agent = record.agent.as_str().as_bytes();
        if !to.agents.iter().any(|known| known == agent) {
            to.agents.push(agent.to_vec());
        }
    } else if was(|place| place.ready) && !after.ready {
        to.remove(line(), id);
        to.remove(keys.of("since", ""), id);
    }
    if let Some(concurrency) = &record.concurrency {
        let held = || keys.of("held:", &*concurrency.key);
        let runs = |place: Place| i64::from(place.state == adjutant_core::RunState::Running);
        let by = runs(after) - before.map_or(0, runs);
        let mut moved = by != 0;
        if after.blocked && !(was(|place| place.blocked) && same_rank) {
            to.add(held(), after.rank, id);
            moved = true;
        } else if was(|place| place.blocked) && !after.blocked {
            to.remove(held(), id);
            moved = true;
        }
        if moved {
            *tx.running.entry(concurrency.key.to_string()).or_default() += by;
        }
    }
    let due = before.and_then(|place| place.due);
    match after.due {
        Some(at) if due != Some(at) => to.add(keys.of("due", ""), at.as_micros(), id),
        None if due.is_some() => to.remove(keys.of("due", ""), id),
        _ => {}
    }
    let ended = was(|place| place.state.is_terminal());
    if after.state.is_terminal() && !ended {
        let at = record.finished_at.map_or(0, Timestamp::as_micros);
        to.add(keys.of("ended", ""), at, id);
    } else if ended && !after.state.is_terminal() {
        to.remove(keys.of("ended", ""), id);
    }
}

/// Writes steps, by run. Returns whose they were.
fn steps(
    steps: &[(RunId, u64, &StepRecord)],
    keys: &Keys,
    to: &mut Words,
) -> impl Iterator<Item = RunId> + use<> {
    let mut by_run: IdMap<RunId, Vec<Vec<u8>>> = IdMap::default();
    for (run, ordinal, step) in steps {
        let values = by_run.entry(*run).or_default();
        values.push(step.key.clone().into_bytes());
        values.push(shapes::step_bytes(*ordinal, step));
    }
    for (run, values) in &by_run {
        several("HSET", &keys.run("st:", *run), values, to);
    }
    by_run.into_keys()
}

/// Adds checkpoints, and drops those that are too old.
fn checkpoints(changes: &Changes<'_>, keys: &Keys, to: &mut Words) {
    let added = changes.added;
    let mut dropped: IdMap<RunId, u64> = IdMap::default();
    for (run, upto) in &added.dropped {
        let highest = dropped.entry(*run).or_default();
        *highest = (*upto).max(*highest);
    }
    let mut last: IdMap<RunId, u64> = IdMap::default();
    for (run, seq, state, at) in &added.checkpoints {
        last.insert(*run, *seq);
        if dropped.get(run).is_none_or(|upto| seq > upto) {
            let value = shapes::checkpoint_bytes(*seq, state, *at);
            to.command(&[b"RPUSH", &keys.run("ck:", *run), &value]);
        }
    }
    for (run, upto) in dropped {
        let kept = last.get(&run).map_or(0, |last| last.saturating_sub(upto));
        let from = format!("-{kept}");
        if kept > 0 {
            to.command(&[b"LTRIM", &keys.run("ck:", run), from.as_bytes(), b"-1"]);
        }
    }
}

fn events(changes: &Changes<'_>, keys: &Keys, kept: Option<NonZeroU32>, tx: &mut Transaction) {
    let mut by_run: IdMap<RunId, Vec<Vec<u8>>> = IdMap::default();
    for (run, seq, event, at) in &changes.added.events {
        let value = shapes::event_bytes(*seq, event, *at);
        by_run.entry(*run).or_default().push(value);
        tx.events.entry(*run).or_insert((*seq, *seq)).0 = *seq;
    }
    for (run, values) in &by_run {
        let key = keys.run("ev:", *run);
        several("RPUSH", &key, values, &mut tx.commands);
        let most = kept.map(|kept| kept.get().to_string());
        if let Some(most) = most {
            let from = format!("-{most}");
            tx.commands
                .command(&[b"LTRIM", &key, from.as_bytes(), b"-1"]);
        }
    }
}
