//! Reading beside the writer.

use adjutant_core::{Error, Event, Result, RunId, RunState, Timestamp};
use adjutant_engine::{outcome, state_of_class};
use adjutant_queue::{Payload, QueueStats, RunFilter, RunRecord, RunView};
use adjutant_state::{Checkpoint, History};
use redis::Value;

use crate::{
    error::Told,
    keys::{self, Keys},
    link::Link,
    record, reply,
    script::{EVENTS, LIST, Script, TOTALS},
    shapes,
    words::Words,
};

const ACTION: &str = "read from the store";

/// Runs that one script looks at for a list, so that others need not wait for long.
const LOOKS: usize = 20_000;

/// The most events of one read: scripts answer at once or not at all.
const EVENTS_AT_ONCE: usize = 10_000;

pub(crate) fn history_words(keys: &Keys, run: RunId) -> Words {
    let mut words = Words::default();
    words.command(&[b"HGETALL", &keys.run("st:", run)]);
    words.command(&[b"LINDEX", &keys.run("ck:", run), b"-1"]);
    words
}

pub(crate) fn history(answers: Vec<Value>) -> reply::Read<History> {
    let mut answers = answers.into_iter();
    let mut next = || answers.next().unwrap_or(Value::Nil);
    let mut values = reply::list(next())?.into_iter();
    let mut steps = Vec::new();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        steps.push(shapes::step(&reply::bytes(key)?, &reply::bytes(value)?)?);
    }
    steps.sort_by_key(|(ordinal, _)| *ordinal);
    let checkpoint = reply::maybe(next())?;
    Ok(History {
        journal: steps.into_iter().map(|(_, step)| step).collect(),
        checkpoint: checkpoint
            .map(|value| shapes::checkpoint(&value))
            .transpose()?,
    })
}

impl Link {
    async fn answers(&self, commands: &Words) -> Result<Vec<Value>> {
        self.look(commands, ACTION).await.map_err(Told::into)
    }

    async fn read_script(&self, script: &Script, words: &Words) -> Result<Vec<Value>> {
        let answer = self.run(script, words, ACTION).await?;
        self.sound(reply::list(answer))
    }

    fn sound<T>(&self, read: reply::Read<T>) -> Result<T> {
        read.map_err(|problem| self.odd(problem))
    }

    pub(crate) async fn view(&self, run: RunId) -> Result<Option<RunView>> {
        let mut words = Words::default();
        for kind in ["run:", "in:", "out:"] {
            words.command(&[b"GET", &self.keys().run(kind, run)]);
        }
        let answers = self.answers(&words).await?;
        self.sound(view(run, answers))
    }

    pub(crate) async fn list(&self, filter: &RunFilter) -> Result<Vec<RunRecord>> {
        let states: String = filter
            .states
            .iter()
            .map(|state| char::from(b'0' + state.code()))
            .collect();
        let hex = |run: Option<RunId>| run.map_or(Vec::new(), |run| keys::id(run).to_vec());
        let mut before = hex(filter.before);
        let mut found = Vec::new();
        while found.len() < filter.limit {
            let mut words = Words::default();
            words.push(&before);
            words.size(filter.limit - found.len());
            words.size(LOOKS);
            words.push(&states);
            words.push(filter.agent.as_ref().map_or("", |agent| agent.as_str()));
            words.push(hex(filter.parent));
            let answer = self.read_script(&LIST, &words).await?;
            let (next, mut runs) = self.sound(page(answer))?;
            found.append(&mut runs);
            if next.is_empty() {
                break;
            }
            before = next;
        }
        Ok(found)
    }

    pub(crate) async fn stats(&self) -> Result<QueueStats> {
        let answers = self.read_script(&TOTALS, &Words::default()).await?;
        self.sound(stats(answers))
    }

    pub(crate) async fn history(&self, run: RunId) -> Result<History> {
        let answers = self.answers(&history_words(self.keys(), run)).await?;
        self.sound(history(answers))
    }

    pub(crate) async fn checkpoints(&self, run: RunId, most: usize) -> Result<Vec<Checkpoint>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let from = format!("-{}", most.min(1_000_000));
        let mut words = Words::default();
        words.command(&[
            b"LRANGE",
            &self.keys().run("ck:", run),
            from.as_bytes(),
            b"-1",
        ]);
        let mut answers = self.answers(&words).await?;
        self.sound((|| {
            let values = reply::list(answers.pop().unwrap_or(Value::Nil))?.into_iter();
            values
                .rev()
                .map(|value| shapes::checkpoint(&reply::bytes(value)?))
                .collect()
        })())
    }

    /// The number of the run's latest event; `None` for no such run.
    pub(crate) async fn last_seq(&self, run: RunId) -> Result<Option<u64>> {
        let mut words = Words::default();
        words.command(&[b"GET", &self.keys().run("run:", run)]);
        let mut answers = self.answers(&words).await?;
        self.sound((|| {
            let stored = reply::maybe(answers.pop().unwrap_or(Value::Nil))?;
            let record = stored
                .map(|stored| record::read(run, &stored))
                .transpose()?;
            Ok(record.map(|(_, record)| record.last_seq))
        })())
    }

    pub(crate) async fn events(&self, run: RunId, after: u64, most: usize) -> Result<Vec<Event>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let mut words = Words::default();
        words.push(keys::id(run));
        // Scripts count in floating point.
        words.int(after.min(1 << 53));
        words.size(most.min(EVENTS_AT_ONCE));
        let answer = self.read_script(&EVENTS, &words).await?;
        let (record, first, events) = self.sound(events(run, answer))?;
        let record = record.ok_or(Error::RunNotFound(run))?;
        let first = first.unwrap_or(record.last_seq + 1);
        if after.saturating_add(1) < first {
            return Err(Error::Pruned { run, first });
        }
        Ok(events)
    }
}

fn view(run: RunId, answers: Vec<Value>) -> reply::Read<Option<RunView>> {
    let mut answers = answers.into_iter();
    let mut next = || reply::maybe(answers.next().unwrap_or(Value::Nil));
    let (stored, payload, ended) = (next()?, next()?, next()?);
    let Some(stored) = stored else {
        return Ok(None);
    };
    let (_, record) = record::read(run, &stored)?;
    let ended = ended.map(|text| {
        let text = std::str::from_utf8(&text).map_err(|error| error.to_string())?;
        outcome(record.state, text).map_err(|error| error.to_string())
    });
    Ok(Some(RunView {
        payload: match payload {
            Some(payload) => shapes::payload(&payload)?,
            None => Payload::default(),
        },
        outcome: ended.transpose()?.flatten(),
        run: record,
    }))
}

/// The id to go on from, and runs.
fn page(answer: Vec<Value>) -> reply::Read<(Vec<u8>, Vec<RunRecord>)> {
    let mut values = answer.into_iter();
    let next = reply::bytes(values.next().unwrap_or(Value::Nil))?;
    let mut runs = Vec::new();
    while let (Some(id), Some(stored)) = (values.next(), values.next()) {
        let run = keys::run(&reply::bytes(id)?).ok_or("an id that is none")?;
        runs.push(record::read(run, &reply::bytes(stored)?)?.1);
    }
    Ok((next, runs))
}

type Events = (Option<RunRecord>, Option<u64>, Vec<Event>);

fn events(run: RunId, answer: Vec<Value>) -> reply::Read<Events> {
    let mut values = answer.into_iter();
    let mut next = || values.next().unwrap_or(Value::Nil);
    let stored = reply::maybe(next())?;
    let record = stored
        .map(|stored| record::read(run, &stored))
        .transpose()?;
    let first = reply::maybe_number(&next())?;
    let events = reply::list(next())?.into_iter();
    let events = events.map(|event| shapes::event(run, &reply::bytes(event)?));
    Ok((
        record.map(|(_, record)| record),
        first.map(i64::cast_unsigned),
        events.collect::<reply::Read<_>>()?,
    ))
}

/// Reads [`TOTALS`].
fn stats(answers: Vec<Value>) -> reply::Read<QueueStats> {
    let mut answers = answers.into_iter();
    let mut counts = reply::list(answers.next().unwrap_or(Value::Nil))?.into_iter();
    let mut stats = QueueStats::default();
    while let (Some(class), Some(runs)) = (counts.next(), counts.next()) {
        let (class, runs) = (reply::number(&class)?, reply::number(&runs)?);
        let runs = u64::try_from(runs).map_err(|_| "a negative count of runs")?;
        match state_of_class(class) {
            _ if runs == 0 => {}
            Some(state) => {
                stats.by_state.insert(state, runs);
            }
            None if class == adjutant_engine::class::READY => stats.ready = runs,
            None => stats.blocked = runs,
        }
    }
    let pending = stats.by_state.get(&RunState::Pending).copied().unwrap_or(0);
    stats.delayed = pending
        .saturating_sub(stats.ready)
        .saturating_sub(stats.blocked);
    let oldest = reply::maybe_number(&answers.last().unwrap_or(Value::Nil))?;
    stats.oldest_ready_at = oldest.map(Timestamp::from_micros);
    Ok(stats)
}
