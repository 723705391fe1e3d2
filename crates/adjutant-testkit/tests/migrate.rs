//! Moving runs from one store to another while workers are busy on both, and dying at any moment on the way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests"
)]

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use adjutant_core::{
    AgentFn, AgentRegistry, Delegate, FailurePolicy, RunId, RunInput, RunResult, RunState,
};
use adjutant_executor::{AgentRunner, RunnerConfig};
use adjutant_queue::{Command, NewRun, RunFilter, RunRecord};
use adjutant_sqlite::{SqliteConfig, Synchronous};
use adjutant_store::{Migrated, Migration, Store};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// How often each step of each run was really done.
type Done = Arc<Mutex<HashMap<(RunId, &'static str), u32>>>;

fn agents(done: &Done) -> AgentRegistry {
    let counted = |done: &Done| {
        let done = Arc::clone(done);
        move |run, step| {
            *done.lock().unwrap().entry((run, step)).or_default() += 1;
            async {
                // Long enough for a pause to come in between.
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(7)
            }
        }
    };
    let (one, two) = (counted(done), counted(done));
    let worker = AgentFn::new("worker", move |ctx| {
        let did = one.clone();
        async move {
            let run = ctx.run_id();
            let first: u32 = ctx.step("one", || did(run, "one")).await?;
            ctx.checkpoint(&first).await?;
            ctx.sleep("nap", Duration::from_millis(20)).await?;
            let second: u32 = ctx.step("two", || did(run, "two")).await?;
            Ok(RunResult::output((first + second).to_string().as_str()))
        }
    });
    let parent = AgentFn::new("parent", |ctx| async move {
        let mut both = Delegate::new("both").policy(FailurePolicy::All);
        for _ in 0..2 {
            both = both.child("worker", RunInput::text("x"));
        }
        let children = ctx.delegate(both).await?;
        Ok(RunResult::output(children.len().to_string().as_str()))
    });
    let waiter = AgentFn::new("waiter", move |ctx| {
        let did = two.clone();
        async move {
            let run = ctx.run_id();
            let _n: u32 = ctx.step("one", || did(run, "one")).await?;
            ctx.wait_for_signal("go", None).await?;
            Ok(RunResult::output("gone"))
        }
    });
    AgentRegistry::new().with(worker).with(parent).with(waiter)
}

/// A store with a worker on it.
struct Site {
    store: Arc<dyn Store>,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<()>,
}

impl Site {
    async fn new(dir: &TempDir, name: &str, done: &Done) -> Self {
        let config = SqliteConfig {
            synchronous: Synchronous::Off,
            ..SqliteConfig::at(dir.path().join(name))
        };
        let store: Arc<dyn Store> = Arc::new(adjutant_sqlite::open(config).await.unwrap());
        let config = RunnerConfig {
            heartbeat_interval: Duration::from_millis(20),
            ..RunnerConfig::default()
        };
        let runner = AgentRunner::new(Arc::clone(&store), agents(done), config).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let worker = tokio::spawn(async move {
            runner.run_loop(stopped).await.unwrap();
        });
        Self {
            store,
            stop,
            worker,
        }
    }

    async fn submit(&self, agent: &str, delay: Option<Duration>) -> RunId {
        let mut run = NewRun::new(agent, &RunInput::text("x")).unwrap();
        run.not_before =
            delay.map(|delay| adjutant_core::Clock::now(&adjutant_core::SystemClock) + delay);
        self.store.submit(vec![run]).await.unwrap()[0].run
    }

    async fn control(&self, run: RunId, command: Command) {
        self.store.control(run, command).await.unwrap();
    }

    async fn runs(&self) -> Vec<RunRecord> {
        let limit = 1000;
        let filter = RunFilter {
            limit,
            ..RunFilter::default()
        };
        self.store.list(filter).await.unwrap()
    }

    async fn until(&self, run: RunId, is: impl Fn(RunState) -> bool) {
        let mut seq = 0;
        loop {
            let record = self.store.get(run).await.unwrap().expect("it is there").run;
            if is(record.state) {
                return;
            }
            self.store
                .changed(run, seq.max(record.last_seq), Duration::from_secs(1))
                .await
                .unwrap();
            seq = record.last_seq;
        }
    }

    async fn close(self) {
        self.stop.cancel();
        self.worker.await.unwrap();
        self.store.close().await;
    }
}

/// Drops the migration after it has been polled so often; `None` if it was dropped.
async fn for_a_while(migration: &Migration, mut polls: u32) -> Option<Migrated> {
    let mut run = pin!(migration.run(&|_| {}));
    poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        run.as_mut().poll(cx).map(|ended| Some(ended.unwrap()))
    })
    .await
}

/// Moves a lively store, dying after so many polls, and goes on with another migration. Says whether it died.
async fn dying_after(polls: u32) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let done = Done::default();
    let from = Site::new(&dir, "from.db", &done).await;
    let to = Site::new(&dir, "to.db", &done).await;
    let finished = from.submit("worker", None).await;
    from.until(finished, RunState::is_terminal).await;
    let waiter = from.submit("waiter", None).await;
    from.until(waiter, |state| state == RunState::Waiting).await;
    let held = from.submit("worker", Some(Duration::from_secs(3600))).await;
    from.control(held, Command::Pause).await;
    let delayed = from
        .submit("worker", Some(Duration::from_millis(300)))
        .await;
    let parent = from.submit("parent", None).await;
    let plain = from.submit("worker", None).await;

    let migration = Migration {
        from: Arc::clone(&from.store),
        to: Arc::clone(&to.store),
        finished: true,
        patience: Duration::from_secs(30),
    };
    let died = for_a_while(&migration, polls).await.is_none();
    let late = from.submit("worker", None).await;
    let migrated = migration.run(&|_| {}).await.unwrap();
    assert_eq!(migrated.left, []);

    to.until(held, |state| state == RunState::Paused).await;
    to.control(held, Command::Resume).await;
    let resumed = to.store.get(held).await.unwrap().unwrap().run;
    assert!(resumed.not_before.is_some(), "its delay goes on");
    to.control(
        held,
        Command::Cancel {
            reason: "enough".to_owned(),
        },
    )
    .await;
    let signal = Command::Signal {
        name: "go".to_owned(),
        payload: adjutant_core::Json::null(),
    };
    to.control(waiter, signal).await;
    for run in [finished, waiter, delayed, parent, plain, late] {
        to.until(run, RunState::is_terminal).await;
        let view = to.store.get(run).await.unwrap().unwrap();
        assert_eq!(view.run.state, RunState::Succeeded, "{view:?}");
        let events = to.store.read(run, 0, 1000).await.unwrap();
        let numbers = events.iter().map(|event| event.seq);
        assert!(numbers.eq(1..=view.run.last_seq));
    }
    for run in from.runs().await {
        assert!(run.state.is_terminal(), "{run:?}");
        assert!(to.store.get(run.id).await.unwrap().is_some());
        let goes_on = run.state == RunState::Cancelled;
        assert!(!goes_on || run.reason.unwrap().starts_with("moved to "));
    }
    assert_eq!(
        to.store
            .list(RunFilter {
                parent: Some(parent),
                ..RunFilter::default()
            })
            .await
            .unwrap()
            .len(),
        2
    );
    for ((run, step), times) in done.lock().unwrap().iter() {
        assert_eq!(*times, 1, "step {step} of {run}");
    }
    for site in [from, to] {
        assert!(site.store.check().await.unwrap().is_sound());
        site.close().await;
    }
    died
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_may_die_anywhere_and_nothing_is_lost_or_done_twice() {
    let mut polls = 1;
    while dying_after(polls).await {
        // Close together at the beginning, where most happens for each poll.
        polls += 1 + polls / 12;
    }
    eprintln!("died after up to {polls} polls");
    assert!(polls > 40, "it hardly ever died");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_move_is_named_and_goes_on_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let done = Done::default();
    let from = Site::new(&dir, "from.db", &done).await;
    let to = Site::new(&dir, "to.db", &done).await;
    let waiter = from.submit("waiter", None).await;
    from.until(waiter, |state| state == RunState::Waiting).await;
    let migration = |from: &Site, to: &Site| Migration {
        from: Arc::clone(&from.store),
        to: Arc::clone(&to.store),
        finished: false,
        patience: Duration::from_secs(30),
    };
    let there = migration(&from, &to).run(&|_| {}).await.unwrap();
    assert_eq!((there.moved, there.copied, there.left), (1, 0, vec![]));
    to.until(waiter, |state| state == RunState::Waiting).await;

    let back = migration(&to, &from).run(&|_| {}).await.unwrap();
    assert_eq!(back.moved, 0);
    let (left, why) = &back.left[0];
    assert_eq!(*left, waiter);
    assert!(why.contains("has ended here"), "{why}");
    to.until(waiter, |state| state == RunState::Waiting).await;
    for site in [from, to] {
        site.close().await;
    }
}
