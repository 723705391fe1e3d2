//! A store, workers, a scripted model and counting tools.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use adjutant_budget::{BudgetLedger, MemoryLedger};
use adjutant_core::{
    AgentError, AgentRegistry, Effect, Event, EventType, Json, Outcome, RunId, RunInput, RunResult,
};
use adjutant_events::EventBus;
use adjutant_executor::{AgentRunner, RunnerConfig};
use adjutant_harness::{Assistant, AssistantSpec, Equipment, Equipped};
use adjutant_llm::{Script, ScriptedModel};
use adjutant_queue::{Command, NewRun, RunLookup, RunQueue, RunView};
use adjutant_store::{MemoryConfig, MemoryStore, Store};
use adjutant_testkit::VirtualClock;
use adjutant_tools::{FunctionTool, ToolRegistry};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything in these tests takes, in virtual time.
pub const LONG: Duration = Duration::from_secs(100_000);

pub struct World {
    pub store: Arc<MemoryStore>,
    pub ledger: Arc<MemoryLedger>,
    pub counts: Counts,
    clock: VirtualClock,
}

/// How often each tool was really called, and whether it hangs.
#[derive(Clone, Default)]
pub struct Counts {
    pub looked: Arc<AtomicU32>,
    pub paid: Arc<AtomicU32>,
    /// Calls of `pay` beyond this many are made; those before hang.
    pub hanging: Arc<AtomicU32>,
    pub keys: Arc<Mutex<Vec<String>>>,
}

#[derive(Deserialize, JsonSchema)]
pub struct What {
    what: String,
}

/// A worker in the background.
pub struct Worker {
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl World {
    pub fn new() -> Self {
        let clock = VirtualClock::new();
        let config = MemoryConfig {
            clock: Arc::new(clock),
            ..MemoryConfig::default()
        };
        Self {
            store: Arc::new(MemoryStore::with(config)),
            ledger: Arc::default(),
            counts: Counts::default(),
            clock,
        }
    }

    /// `look` only looks, `pay` must not be done twice, `fetch` can be had again.
    pub fn tools(&self) -> Arc<ToolRegistry> {
        let counts = self.counts.clone();
        let look = FunctionTool::new("look", "Looks at something.", move |what: What| {
            counts.looked.fetch_add(1, SeqCst);
            async move { Ok::<_, AgentError>(format!("saw {}", what.what)) }
        });
        let counts = self.counts.clone();
        let pay = FunctionTool::with_context("pay", "Pays.", move |context, what: What| {
            let counts = counts.clone();
            async move {
                counts
                    .keys
                    .lock()
                    .unwrap()
                    .push(context.idempotency_key.clone());
                let call = counts.paid.fetch_add(1, SeqCst);
                if call < counts.hanging.load(SeqCst) {
                    std::future::pending::<()>().await;
                }
                Ok::<_, AgentError>(format!("paid {}", what.what))
            }
        });
        let tools = ToolRegistry::builder()
            .function(look.effect(Effect::ReadOnly))
            .function(pay);
        Arc::new(tools.build().unwrap())
    }

    pub fn equipment(&self, script: &str) -> Equipment {
        Equipment {
            models: Some(Arc::new(ScriptedModel::new(
                Script::from_yaml(script).unwrap(),
            ))),
            model: "scripted/test".to_owned(),
            tools: Some(self.tools()),
            ledger: Some(Arc::clone(&self.ledger) as Arc<dyn BudgetLedger>),
            ..Equipment::default()
        }
    }

    pub fn assistant(&self, equipment: Equipment) -> AgentRegistry {
        self.assistant_of(AssistantSpec::default(), equipment)
    }

    pub fn assistant_of(&self, spec: AssistantSpec, equipment: Equipment) -> AgentRegistry {
        let assistant = Assistant::new("helper", spec);
        AgentRegistry::new().with(Equipped::new(assistant, equipment))
    }

    pub fn worker(&self, agents: &AgentRegistry) -> Worker {
        let config = RunnerConfig {
            heartbeat_interval: Duration::from_secs(1),
            lease_ttl: Duration::from_secs(5),
            ..RunnerConfig::default()
        };
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        let clock = Arc::new(self.clock);
        let runner = AgentRunner::with_clock(store, agents.clone(), config, clock).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            runner.run_loop(stopped).await.unwrap();
        });
        Worker {
            stop,
            task: Some(task),
        }
    }

    pub async fn submit(&self, agent: &str, text: &str) -> RunId {
        let run = NewRun::new(agent, &RunInput::text(text)).unwrap();
        self.store.submit(vec![run]).await.unwrap()[0].run
    }

    /// The run once it is settled.
    pub async fn end(&self, run: RunId) -> RunView {
        let view = self.store.settled(run, LONG).await.unwrap();
        assert!(view.run.state.is_settled(), "{run} is {}", view.run.state);
        view
    }

    /// Runs a helper to its good end.
    pub async fn result(&self, agents: &AgentRegistry, text: &str) -> RunResult {
        let _worker = self.worker(agents);
        let run = self.submit("helper", text).await;
        match self.end(run).await.outcome {
            Some(Outcome::Succeeded(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    /// Runs a helper to its bad end, and returns the failure's kind and message.
    pub async fn failure(&self, agents: &AgentRegistry, text: &str) -> (String, String) {
        let _worker = self.worker(agents);
        let run = self.submit("helper", text).await;
        match self.end(run).await.outcome {
            Some(Outcome::Failed { error }) => (error.kind, error.message),
            other => panic!("{other:?}"),
        }
    }

    pub async fn events(&self, run: RunId) -> Vec<Event> {
        self.store.read(run, 0, 1000).await.unwrap()
    }

    pub async fn until(&self, run: RunId, event_type: EventType) -> Event {
        let deadline = tokio::time::Instant::now() + LONG;
        while tokio::time::Instant::now() < deadline {
            let events = self.events(run).await;
            if let Some(event) = events
                .into_iter()
                .find(|event| event.event_type == event_type)
            {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{event_type} never came");
    }

    pub async fn signal(&self, run: RunId, name: &str, payload: impl Into<Json>) {
        let command = Command::Signal {
            name: name.to_owned(),
            payload: payload.into(),
        };
        self.store.control(run, command).await.unwrap();
    }

    /// A person's answer to a question.
    pub async fn decide(&self, run: RunId, key: &str, decision: serde_json::Value) {
        self.signal(run, &format!("approval:{key}"), decision).await;
    }
}

impl Worker {
    /// Goes away without a word, as after `kill -9`.
    pub async fn crash(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}
