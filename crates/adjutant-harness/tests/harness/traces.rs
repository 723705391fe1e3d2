//! What is traced of an attempt.

use std::sync::Arc;

use adjutant_core::{AgentFn, AgentRegistry, RunResult};
use adjutant_harness::{Equipment, Equipped};
use adjutant_telemetry::{MemorySink, Tracer, TracerOptions};
use serde_json::json;

use crate::support::World;

const SCRIPT: &str = "[{tool_calls: [{name: look, arguments: {what: x}}]}, {text: Done.}]";

#[tokio::test(start_paused = true)]
async fn an_attempt_is_a_tree_of_its_steps_model_and_tool_calls() {
    let sink = Arc::new(MemorySink::default());
    let world = World::new();
    let equipment = Equipment {
        tracer: Some(Tracer::new(sink.clone(), TracerOptions::default())),
        ..world.equipment(SCRIPT)
    };
    world.result(&world.assistant(equipment), "Look.").await;
    let spans = sink.spans();
    let root = sink.span("invoke_agent helper").unwrap();
    let names: Vec<String> = root
        .children(&spans)
        .iter()
        .map(|span| span.name.to_string())
        .collect();
    assert_eq!(names, ["chat test", "execute_tool look", "chat test"]);
}

#[tokio::test(start_paused = true)]
async fn programs_get_the_trace_and_own_steps_are_spans() {
    let sink = Arc::new(MemorySink::default());
    let world = World::new();
    let equipment = Equipment {
        tracer: Some(Tracer::new(sink.clone(), TracerOptions::default())),
        ..world.equipment("[]")
    };
    let agent = AgentFn::new("helper", |ctx| async move {
        ctx.step("own", || async { Ok(1) }).await?;
        let variables = ctx.host().environment();
        let trace = variables
            .into_iter()
            .find(|(name, _)| name == "TRACEPARENT");
        Ok(RunResult::output(json!(trace.map(|(_, value)| value))))
    });
    let agents = AgentRegistry::new().with(Equipped::new(agent, equipment));
    let result = world.result(&agents, "Go.").await;
    let root = sink.span("invoke_agent helper").unwrap();
    let told: String = result.final_output.to().unwrap();
    assert_eq!(told, root.context.traceparent());
    assert_eq!(root.children(&sink.spans()).len(), 1, "the step");
}
