//! Tools that ask back, and tools that fail.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use adjutant_core::{Effect, EventType, Json, RunState, ToolAnswer, ToolSpec};
use adjutant_harness::{Equipment, ToolPolicy};
use adjutant_tools::{Caller, Invocation, Reply, ToolError, ToolRegistry, ToolSource};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::support::World;

/// One tool, `ask__it`, with a life of its own.
struct Asking {
    calls: AtomicU32,
    seen: Mutex<Vec<Value>>,
    how: How,
}

#[derive(Clone, Copy)]
enum How {
    /// Gives back what it wants to know and is called again.
    Modern,
    /// Asks during the call.
    Legacy,
    /// Has the model answer.
    Sampling,
    /// Is not there twice, then is.
    Flaky,
    /// Is never there.
    Dead,
    /// Cannot even say which tools it has, the first two times.
    Unlisted,
}

#[async_trait]
impl ToolSource for Asking {
    fn name(&self) -> &str {
        "ask"
    }

    async fn list(&self, _caller: &Caller) -> Result<Vec<ToolSpec>, ToolError> {
        if matches!(self.how, How::Unlisted) && self.calls.fetch_add(1, SeqCst) < 2 {
            return Err(away());
        }
        let spec = ToolSpec::new("ask__it", "Asks.", json!({ "type": "object" }));
        Ok(vec![spec.effect(Effect::ReadOnly)])
    }

    async fn call(&self, _caller: &Caller, call: Invocation<'_>) -> Result<Reply, ToolError> {
        let made = self.calls.fetch_add(1, SeqCst);
        let question = json!({
            "message": "Which colour?",
            "requestedSchema": { "type": "object", "properties": { "colour": { "type": "string" } } },
        });
        let answer = match self.how {
            How::Modern => match call.resume {
                None => {
                    let request = json!({ "method": "elicitation/create", "params": question });
                    return Ok(Reply::InputRequired {
                        requests: Map::from_iter([("colour".to_owned(), request)]),
                        state: Some(json!("sealed")),
                    });
                }
                Some(resume) => {
                    assert_eq!(resume.state, Some(json!("sealed")));
                    resume.responses["colour"].clone()
                }
            },
            How::Legacy => call.port.unwrap().elicit(question).await?,
            How::Sampling => {
                let request = json!({
                    "messages": [{ "role": "user", "content": { "type": "text", "text": "sample me" } }],
                    "maxTokens": 10,
                });
                call.port.unwrap().sample(request).await?
            }
            How::Flaky if made >= 2 => json!("there"),
            How::Unlisted => json!("there"),
            How::Flaky | How::Dead => return Err(away()),
        };
        self.seen.lock().unwrap().push(answer.clone());
        Ok(Reply::Answer(ToolAnswer::text(answer.to_string())))
    }
}

fn away() -> ToolError {
    ToolError::Unavailable {
        tool: "ask__it".to_owned(),
        problem: "nobody there".to_owned(),
        sent: false,
        source: None,
    }
}

fn asking(how: How) -> Arc<Asking> {
    Arc::new(Asking {
        calls: AtomicU32::new(0),
        seen: Mutex::default(),
        how,
    })
}

const SCRIPT: &str =
    "[{tool_calls: [{name: ask__it}]}, {text: Done.}, {when: sample me, text: sampled}]";

fn equipment(world: &World, source: &Arc<Asking>) -> Equipment {
    let source = Arc::clone(source) as Arc<dyn ToolSource>;
    Equipment {
        tools: Some(Arc::new(
            ToolRegistry::builder().source(source).build().unwrap(),
        )),
        ..world.equipment(SCRIPT)
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_asks_back_waits_for_a_person_without_holding_anything() {
    for how in [How::Modern, How::Legacy] {
        let (world, source) = (World::new(), asking(how));
        let _worker = world.worker(&world.assistant(equipment(&world, &source)));
        let run = world.submit("helper", "Go.").await;
        let asked = world.until(run, EventType::ApprovalRequested).await;
        let asked: Value = asked.payload.to().unwrap();
        assert_eq!(asked["message"], "Which colour?");
        assert_eq!(asked["data"]["schema"]["type"], "object");
        world.until(run, EventType::RunWaiting).await;
        let key = asked["key"].as_str().unwrap().to_owned();
        let answer = json!({ "approved": true, "data": { "colour": "green" } });
        world.decide(run, &key, answer).await;
        assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
        let seen = source.seen.lock().unwrap().clone();
        let last = seen.last().unwrap();
        assert_eq!(
            last,
            &json!({ "action": "accept", "content": { "colour": "green" } })
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_may_use_the_agents_model_where_that_is_allowed() {
    for allowed in [true, false] {
        let (world, source) = (World::new(), asking(How::Sampling));
        let equipment = Equipment {
            tool_policy: ToolPolicy {
                sampling: allowed,
                ..ToolPolicy::default()
            },
            ..equipment(&world, &source)
        };
        let result = world.result(&world.assistant(equipment), "Go.").await;
        let answer = result.final_messages[1].text();
        assert_eq!(answer.contains("sampled"), allowed, "{answer}");
        assert_eq!(result.usage.model_calls, if allowed { 3 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_is_away_for_a_moment_is_called_again() {
    let (world, source) = (World::new(), asking(How::Flaky));
    let result = world
        .result(&world.assistant(equipment(&world, &source)), "Go.")
        .await;
    assert_eq!(result.final_messages[1].text(), "\"there\"");
    assert_eq!(source.calls.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_stays_away_is_an_answer_that_the_model_reads() {
    let (world, source) = (World::new(), asking(How::Dead));
    let result = world
        .result(&world.assistant(equipment(&world, &source)), "Go.")
        .await;
    let answer = result.final_messages[1].text();
    assert!(answer.contains("tool_unavailable"), "{answer}");
    assert_eq!(result.final_output, Json::from("Done."));
}

#[tokio::test(start_paused = true)]
async fn an_agent_does_not_begin_without_its_tools() {
    let (world, source) = (World::new(), asking(How::Unlisted));
    let result = world
        .result(&world.assistant(equipment(&world, &source)), "Go.")
        .await;
    assert_eq!(result.final_messages[1].text(), "\"there\"");
}
