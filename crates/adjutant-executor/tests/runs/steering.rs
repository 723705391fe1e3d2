//! What people say to a run at work.

use std::time::Duration;

use adjutant_core::{
    AgentFn, AgentRegistry, EventType, Json, Message, RunId, RunResult, STEER_SIGNAL,
};
use adjutant_queue::{Command, RunQueue};
use serde_json::json;

use crate::support::World;

async fn say(world: &World, run: RunId, text: &str) {
    let command = Command::Signal {
        name: STEER_SIGNAL.to_owned(),
        payload: Json::from_value(&[Message::user(text)]).unwrap(),
    };
    world.store.control(run, command).await.unwrap();
}

/// Listens until it has heard `n` messages, then waits, then listens again.
fn listener() -> AgentRegistry {
    AgentRegistry::new().with(AgentFn::new("listener", |ctx| async move {
        let listen = async |wanted: usize| {
            let mut heard = Vec::new();
            while heard.len() < wanted {
                let more = ctx.host().steering(heard.len()).await?;
                heard.extend(more.iter().map(Message::text));
            }
            Ok::<_, adjutant_core::AgentError>(heard)
        };
        ctx.emit("ready", json!({})).await?;
        listen(2).await?;
        ctx.sleep("nap", Duration::from_secs(60)).await?;
        Ok(RunResult::output(json!(listen(3).await?)))
    }))
}

#[tokio::test(start_paused = true)]
async fn each_attempt_hears_all_that_was_said_before_it_and_during_it() {
    let world = World::new();
    let run = world.submit("listener").await;
    say(&world, run, "before").await;
    let _worker = world.worker(&listener());
    world.until(run, EventType::from("ready")).await;
    say(&world, run, "during").await;
    world.until(run, EventType::RunWaiting).await;
    say(&world, run, "while it waits").await;
    let heard = world.output(run).await;
    assert_eq!(
        heard,
        Json::from(json!(["before", "during", "while it waits"]))
    );
}
