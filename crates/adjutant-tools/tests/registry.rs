//! The registry with functions and a source of the test's own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use adjutant_core::{AgentError, Effect, Json, RunId, ToolAnswer, ToolSpec};
use adjutant_tools::{
    ArtifactSink, Caller, FunctionTool, Functions, InputResume, Invocation, Kept, Reply, Result,
    ToolError, ToolFilter, ToolRegistry, ToolSet, ToolSettings, ToolSource, in_order,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

#[derive(Deserialize, JsonSchema)]
struct Add {
    /// The first number.
    a: i64,
    b: i64,
}

fn add() -> FunctionTool {
    FunctionTool::new("add", "Adds", |add: Add| async move { Ok(add.a + add.b) })
        .effect(Effect::ReadOnly)
}

fn caller() -> Caller {
    Caller::new("agent", RunId::new())
}

async fn open(registry: &ToolRegistry) -> ToolSet {
    registry.open(caller(), &ToolFilter::all()).await.unwrap()
}

async fn with(tool: FunctionTool) -> ToolSet {
    open(&ToolRegistry::builder().function(tool).build().unwrap()).await
}

async fn call(tools: &ToolSet, name: &str, arguments: Value) -> Result<Reply> {
    let arguments = Json::from(arguments);
    tools.call(Invocation::new(name, &arguments, "key")).await
}

fn answer(reply: Result<Reply>) -> ToolAnswer {
    match reply.unwrap() {
        Reply::Answer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// A source that answers with the call's name, or as it is told.
struct Told {
    name: &'static str,
    tools: Vec<ToolSpec>,
    reply: Box<dyn Fn() -> Result<Reply> + Send + Sync>,
}

impl Told {
    fn new(name: &'static str, tools: &[&str]) -> Self {
        let spec = |name: &&str| ToolSpec::new(*name, "", json!({ "type": "object" }));
        Self {
            name,
            tools: tools.iter().map(spec).collect(),
            reply: Box::new(|| Ok(Reply::Answer(ToolAnswer::text("told")))),
        }
    }
}

#[async_trait]
impl ToolSource for Told {
    fn name(&self) -> &str {
        self.name
    }

    async fn list(&self, _caller: &Caller) -> Result<Vec<ToolSpec>> {
        if self.tools.is_empty() {
            return Err(ToolError::failed(self.name, "down"));
        }
        Ok(self.tools.clone())
    }

    async fn call(&self, _caller: &Caller, _call: Invocation<'_>) -> Result<Reply> {
        (self.reply)()
    }
}

fn told(told: Told) -> ToolRegistry {
    ToolRegistry::builder()
        .source(Arc::new(told))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_functions_schema_comes_from_its_arguments() {
    let tools = with(add()).await;
    let spec = tools.find("add").unwrap();
    let schema: Value = spec.input_schema.to().unwrap();
    assert_eq!(
        schema["properties"]["a"]["description"],
        "The first number."
    );
    assert_eq!(schema["required"], json!(["a", "b"]));
    assert_eq!(spec.effect, Effect::ReadOnly);
    let sum = answer(call(&tools, "add", json!({ "a": 2, "b": 3 })).await);
    assert_eq!(sum.joined_text(), "5");
}

#[tokio::test]
async fn arguments_that_the_schema_does_not_allow_never_reach_the_tool() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let tools = with(FunctionTool::new("f", "", move |_: Add| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    }))
    .await;
    let error = call(&tools, "f", json!({ "a": "x", "b": 1 }))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ToolError::InvalidArguments { field, .. } if field == "/a"),
        "{error}"
    );
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    call(&tools, "f", json!({ "a": 1, "b": 1 })).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_functions_error_and_panic_are_answers_that_a_model_reads() {
    let failing = FunctionTool::new("fail", "", |_: Value| async {
        Err::<(), _>(AgentError::permanent(
            "no_such_city",
            "there is no Atlantis",
        ))
    });
    let failed = answer(call(&with(failing).await, "fail", json!({})).await);
    assert!(failed.is_error && failed.joined_text().contains("there is no Atlantis"));

    let panicking = FunctionTool::new("panic", "", |_: Value| async {
        if true {
            panic!("on purpose");
        }
        Ok(())
    });
    assert!(answer(call(&with(panicking).await, "panic", json!({})).await).is_error);
}

#[tokio::test]
async fn a_blocking_function_holds_no_other_up() {
    let (let_go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let slow = FunctionTool::blocking("slow", "", move |_: Value| {
        wait.lock().unwrap().recv().map_err(AgentError::from)
    });
    let registry = ToolRegistry::builder().function(slow).function(add());
    let tools = open(&registry.build().unwrap()).await;
    let other = async {
        let sum = answer(call(&tools, "add", json!({ "a": 1, "b": 1 })).await);
        let_go.send(()).unwrap();
        sum
    };
    let (slow, sum) = tokio::join!(call(&tools, "slow", json!({})), other);
    assert!(!answer(slow).is_error);
    assert_eq!(sum.joined_text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_does_not_answer_is_given_up_and_may_have_acted() {
    let hung = FunctionTool::new("hung", "", |_: Value| {
        std::future::pending::<Result<(), AgentError>>()
    })
    .timeout(Duration::from_secs(3));
    let error = call(&with(hung).await, "hung", json!({}))
        .await
        .unwrap_err();
    assert!(error.sent_unanswered());
    assert!(matches!(error, ToolError::Timeout { after, .. } if after == Duration::from_secs(3)));
}

#[tokio::test]
async fn two_tools_of_one_name_are_refused() {
    let twice = Functions::new("functions", [add(), add()]);
    assert!(twice.is_err());
    let registry = ToolRegistry::builder()
        .source(Arc::new(Told::new("left", &["x__a", "x__b"])))
        .source(Arc::new(Told::new("right", &["x__a"])))
        .build()
        .unwrap();
    let error = registry
        .open(caller(), &ToolFilter::all())
        .await
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(
        ["left", "right", "x__a"]
            .iter()
            .all(|word| text.contains(word)),
        "{text}"
    );
    let apart = ToolFilter::all().but(["x__a"]);
    assert_eq!(
        registry.open(caller(), &apart).await.unwrap().specs().len(),
        1
    );
}

#[tokio::test]
async fn a_tool_that_the_filter_hides_cannot_be_called() {
    let registry = told(Told::new("git", &["git__log", "git__push"]));
    let filter = ToolFilter::only(["git__*"]).but(["git__push"]);
    let tools = registry.open(caller(), &filter).await.unwrap();
    assert_eq!(tools.specs().len(), 1);
    let error = call(&tools, "git__push", json!({})).await.unwrap_err();
    assert!(matches!(error, ToolError::NotFound { .. }));
    call(&tools, "git__log", json!({})).await.unwrap();
}

#[tokio::test]
async fn a_source_that_cannot_be_asked_is_left_out_and_named() {
    let registry = ToolRegistry::builder()
        .source(Arc::new(Told::new("broken", &[])))
        .function(add())
        .build()
        .unwrap();
    let tools = open(&registry).await;
    assert_eq!(tools.specs().len(), 1);
    assert_eq!(tools.problems()[0].0, "broken");
}

#[tokio::test]
async fn an_unavailable_tool_stays_listed_and_says_why() {
    let mut source = Told::new("s", &["s__a"]);
    source.tools[0].unavailable = Some("starting".to_owned());
    let tools = open(&told(source)).await;
    let error = call(&tools, "s__a", json!({})).await.unwrap_err();
    assert!(!error.sent_unanswered() && error.to_string().contains("starting"));
}

#[tokio::test(start_paused = true)]
async fn a_rate_holds_for_all_callers_of_a_tool_together() {
    let settings = ToolSettings {
        rate: Some("2/s".parse().unwrap()),
        ..ToolSettings::default()
    };
    let registry = ToolRegistry::builder()
        .source(Arc::new(Told::new("s", &["s__a", "s__b"])))
        .settings("s__*", settings)
        .build()
        .unwrap();
    let (one, two) = (open(&registry).await, open(&registry).await);
    call(&one, "s__a", json!({})).await.unwrap();
    call(&two, "s__a", json!({})).await.unwrap();
    let Err(ToolError::Busy { retry_after, .. }) = call(&one, "s__a", json!({})).await else {
        panic!("a third call was let in");
    };
    call(&one, "s__b", json!({})).await.unwrap();
    tokio::time::advance(retry_after).await;
    call(&two, "s__a", json!({})).await.unwrap();
}

#[tokio::test]
async fn settings_of_the_first_pattern_that_has_them_hold() {
    let effect = |effect| ToolSettings {
        effect: Some(effect),
        ..ToolSettings::default()
    };
    let registry = ToolRegistry::builder()
        .source(Arc::new(Told::new("s", &["s__a", "s__b"])))
        .settings("s__a", effect(Effect::Keyed))
        .settings("s__*", effect(Effect::ReadOnly))
        .build()
        .unwrap();
    let tools = open(&registry).await;
    assert_eq!(tools.effect("s__a"), Effect::Keyed);
    assert_eq!(tools.effect("s__b"), Effect::ReadOnly);
    assert_eq!(tools.effect("unknown"), Effect::Unsafe);
}

#[tokio::test]
async fn a_question_of_the_tool_comes_back_and_its_answer_is_no_second_call() {
    let mut source = Told::new("s", &["s__a"]);
    let requests = json!({ "ok": { "method": "elicitation/create" } });
    let reply = Reply::InputRequired {
        requests: requests.as_object().unwrap().clone(),
        state: Some(json!("opaque")),
    };
    let asked = reply.clone();
    source.reply = Box::new(move || Ok(asked.clone()));
    let settings = ToolSettings {
        rate: Some("1/h".parse().unwrap()),
        ..ToolSettings::default()
    };
    let registry = ToolRegistry::builder()
        .source(Arc::new(source))
        .settings("*", settings)
        .build()
        .unwrap();
    let tools = open(&registry).await;
    assert_eq!(call(&tools, "s__a", json!({})).await.unwrap(), reply);
    let (arguments, resume) = (json!({}).into(), InputResume::default());
    let again = Invocation {
        resume: Some(&resume),
        ..Invocation::new("s__a", &arguments, "key")
    };
    tools.call(again).await.unwrap();
}

struct Shelf(Mutex<Vec<Kept>>);

#[async_trait]
impl ArtifactSink for Shelf {
    async fn keep(&self, _caller: &Caller, kept: Kept) -> Result<String, String> {
        self.0.lock().unwrap().push(kept);
        Ok("artifact://1".to_owned())
    }
}

#[tokio::test]
async fn a_large_answer_is_cut_for_the_model_and_kept_whole() {
    let shelf = Arc::new(Shelf(Mutex::default()));
    let wordy = FunctionTool::new("wordy", "", |_: Value| async { Ok("word ".repeat(1000)) });
    let settings = ToolSettings {
        max_output: Some(100),
        ..ToolSettings::default()
    };
    let registry = ToolRegistry::builder()
        .function(wordy)
        .settings("wordy", settings)
        .artifacts(shelf.clone())
        .build()
        .unwrap();
    let text = answer(call(&open(&registry).await, "wordy", json!({})).await).joined_text();
    assert!(text.len() < 300 && text.contains("artifact://1"), "{text}");
    assert_eq!(shelf.0.lock().unwrap()[0].bytes.len(), 5000);
}

#[tokio::test]
async fn results_come_in_the_order_of_the_calls_and_no_more_run_at_once_than_allowed() {
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let gate = Semaphore::new(0);
    let work = |n: usize| {
        let (running, most, gate) = (&running, &most, &gate);
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // The first ones end last.
            if n < 2 {
                let _pass = gate.acquire().await.unwrap();
            }
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            n
        }
    };
    let results = in_order((0..6).map(work), 3);
    let opener = async {
        while running.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
    };
    let (results, ()) = tokio::join!(results, opener);
    assert_eq!(results, [0, 1, 2, 3, 4, 5]);
    assert!(most.load(Ordering::SeqCst) <= 3 && most.load(Ordering::SeqCst) >= 2);

    let tools = with(add()).await;
    let arguments: Vec<Json> = (0..5).map(|n| json!({ "a": n, "b": 0 }).into()).collect();
    let calls: Vec<_> = arguments
        .iter()
        .map(|arguments| Invocation::new("add", arguments, ""))
        .collect();
    let sums: Vec<_> = tools
        .call_all(&calls, 2)
        .await
        .into_iter()
        .map(|reply| answer(reply).joined_text())
        .collect();
    assert_eq!(sums, ["0", "1", "2", "3", "4"]);
}
