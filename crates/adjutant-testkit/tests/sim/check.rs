//! What must hold of every run once all is over.

use adjutant_core::{EventType, Outcome, RunId, RunState, StepOutcome};
use adjutant_events::EventBus;
use adjutant_queue::{RunFilter, RunLookup, RunRecord};
use adjutant_state::StateStore;
use adjutant_store::Store;

use crate::world::{Summary, World};

pub async fn everything(world: &World) -> Summary {
    let mut sum = Summary::default();
    let all = RunFilter {
        limit: 100_000,
        ..RunFilter::default()
    };
    let runs = world.store().list(all).await.unwrap();
    for run in world.submitted.lock().unwrap().iter() {
        if !runs.iter().any(|known| known.id == *run) {
            world.observer.broken(format!("{run} is lost"));
        }
    }
    for run in &runs {
        one(world, run, &mut sum).await;
    }
    let report = world.store().check().await.unwrap();
    if !report.is_sound() {
        world.observer.broken(format!("{report:?}"));
    }
    sum
}

async fn one(world: &World, run: &RunRecord, sum: &mut Summary) {
    let id = run.id;
    let broken = |what: String| world.observer.broken(format!("{id}: {what}"));
    sum.count(run.state);
    if run.parent.is_some() {
        sum.children += 1;
    }
    sum.epochs += run.epoch;
    let view = world.store().get(id).await.unwrap().unwrap();
    let outcome = view.outcome.as_ref().map(Outcome::state);
    if outcome != Some(run.state) {
        broken(format!("it is {} and ended as {outcome:?}", run.state));
    }
    if let Some(Outcome::Failed { error }) = &view.outcome
        && ["mixed_up", "step_changed", "internal", "incompatible_state"].contains(&&*error.kind)
    {
        broken(format!("{error}"));
    }
    events(world, id, run).await;
    let history = world.store().history(id).await.unwrap();
    let mut keys: Vec<_> = history.journal.iter().map(|step| &step.key).collect();
    sum.steps += keys.len() as u64;
    keys.sort_unstable();
    keys.dedup();
    if keys.len() != history.journal.len() {
        broken("a step is in the journal twice".to_owned());
    }
    let open = |outcome: &StepOutcome| matches!(outcome, StepOutcome::Started { .. });
    let left_open = history.journal.iter().any(|step| open(&step.outcome));
    if run.state == RunState::Succeeded && left_open {
        broken(format!("it succeeded amid {:?}", history.journal));
    }
}

async fn events(world: &World, id: RunId, run: &RunRecord) {
    let broken = |what: String| world.observer.broken(format!("{id}: {what}"));
    let events = world.store().read(id, 0, 100_000).await.unwrap();
    if !events.iter().map(|event| event.seq).eq(1..=run.last_seq) {
        broken(format!("its events have gaps: {events:?}"));
    }
    let ends: Vec<_> = events
        .iter()
        .filter(|event| event.event_type.is_terminal())
        .collect();
    let told = match run.state {
        RunState::Succeeded => EventType::RunSucceeded,
        RunState::Failed => EventType::RunFailed,
        RunState::Cancelled => EventType::RunCancelled,
        RunState::TimedOut => EventType::RunTimedOut,
        state => return broken(format!("it is {state} in the end")),
    };
    if ends.len() != 1 || ends[0].event_type != told || ends[0].seq != run.last_seq {
        broken(format!("it is {} and its ends are {ends:?}", run.state));
    }
}
