//! Agents without code.

use std::{num::NonZeroU32, sync::atomic::Ordering::SeqCst};

use adjutant_core::{AgentFn, EventType, Json, Role, RunResult};
use adjutant_harness::{
    Assistant, AssistantSpec, BudgetPolicy, Compaction, ContextPolicy, Equipment, Equipped,
    ToolCalls, ToolPolicy,
};
use adjutant_queue::{RunFilter, RunLookup};
use serde_json::{Value, json};

use crate::support::World;

const TWO_CALLS: &str = r"
- text: Let me look.
  tool_calls:
  - {name: look, arguments: {what: stars}}
  - {name: look, arguments: {what: moon}}
- text: I saw the stars and the moon.
";

#[tokio::test(start_paused = true)]
async fn it_calls_tools_until_it_has_an_answer() {
    let world = World::new();
    let result = world
        .result(&world.assistant(world.equipment(TWO_CALLS)), "What is up?")
        .await;
    assert_eq!(
        result.final_output,
        Json::from("I saw the stars and the moon.")
    );
    assert_eq!((result.usage.model_calls, result.usage.tool_calls), (2, 2));
    assert!(result.usage.output_tokens > 0);
    let said: Vec<_> = result
        .final_messages
        .iter()
        .map(|m| (m.role, m.text()))
        .collect();
    assert_eq!(
        said[1..3],
        [
            (Role::Tool, "saw stars".to_owned()),
            (Role::Tool, "saw moon".to_owned())
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn watchers_see_words_calls_and_answers() {
    let world = World::new();
    let _worker = world.worker(&world.assistant(world.equipment(TWO_CALLS)));
    let run = world.submit("helper", "What is up?").await;
    world.end(run).await;
    let events = world.events(run).await;
    let of = |kind: EventType| -> Vec<Value> {
        let events = events.iter().filter(|event| event.event_type == kind);
        events.map(|event| event.payload.to().unwrap()).collect()
    };
    let told: String = of(EventType::AssistantDelta)
        .iter()
        .filter_map(|delta| delta["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(told, "Let me look.I saw the stars and the moon.");
    assert_eq!(of(EventType::AssistantMessage).len(), 2);
    let calls = of(EventType::ToolCall);
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0]["arguments"]["what"], "stars");
    assert_eq!(of(EventType::ToolResult)[1]["result"], "saw moon");
}

#[tokio::test(start_paused = true)]
async fn wrong_arguments_and_unknown_tools_are_the_models_to_mend() {
    let script = r"
- tool_calls:
  - {name: look, arguments: {whom: me}}
  - {name: listen, arguments: {}}
- text: Sorry.
";
    let world = World::new();
    let result = world
        .result(&world.assistant(world.equipment(script)), "Look!")
        .await;
    let answers: Vec<String> = result.final_messages[1..3]
        .iter()
        .map(adjutant_core::Message::text)
        .collect();
    assert!(answers[0].contains("what"), "{answers:?}");
    assert!(answers[1].contains("no tool `listen`"), "{answers:?}");
    assert_eq!(world.counts.looked.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_fit_the_schema_is_given_back() {
    let script = "[{text: about seven}, {text: '{\"n\": \"seven\"}'}, {text: '{\"n\": 7}'}]";
    let world = World::new();
    let spec = AssistantSpec {
        output_schema: Some(json!({
            "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"],
        })),
        ..AssistantSpec::default()
    };
    let result = world
        .result(
            &world.assistant_of(spec, world.equipment(script)),
            "How many?",
        )
        .await;
    assert_eq!(result.final_output, Json::from(json!({ "n": 7 })));
    assert_eq!(result.usage.model_calls, 3);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_never_ends_is_stopped() {
    let world = World::new();
    let script = "[{when: '', tool_calls: [{name: look, arguments: {what: x}}]}]";
    let spec = AssistantSpec {
        max_turns: NonZeroU32::new(3).unwrap(),
        ..AssistantSpec::default()
    };
    let agents = world.assistant_of(spec, world.equipment(script));
    let (kind, _) = world.failure(&agents, "Go on.").await;
    assert_eq!(kind, "max_turns");
}

#[tokio::test(start_paused = true)]
async fn going_round_in_circles_is_noticed() {
    let world = World::new();
    let script = "[{when: '', tool_calls: [{name: look, arguments: {what: x}}]}]";
    let mut equipment = world.equipment(script);
    equipment.budget.max_repeats = NonZeroU32::new(3).unwrap();
    let (kind, message) = world.failure(&world.assistant(equipment), "Go on.").await;
    assert_eq!(kind, "loop_detected", "{message}");
    assert_eq!(world.counts.looked.load(SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_person_is_asked_before_a_tool_that_needs_it() {
    let script = "[{tool_calls: [{name: pay, arguments: {what: rent}}]}, {text: Done.}]";
    let world = World::new();
    let equipment = Equipment {
        tool_policy: ToolPolicy {
            ask: vec!["pa*".into()],
            ..ToolPolicy::default()
        },
        ..world.equipment(script)
    };
    let agents = world.assistant(equipment);
    let _worker = world.worker(&agents);

    let run = world.submit("helper", "Pay the rent.").await;
    let asked = world.until(run, EventType::ApprovalRequested).await;
    let asked: Value = asked.payload.to().unwrap();
    assert_eq!(asked["data"]["arguments"]["what"], "rent");
    world.until(run, EventType::RunWaiting).await;
    assert_eq!(world.counts.paid.load(SeqCst), 0);
    let edited = json!({ "approved": true, "data": { "arguments": { "what": "half the rent" } } });
    world.decide(run, "tool:pay", edited).await;
    world.end(run).await;
    assert_eq!(world.counts.paid.load(SeqCst), 1);
    let result = world.until(run, EventType::ToolResult).await;
    assert_eq!(
        result.payload.to::<Value>().unwrap()["result"],
        "paid half the rent"
    );

    let run = world.submit("helper", "Pay the rent.").await;
    world.until(run, EventType::RunWaiting).await;
    let no = json!({ "approved": false, "comment": "too early" });
    world.decide(run, "tool:pay", no).await;
    assert!(world.end(run).await.run.state.is_terminal());
    assert_eq!(
        world.counts.paid.load(SeqCst),
        1,
        "declined calls are not made"
    );
}

#[tokio::test(start_paused = true)]
async fn other_agents_are_tools() {
    let script = "[{tool_calls: [{name: agent__counter, arguments: {input: one two three}}]}, {text: It has three.}]";
    let world = World::new();
    let equipment = Equipment {
        agents: vec![("counter".to_owned(), "Counts words.".to_owned())],
        ..world.equipment(script)
    };
    let counter = AgentFn::new("counter", |ctx| async move {
        let words = ctx.input_messages()[0].text().split_whitespace().count();
        Ok(RunResult::output(json!({ "words": words })))
    });
    let agents = world.assistant(equipment).with(counter);
    let result = world.result(&agents, "How many words?").await;
    assert_eq!(result.final_messages[1].text(), r#"{"words":3}"#);
}

#[tokio::test(start_paused = true)]
async fn delegations_below_each_other_are_bounded() {
    let world = World::new();
    let script = "[{tool_calls: [{name: agent__helper, arguments: {input: you do it}}]}, {text: Nobody did it.}]";
    let equipment = Equipment {
        agents: vec![("helper".to_owned(), String::new())],
        budget: BudgetPolicy {
            max_depth: 3,
            ..BudgetPolicy::default()
        },
        ..world.equipment(script)
    };
    let assistant = Assistant::new("helper", AssistantSpec::default());
    let agents = adjutant_core::AgentRegistry::new().with(Equipped::new(assistant, equipment));
    let result = world.result(&agents, "Do it.").await;
    assert_eq!(result.final_output, Json::from("Nobody did it."));
    let runs = world.store.list(RunFilter::default()).await.unwrap();
    assert_eq!(runs.len(), 4, "the first run and three below it");
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_grows_too_long_is_summed_up() {
    // By the last message and not by position, since the conversation becomes shorter on the way.
    let look = |n: u32| {
        let when = match n {
            1 => "Look around.".to_owned(),
            n => format!("saw {} ", n - 1),
        };
        let what = format!("{n} ").repeat(150);
        format!(
            "- {{when: '{when}', tool_calls: [{{name: look, arguments: {{what: '{what}'}}}}]}}\n"
        )
    };
    let script = (1..=6).map(look).collect::<String>()
        + "- {when: 'saw 6 ', text: Done.}\n- {when: Sum up, text: Saw many things.}\n";
    for when_full in [
        Compaction::Summarize,
        Compaction::DropOldest,
        Compaction::Fail,
    ] {
        let world = World::new();
        let spec = AssistantSpec {
            context: ContextPolicy {
                max_tokens: NonZeroU32::new(900).unwrap(),
                when_full,
            },
            ..AssistantSpec::default()
        };
        let agents = world.assistant_of(spec, world.equipment(&script));
        if when_full == Compaction::Fail {
            assert_eq!(
                world.failure(&agents, "Look around.").await.0,
                "context_too_long"
            );
            continue;
        }
        let result = world.result(&agents, "Look around.").await;
        assert_eq!(result.final_output, Json::from("Done."), "{when_full:?}");
        let summed = result
            .final_messages
            .iter()
            .any(|m| m.text().contains("Saw many things."));
        assert_eq!(summed, when_full == Compaction::Summarize, "{when_full:?}");
        // No tool's answer without its call.
        let mut open = Vec::new();
        for message in &result.final_messages {
            open.extend(message.tool_calls.iter().map(|call| call.id.clone()));
            if let Some(id) = &message.tool_call_id {
                assert!(open.contains(id), "{when_full:?}: {id}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_cannot_call_tools_is_held_to_a_schema() {
    let script = r#"
- text: '{"step": {"tool": "look", "arguments": {"what": "stars"}}}'
- text: '{"step": {"answer": "I saw them."}}'
"#;
    let world = World::new();
    let spec = AssistantSpec {
        tool_calls: ToolCalls::Constrained,
        ..AssistantSpec::default()
    };
    let result = world
        .result(
            &world.assistant_of(spec, world.equipment(script)),
            "Look up.",
        )
        .await;
    assert_eq!(result.final_output, Json::from("I saw them."));
    assert_eq!(world.counts.looked.load(SeqCst), 1);
    assert_eq!(result.final_messages[1].text(), "look: saw stars");
}
