//! What must hold of every run in the end, whatever was killed.

use std::collections::{BTreeMap, HashMap};

use adjutant_core::{Event, EventType, Outcome, RunId, RunState, StepOutcome, StepRecord};
use adjutant_events::EventBus;
use adjutant_queue::{RunFilter, RunLookup};
use adjutant_state::StateStore;
use serde_json::Value;

use crate::{
    agents::{WHOLE, expected},
    site::Site,
};

/// A line that a step wrote.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    epoch: u64,
    at: i64,
}

/// All lines, by run and step.
pub struct Lines(HashMap<(RunId, String), Vec<Line>>);

impl Lines {
    pub fn read(site: &Site) -> Self {
        let text = std::fs::read_to_string(site.lines()).unwrap_or_default();
        let mut lines: HashMap<_, Vec<_>> = HashMap::new();
        for line in text.lines() {
            let [run, step, _attempt, epoch, at] = *line.split(' ').collect::<Vec<_>>() else {
                panic!("half a line: {line}");
            };
            let line = Line {
                epoch: epoch.parse().unwrap(),
                at: at.parse().unwrap(),
            };
            let key = (run.parse().unwrap(), step.to_owned());
            lines.entry(key).or_default().push(line);
        }
        Self(lines)
    }

    pub fn of(&self, run: RunId, step: &str) -> &[Line] {
        self.0
            .get(&(run, step.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    /// Lines beyond the first of each step.
    pub fn repeated(&self) -> usize {
        self.0.values().map(|lines| lines.len() - 1).sum()
    }

    /// Steps with more than one line.
    pub fn repeated_steps(&self) -> Vec<(RunId, String)> {
        let repeated = self.0.iter().filter(|(_, lines)| lines.len() > 1);
        repeated.map(|(key, _)| key.clone()).collect()
    }
}

pub async fn events(site: &Site, run: RunId) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let after = events.last().map_or(0, |event: &Event| event.seq);
        let more = site.store.read(run, after, 1000).await.unwrap();
        if more.is_empty() {
            return events;
        }
        events.extend(more);
    }
}

/// The runs and their children; returns how many there are in all.
pub async fn all_is_well(site: &Site, runs: &[RunId], lines: &Lines) -> usize {
    let mut count = 0;
    for run in runs {
        let agent = one_is_well(site, *run, lines).await;
        count += 1;
        let children = RunFilter {
            parent: Some(*run),
            ..RunFilter::default()
        };
        let children = site.store.list(children).await.unwrap();
        let want = if agent == WHOLE { 2 } else { 0 };
        assert_eq!(children.len(), want, "{run}: children");
        for child in children {
            one_is_well(site, child.id, lines).await;
            count += 1;
        }
    }
    let stats = site.store.stats().await.unwrap();
    let in_all: u64 = stats.by_state.values().sum();
    assert_eq!(in_all, count as u64, "runs that nobody knows: {stats:?}");
    let report = adjutant_store::Store::check(&site.store).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    count
}

async fn one_is_well(site: &Site, run: RunId, lines: &Lines) -> String {
    let view = site.view(run).await;
    let agent = view.run.agent.to_string();
    let (steps, output) = expected(&agent);
    assert_eq!(view.run.state, RunState::Succeeded, "{run}: {view:?}");
    let Some(Outcome::Succeeded(result)) = &view.outcome else {
        panic!("{run}: {:?}", view.outcome);
    };
    assert_eq!(result.final_output.to::<Value>().unwrap(), output, "{run}");
    // One whose answer was lost was sent again.
    assert!(site.is_stormy || view.run.unread_signals == 0, "{run}");

    let events = events(site, run).await;
    numbered_and_ended_once(run, view.run.last_seq, &events);

    let history = site.store.history(run).await.unwrap();
    let mut keys: Vec<_> = history.journal.iter().map(|step| &step.key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), history.journal.len(), "{run}: {history:?}");
    for step in steps {
        let record = history.journal.iter().find(|record| record.key == *step);
        let record = record.unwrap_or_else(|| panic!("{run}: no record of `{step}`"));
        done_once(site, run, record, &events, lines.of(run, step));
    }
    if agent == WHOLE {
        let state = history.checkpoint.map(|checkpoint| checkpoint.state);
        assert_eq!(state.unwrap().to::<u64>().unwrap(), 15, "{run}");
    }
    agent
}

fn numbered_and_ended_once(run: RunId, last: u64, events: &[Event]) {
    let numbers = events.iter().map(|event| event.seq);
    assert!(numbers.eq(1..=last), "{run}: gaps in {events:?}");
    let of_run: Vec<_> = events
        .iter()
        .map(|event| event.event_type.as_str())
        .filter(|name| name.starts_with("run."))
        .collect();
    let ends = |name: &&&str| {
        [
            "run.succeeded",
            "run.failed",
            "run.cancelled",
            "run.timed_out",
        ]
        .contains(name)
    };
    assert_eq!(of_run.iter().filter(ends).count(), 1, "{run}: {of_run:?}");
    assert_eq!(
        of_run.last(),
        Some(&"run.succeeded"),
        "{run}: its end is not the last"
    );
}

/// The step was done in the epoch that recorded it, never after, and before it only in epochs whose
/// worker died or, in a storm, could not write.
fn done_once(site: &Site, run: RunId, record: &StepRecord, events: &[Event], lines: &[Line]) {
    let step = record.key.as_str();
    assert!(
        matches!(record.outcome, StepOutcome::Completed { .. }),
        "{run} {step}"
    );
    let field = |event: &Event, name: &str| {
        let payload: Value = event.payload.to().unwrap();
        payload.get(name).cloned().unwrap_or_default()
    };
    let completed: Vec<_> = events
        .iter()
        .enumerate()
        .filter(|(_, event)| {
            event.event_type == EventType::StepCompleted && field(event, "step_name") == step
        })
        .map(|(at, _)| at)
        .collect();
    assert_eq!(completed.len(), 1, "{run} {step}: completed {completed:?}");
    let mut epoch = 0;
    let mut lost = BTreeMap::new();
    for event in &events[..completed[0]] {
        match event.event_type {
            EventType::RunStarted => epoch = field(event, "epoch").as_u64().unwrap(),
            EventType::LeaseLost => {
                lost.insert(field(event, "epoch").as_u64().unwrap(), event.seq);
            }
            _ => {}
        }
    }
    let mut seen = Vec::new();
    for line in lines {
        assert!(
            line.epoch == epoch || lost.contains_key(&line.epoch) || site.is_stormy,
            "{run} {step}: done in epoch {} although recorded in {epoch} and lost in {lost:?}",
            line.epoch
        );
        assert!(line.epoch <= epoch, "{run} {step}: done again: {lines:?}");
        assert!(!seen.contains(&line.epoch), "{run} {step}: {lines:?}");
        seen.push(line.epoch);
        if line.epoch == epoch {
            assert!(
                line.at <= record.recorded_at.as_micros(),
                "{run} {step}: done after it was recorded"
            );
        }
    }
    assert!(seen.contains(&epoch), "{run} {step}: recorded, not done");
}
