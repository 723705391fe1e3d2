//! A store, workers and clients that share one virtual clock.

use std::{sync::Arc, time::Duration};

use adjutant_core::{AgentRegistry, Event, EventType, Json, Outcome, RunId, RunInput};
use adjutant_events::EventBus;
use adjutant_executor::{AgentRunner, Drained, RunnerConfig};
use adjutant_queue::{NewRun, RunLookup, RunQueue, RunView};
use adjutant_store::{MemoryConfig, MemoryStore, Store};
use adjutant_testkit::VirtualClock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything in these tests takes, in virtual time.
pub const LONG: Duration = Duration::from_secs(100_000);

pub struct World {
    pub store: Arc<MemoryStore>,
    clock: VirtualClock,
}

/// A worker in the background.
pub struct Worker {
    pub runner: AgentRunner,
    stop: CancellationToken,
    task: Option<JoinHandle<Drained>>,
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
            clock,
        }
    }

    pub fn config() -> RunnerConfig {
        RunnerConfig {
            heartbeat_interval: Duration::from_secs(1),
            lease_ttl: Duration::from_secs(5),
            ..RunnerConfig::default()
        }
    }

    pub fn runner(&self, agents: &AgentRegistry, config: RunnerConfig) -> AgentRunner {
        self.runner_over(Arc::clone(&self.store) as Arc<dyn Store>, agents, config)
    }

    fn runner_over(
        &self,
        store: Arc<dyn Store>,
        agents: &AgentRegistry,
        config: RunnerConfig,
    ) -> AgentRunner {
        AgentRunner::with_clock(store, agents.clone(), config, Arc::new(self.clock)).unwrap()
    }

    pub fn worker(&self, agents: &AgentRegistry) -> Worker {
        self.worker_with(agents, Self::config())
    }

    pub fn worker_with(&self, agents: &AgentRegistry, config: RunnerConfig) -> Worker {
        Worker::start(self.runner(agents, config))
    }

    /// A worker that sees the world's store through another one.
    pub fn worker_over(&self, store: impl Store + 'static, agents: &AgentRegistry) -> Worker {
        Worker::start(self.runner_over(Arc::new(store), agents, Self::config()))
    }

    pub async fn submit(&self, agent: &str) -> RunId {
        self.submit_run(NewRun::new(agent, &RunInput::default()).unwrap())
            .await
    }

    pub async fn submit_run(&self, run: NewRun) -> RunId {
        self.store.submit(vec![run]).await.unwrap()[0].run
    }

    /// The run once it is settled.
    pub async fn end(&self, run: RunId) -> RunView {
        let view = self.store.settled(run, LONG).await.unwrap();
        assert!(view.run.state.is_settled(), "{run} is {}", view.run.state);
        view
    }

    pub async fn output(&self, run: RunId) -> Json {
        match self.end(run).await.outcome {
            Some(Outcome::Succeeded(result)) => result.final_output,
            other => panic!("{run} ended with {other:?}"),
        }
    }

    /// The kind of the failure that the run ended with.
    pub async fn failure(&self, run: RunId) -> String {
        match self.end(run).await.outcome {
            Some(Outcome::Failed { error }) => error.kind,
            other => panic!("{run} ended with {other:?}"),
        }
    }

    pub async fn events(&self, run: RunId) -> Vec<Event> {
        let events = self.store.read(run, 0, 10_000).await.unwrap();
        let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(
            numbers,
            (1..=numbers.len() as u64).collect::<Vec<_>>(),
            "numbers without gap"
        );
        events
    }

    pub async fn count(&self, run: RunId, kind: &EventType) -> usize {
        self.events(run)
            .await
            .iter()
            .filter(|event| event.event_type == *kind)
            .count()
    }

    /// Returns once the run has an event of this kind.
    pub async fn until(&self, run: RunId, kind: EventType) {
        let mut after = 0;
        loop {
            let events = self.store.read(run, after, 100).await.unwrap();
            if events.iter().any(|event| event.event_type == kind) {
                return;
            }
            after = events.last().map_or(after, |event| event.seq);
            self.store.changed(run, after, LONG).await.unwrap();
        }
    }
}

impl Worker {
    fn start(runner: AgentRunner) -> Self {
        let stop = CancellationToken::new();
        let (looping, stopping) = (runner.clone(), stop.clone());
        let task = tokio::spawn(async move { looping.run_loop(stopping).await.unwrap() });
        Self {
            runner,
            stop,
            task: Some(task),
        }
    }

    /// Stops as if the process had died: nothing is given back.
    pub async fn crash(mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }

    pub async fn drain(mut self) -> Drained {
        self.stop.cancel();
        self.task.take().unwrap().await.unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
