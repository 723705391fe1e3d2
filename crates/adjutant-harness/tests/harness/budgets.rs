//! Budgets: reserved before a call, settled after it.

use std::sync::atomic::Ordering::SeqCst;

use adjutant_budget::{Account, BudgetLedger};
use adjutant_core::{
    AgentFn, AgentRegistry, Delegate, EventType, FailurePolicy, RunInput, RunResult, RunState,
    ToolUse,
};
use adjutant_harness::{BudgetPolicy, Equipment, Equipped, OnExceeded, Spend};
use adjutant_queue::RunLookup;
use serde_json::json;

use crate::support::World;

const MANY: &str = r"
- tool_calls: [{name: look, arguments: {what: a}}]
- tool_calls: [{name: look, arguments: {what: b}}]
- tool_calls: [{name: look, arguments: {what: c}}]
- text: Done.
";

fn calls(tool_calls: u64) -> Spend {
    Spend {
        tool_calls: Some(tool_calls),
        ..Spend::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_where_its_budget_ends() {
    let world = World::new();
    let mut equipment = world.equipment(MANY);
    equipment.budget.run = calls(2);
    let (kind, message) = world.failure(&world.assistant(equipment), "Go.").await;
    assert_eq!(kind, "budget_exceeded");
    assert!(message.contains("2 spent"), "{message}");
    assert_eq!(world.counts.looked.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn people_are_warned_and_told() {
    let world = World::new();
    let mut equipment = world.equipment(MANY);
    equipment.budget.run = calls(2);
    equipment.budget.warn_percent = 50;
    let _worker = world.worker(&world.assistant(equipment));
    let run = world.submit("helper", "Go.").await;
    world.end(run).await;
    world.until(run, EventType::BudgetWarning).await;
    world.until(run, EventType::BudgetExceeded).await;
}

#[tokio::test(start_paused = true)]
async fn by_policy_a_run_waits_for_more_room() {
    let world = World::new();
    let mut equipment = world.equipment(MANY);
    equipment.budget.agent = calls(2);
    equipment.budget.on_exceeded = OnExceeded::Pause;
    let _worker = world.worker(&world.assistant(equipment));
    let run = world.submit("helper", "Go.").await;
    world.until(run, EventType::BudgetExceeded).await;
    world.until(run, EventType::RunWaiting).await;
    let view = world.store.get(run).await.unwrap().unwrap();
    assert_eq!(view.run.state, RunState::InputRequired);
    let account = Account::agent(&"helper".into()).unwrap();
    world.ledger.reset(&account).await.unwrap();
    world
        .decide(run, "budget:tool:look#3", json!({ "approved": true }))
        .await;
    assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
    assert_eq!(world.counts.looked.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn model_calls_are_counted_and_bounded_by_tokens() {
    let world = World::new();
    let mut equipment =
        world.equipment("[{text: Hello., usage: {input_tokens: 70, output_tokens: 30}}]");
    equipment.budget.run.tokens = Some(100_000);
    let worker = world.worker(&world.assistant(equipment.clone()));
    let run = world.submit("helper", "Hi.").await;
    world.end(run).await;
    drop(worker);
    let balance = world
        .ledger
        .balance(&Account::run(run))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((balance.spent.tokens, balance.spent.model_calls), (100, 1));
    assert!(balance.reserved.is_zero());

    equipment.budget.run.tokens = Some(10);
    let (kind, _) = world.failure(&world.assistant(equipment), "Hi.").await;
    assert_eq!(kind, "budget_exceeded");
}

/// A hundred children call two tools each, under one budget of 50 calls for the tree.
#[tokio::test(start_paused = true)]
async fn a_hundred_children_share_one_budget() {
    let world = World::new();
    let budget = BudgetPolicy {
        tree: calls(50),
        ..BudgetPolicy::default()
    };
    let equipment = Equipment {
        budget,
        ..world.equipment("[]")
    };
    let child = AgentFn::new("child", |ctx| async move {
        for what in ["a", "b"] {
            ctx.call_tool(ToolUse::new("look", json!({ "what": what })))
                .await?;
        }
        Ok(RunResult::output("both"))
    });
    let parent = AgentFn::new("helper", |ctx| async move {
        let mut children = Delegate::new("all").policy(FailurePolicy::Settle);
        for _ in 0..100 {
            children = children.child("child", RunInput::default());
        }
        let outcomes = ctx.delegate(children).await?;
        let failed = outcomes
            .iter()
            .filter(|child| child.status == RunState::Failed)
            .count();
        Ok(RunResult::output(json!({ "failed": failed })))
    });
    let child_equipment = Equipment {
        // A child's own budget says nothing: the tree's is its root's.
        budget: BudgetPolicy::default(),
        ..equipment.clone()
    };
    let agents = AgentRegistry::new()
        .with(Equipped::new(parent, equipment))
        .with(Equipped::new(child, child_equipment));
    let _worker = world.worker(&agents);
    let run = world.submit("helper", "Go.").await;
    assert_eq!(world.end(run).await.run.state, RunState::Succeeded);
    assert_eq!(
        world.counts.looked.load(SeqCst),
        50,
        "every call of the budget was made, and none beyond it"
    );
    let balance = world
        .ledger
        .balance(&Account::tree(run))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((balance.spent.tool_calls, balance.spent.runs), (50, 100));
    assert!(balance.reserved.is_zero());
}

#[tokio::test(start_paused = true)]
async fn a_run_has_no_more_time_than_it_is_given() {
    let world = World::new();
    let slow =
        "[{delay_ms: 4000, tool_calls: [{name: look, arguments: {what: a}}]}, {text: Done.}]";
    let mut equipment = world.equipment(slow);
    equipment.budget.wall_seconds = Some(3);
    let (kind, message) = world.failure(&world.assistant(equipment), "Go.").await;
    assert_eq!(kind, "budget_exceeded", "{message}");
    assert_eq!(world.counts.looked.load(SeqCst), 0);
}
