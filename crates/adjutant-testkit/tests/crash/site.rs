//! One store, its workers, and whoever submits.

use std::{
    collections::HashSet,
    fs::File,
    future::Future,
    path::{Path, PathBuf},
    process::{Child, Command as Process, Stdio},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use adjutant_core::{Error, Result, RetryAdvice, RetryPolicy, RunId, RunInput, RunState};
use adjutant_queue::{Command, NewRun, RunFilter, RunLookup, RunQueue, RunView, WakeOn};
use adjutant_sqlite::EngineStore;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    agents::SIGNAL,
    worker::{self, Orders, VARIABLE},
};

/// How long anything may take before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Site {
    dir: TempDir,
    pub store: EngineStore,
    /// Where workers find the store.
    place: String,
    /// The store itself fails too: calls are made until they succeed, and may have happened more than once.
    pub is_stormy: bool,
    spawned: AtomicU64,
}

/// A worker process; killed when dropped.
pub struct Worker {
    child: Child,
    log: PathBuf,
}

impl Site {
    /// On a SQLite file.
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("runs.db").display().to_string();
        Self::at(dir, worker::open(&place).await.unwrap(), place)
    }

    /// On this store, which workers find at `place`.
    pub fn at(dir: TempDir, store: EngineStore, place: String) -> Self {
        Self {
            dir,
            store,
            place,
            is_stormy: false,
            spawned: AtomicU64::new(0),
        }
    }

    /// Makes a call until it succeeds, if calls may fail here; they have to say that another try makes sense.
    pub async fn insist<T, F: Future<Output = Result<T>>>(&self, mut call: impl FnMut() -> F) -> T {
        let began = Instant::now();
        loop {
            let error = match call().await {
                Ok(answer) => return answer,
                Err(error) => error,
            };
            let hopeful = self.is_stormy && error.retry() != RetryAdvice::Never;
            assert!(hopeful && began.elapsed() < PATIENCE, "{error:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn lines(&self) -> PathBuf {
        self.file("lines")
    }

    /// What a worker that nobody kills is told.
    pub fn orders(&self, concurrency: usize) -> Orders {
        Orders {
            store: self.place.clone(),
            lines: self.lines(),
            concurrency,
            kill_before: None,
            kill_after: None,
        }
    }

    pub fn spawn(&self, orders: &Orders) -> Worker {
        let number = self.spawned.fetch_add(1, SeqCst);
        let log = self.file(&format!("worker-{number}.log"));
        let child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker_process", "--nocapture"])
            .env(VARIABLE, serde_json::to_string(orders).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Worker { child, log }
    }

    pub fn run(agent: &str, input: &RunInput) -> NewRun {
        NewRun {
            max_deaths: 1_000_000,
            retry: RetryPolicy {
                backoff_base: 0.01,
                ..RetryPolicy::default()
            },
            ..NewRun::new(agent, input).unwrap()
        }
    }

    pub async fn submit(&self, agent: &str, input: &RunInput) -> RunId {
        let run = Self::run(agent, input);
        self.store.submit(vec![run]).await.unwrap()[0].run
    }

    pub async fn view(&self, run: RunId) -> RunView {
        let view = self.store.get(run).await.unwrap();
        view.unwrap_or_else(|| panic!("{run} is lost"))
    }
}

fn signal() -> Command {
    Command::Signal {
        name: SIGNAL.to_owned(),
        payload: json!("now").into(),
    }
}

/// Acts on runs as their owner would: answers those that wait for a signal, puts parked ones back.
#[derive(Default)]
pub struct Owner {
    pub open: Vec<RunId>,
    told: HashSet<RunId>,
    pub redriven: u64,
}

impl Owner {
    /// Looks after the runs that have not ended once, and takes note of those that have.
    pub async fn look_after(&mut self, site: &Site) {
        let unended = RunFilter {
            states: RunState::ALL
                .into_iter()
                .filter(|state| !state.is_terminal())
                .collect(),
            limit: 1000,
            ..RunFilter::default()
        };
        let unended = site.insist(|| site.store.list(unended.clone())).await;
        let ids: HashSet<_> = unended.iter().map(|run| run.id).collect();
        self.open.retain(|run| ids.contains(run));
        let mut asking = Vec::new();
        for run in unended {
            let mut waits = run.wait.iter().flat_map(|wait| &wait.wake_on);
            if waits.any(|on| matches!(on, WakeOn::Signal(name) if name == SIGNAL)) {
                asking.push(run.id);
            }
            // Children have the default number of deaths.
            if run.state == RunState::Parked {
                let redrive = || site.store.control(run.id, Command::Redrive);
                let redriven = site
                    .insist(async || match redrive().await {
                        // A call whose answer was lost has done it.
                        Err(Error::Illegal { .. }) if site.is_stormy => Ok(None),
                        other => other.map(Some),
                    })
                    .await;
                self.redriven += u64::from(redriven.is_some());
            }
        }
        self.tell(site, asking).await;
    }

    /// Gives each of these runs its signal, once; also before it asks.
    pub async fn tell(&mut self, site: &Site, runs: Vec<RunId>) {
        let untold: Vec<_> = runs
            .into_iter()
            .filter(|run| self.told.insert(*run))
            .collect();
        let told = untold
            .into_iter()
            .map(|run| site.insist(move || site.store.control(run, signal())));
        futures::future::join_all(told).await;
    }

    pub async fn until_all_ended(&mut self, site: &Site) {
        let began = Instant::now();
        loop {
            self.look_after(site).await;
            if self.open.is_empty() {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "runs that do not end: {:?}",
                self.open
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Worker {
    pub fn has_died(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// `SIGKILL`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn log_file(&self) -> &Path {
        &self.log
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log_file().display(), self.log());
        }
    }
}

/// Waits for a condition.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    assert!(within(PATIENCE, &mut holds).await, "never happened: {what}");
}

/// Waits for a condition up to a time and says whether it came true.
pub async fn within<F: Future<Output = bool>>(
    patience: Duration,
    mut holds: impl FnMut() -> F,
) -> bool {
    let began = Instant::now();
    while !holds().await {
        if began.elapsed() >= patience {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}
