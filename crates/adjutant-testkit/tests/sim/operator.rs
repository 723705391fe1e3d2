//! Whoever submits runs, and pauses, cancels, answers and pesters them.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use adjutant_core::{Error, Json, NewEvent, RetryPolicy, RunId, RunInput, RunState};
use adjutant_queue::{
    Command, Concurrency, Disposition, NewRun, RunFilter, RunLookup, RunQueue, RunRecord, WakeOn,
};
use adjutant_store::{Commit, Op, Store};
use serde_json::json;

use crate::{
    agents::{AGENT, SIGNALS, program},
    dice::Dice,
    world::World,
};

/// Virtual time in which all runs have to end once nothing fails any more.
const PATIENCE: u32 = 3600;

/// Submits runs and bothers them until things calm down.
pub async fn meddle(world: &World, mut dice: Dice) {
    let count = 3 + dice.below(8);
    let mut runs = Vec::new();
    for number in 0..count {
        let run = new_run(&mut dice, number);
        let again = dice.percent(20).then(|| run.clone());
        runs.push(run.id);
        world.store().submit(vec![run]).await.unwrap();
        if let Some(again) = again {
            let answer = world.store().submit(vec![again]).await.unwrap();
            if answer[0].created {
                world
                    .observer
                    .broken(format!("{} queued twice", answer[0].run));
            }
        }
        bother(world, &mut dice, &runs).await;
    }
    for _ in 0..20 {
        bother(world, &mut dice, &runs).await;
    }
    *world.submitted.lock().unwrap() = runs;
}

fn new_run(dice: &mut Dice, number: u64) -> NewRun {
    let program = program(dice, 0, &mut 0);
    let concurrency = dice.percent(40).then(|| Concurrency {
        key: Arc::from(if dice.percent(50) { "a" } else { "b" }),
        limit: NonZeroU32::new(1).unwrap(),
    });
    NewRun {
        id: RunId::from_bytes(dice.id(number)),
        priority: i32::try_from(dice.below(5)).unwrap(),
        concurrency,
        retry: RetryPolicy {
            max_attempts: NonZeroU32::new(1 + u32::try_from(dice.below(5)).unwrap()).unwrap(),
            jitter: 0.0,
            ..RetryPolicy::default()
        },
        max_deaths: u32::try_from(dice.below(20)).unwrap(),
        ..NewRun::new(AGENT, &RunInput::data(json!(program))).unwrap()
    }
}

/// Does something to some run.
async fn bother(world: &World, dice: &mut Dice, runs: &[RunId]) {
    tokio::time::sleep(dice.millis(0, 3000)).await;
    let run = runs[usize::try_from(dice.below(runs.len() as u64)).unwrap()];
    let command = match dice.below(100) {
        0..40 => Command::Signal {
            name: SIGNALS[usize::from(dice.percent(50))].to_owned(),
            payload: json!("sent").into(),
        },
        40..60 => return answer_all(world, dice.percent(50)).await,
        60..70 => Command::Pause,
        70..80 => Command::Resume,
        80..85 => Command::Cancel {
            reason: "a whim".to_owned(),
        },
        _ => return pester(world).await,
    };
    // Most commands do not fit the state that the run is in by now, and are refused.
    match world.store().control(run, command).await {
        Ok(_) | Err(Error::Illegal { .. }) => {}
        Err(error) => world.observer.broken(format!("{run}: {error}")),
    }
}

/// Writes on behalf of every holder that has been replaced: nothing may come of it.
pub async fn pester(world: &World) {
    for lease in world.observer.old_leases() {
        let before = world.store().get(lease.run).await.unwrap().unwrap().run;
        if before.state == RunState::Running && before.epoch == lease.epoch {
            continue;
        }
        let commit = Commit {
            lease,
            ops: vec![Op::Event(NewEvent::new("sim.stale", json!(null)))],
            end: Some(Disposition::Cancelled {
                reason: "stale".to_owned(),
            }),
        };
        let answer = world.store().commit(commit).await;
        let after = world.store().get(lease.run).await.unwrap().unwrap().run;
        if !matches!(answer, Err(Error::LeaseLost { .. })) || before != after {
            let broken = format!("{lease:?} is stale, and yet: {answer:?}");
            world.observer.broken(broken);
        }
    }
}

async fn answer_all(world: &World, approved: bool) {
    for run in unended(world).await {
        if run.state == RunState::InputRequired {
            answer(world, &run, approved).await;
        }
    }
}

async fn answer(world: &World, run: &RunRecord, approved: bool) {
    let waits = run.wait.iter().flat_map(|wait| &wait.wake_on);
    for on in waits {
        if let WakeOn::Signal(name) = on {
            let payload = Json::from(json!({ "approved": approved }));
            let name = name.clone();
            let signal = Command::Signal { name, payload };
            world.store().control(run.id, signal).await.unwrap();
        }
    }
}

/// Gives every run what it waits for until all have ended.
pub async fn help_out(world: &World) {
    for _ in 0..PATIENCE {
        let runs = unended(world).await;
        if runs.is_empty() {
            return;
        }
        for run in runs {
            let command = match run.state {
                RunState::Paused => Command::Resume,
                RunState::Parked => Command::Redrive,
                RunState::Waiting | RunState::InputRequired => {
                    answer(world, &run, true).await;
                    continue;
                }
                _ => continue,
            };
            world.store().control(run.id, command).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for run in unended(world).await {
        world.observer.broken(format!("does not end: {run:?}"));
    }
}

async fn unended(world: &World) -> Vec<RunRecord> {
    let unended = RunFilter {
        states: RunState::ALL
            .into_iter()
            .filter(|state| !state.is_terminal())
            .collect(),
        limit: 10_000,
        ..RunFilter::default()
    };
    world.store().list(unended).await.unwrap()
}
