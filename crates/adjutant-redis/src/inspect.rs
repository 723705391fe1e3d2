//! Looking for damage, and for settings that would let some happen.

use adjutant_core::{Result, RunId};
use adjutant_engine::Place;
use adjutant_store::CheckReport;
use redis::Value;

use crate::{
    keys,
    link::Link,
    record, reply,
    script::{CHECK, TOTALS},
    server::Server,
    words::Words,
};

const ACTION: &str = "check the store";

/// Runs looked at by one script.
const PAGE: usize = 500;

/// The first problem of each kind.
#[derive(Default)]
struct Found {
    records: Option<String>,
    events: Option<String>,
    outcomes: Option<String>,
    journals: Option<String>,
    queue: Option<String>,
    counts: Option<String>,
}

/// Looks through all runs, some at a time.
pub(crate) async fn check(link: &Link) -> Result<CheckReport> {
    let mut found = Found::default();
    let all = link.keys().of("all", "");
    let mut from = b"-".to_vec();
    loop {
        let mut words = Words::default();
        let most = PAGE.to_string();
        words.command(&[
            b"ZRANGE",
            &all,
            &from,
            b"+",
            b"BYLEX",
            b"LIMIT",
            b"0",
            most.as_bytes(),
        ]);
        let mut answers = link.look(&words, ACTION).await?;
        let odd = |problem| link.odd(problem);
        let ids = reply::list(answers.pop().unwrap_or(Value::Nil)).map_err(odd)?;
        let ids = ids.into_iter().map(reply::bytes);
        let ids = ids.collect::<reply::Read<Vec<_>>>().map_err(odd)?;
        let Some(last) = ids.last() else { break };
        from = [b"(", &last[..]].concat();
        let mut words = Words::default();
        ids.iter().for_each(|id| words.push(id));
        let answers = link.run(&CHECK, &words, ACTION).await?;
        let answers = reply::list(answers).map_err(odd)?;
        for (id, answer) in ids.iter().zip(answers) {
            let run = keys::run(id).ok_or_else(|| odd("an id that is none".to_owned()))?;
            found.look_at(run, answer).map_err(odd)?;
        }
    }
    let totals = link.run(&TOTALS, &Words::default(), ACTION).await?;
    found.counts = totals_differ(totals).map_err(|problem| link.odd(problem))?;
    let weak = Server::ask(link).await?.weaknesses();
    let settings = (!weak.is_empty()).then(|| format!("the server has {}", weak.join("; ")));
    let checks = [
        ("records", found.records),
        ("events", found.events),
        ("outcomes", found.outcomes),
        ("journals", found.journals),
        ("queue", found.queue),
        ("counts", found.counts),
        ("settings", settings),
    ];
    Ok(CheckReport {
        checks: checks
            .map(|(name, problem)| (name.to_owned(), problem))
            .into(),
    })
}

impl Found {
    /// Compares what there is of a run with what its record says.
    fn look_at(&mut self, run: RunId, answer: Value) -> reply::Read<()> {
        let mut values = reply::list(answer)?.into_iter();
        let mut next = || values.next().unwrap_or(Value::Nil);
        let Some(stored) = reply::maybe(next())? else {
            // It may have been pruned between two looks.
            return Ok(());
        };
        let record = match record::read(run, &stored) {
            Ok((_, record)) => record,
            Err(problem) => {
                self.records.get_or_insert(format!("run {run}: {problem}"));
                return Ok(());
            }
        };
        let mut number = || reply::number(&next());
        let (first, last, events, steps) = (number()?, number()?, number()?, number()?);
        let (outcome, payload) = (number()? != 0, number()? != 0);
        let mut maybe = || reply::maybe_number(&next());
        let (ready, due, ended) = (maybe()?, maybe()?, maybe()?);
        let (latest, place) = (record.last_seq.cast_signed(), Place::of(&record));
        if events > 0 && (last != latest || events != last - first + 1) {
            self.events.get_or_insert(format!(
                "run {run} counts {latest} events, its log ends at {last} and has {events} from {first}"
            ));
        }
        if record.state.is_terminal() != outcome {
            self.outcomes.get_or_insert(format!(
                "run {run} is {:?}, it has an outcome: {outcome}",
                record.state
            ));
        }
        if !payload {
            self.records
                .get_or_insert(format!("run {run} has lost what it was given"));
        }
        if record.steps.cast_signed() != steps {
            self.journals.get_or_insert(format!(
                "run {run} counts {} steps, there are {steps}",
                record.steps
            ));
        }
        let due_at = place.due.map(|at| keys::score(at.as_micros()));
        if ready != place.ready.then(|| keys::score(place.rank))
            || due != due_at
            || ended.is_some() != record.state.is_terminal()
        {
            self.queue.get_or_insert(format!(
                "run {run} is {:?} and stands in the wrong line",
                record.state
            ));
        }
        Ok(())
    }
}

/// Compares the numbers of runs by state with those in the lines.
fn totals_differ(answer: Value) -> reply::Read<Option<String>> {
    let mut values = reply::list(answer)?.into_iter();
    let mut counts = reply::list(values.next().unwrap_or(Value::Nil))?.into_iter();
    let (mut all, mut ready, mut ended) = (0, 0, 0);
    while let (Some(class), Some(runs)) = (counts.next(), counts.next()) {
        let (class, runs) = (reply::number(&class)?, reply::number(&runs)?);
        match adjutant_engine::state_of_class(class) {
            Some(state) => {
                all += runs;
                ended += if state.is_terminal() { runs } else { 0 };
            }
            None if class == adjutant_engine::class::READY => ready += runs,
            None => {}
        }
    }
    let mut next = || reply::number(&values.next().unwrap_or(Value::Nil));
    let there = [
        ("all", all, next()?),
        ("ready", ready, next()?),
        ("ready", ready, next()?),
        ("ended", ended, next()?),
    ];
    let wrong = there
        .into_iter()
        .find(|(_, counted, there)| counted != there);
    Ok(wrong.map(|(what, counted, there)| {
        format!("{counted} runs are counted as {what}, there are {there}")
    }))
}
