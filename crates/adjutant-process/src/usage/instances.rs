//! All live instances of this program.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use adjutant_core::Timestamp;
use adjutant_logs::{InstanceLog, LogBook};

use super::{
    figures::{InstanceState, InstanceView, Sample},
    history::History,
    observed::About,
    rate::Rate,
};
use crate::{
    error::{Error, Result},
    port::Probe,
    procfs::{self, Snapshot},
};

/// Time between two looks at all instances.
const INTERVAL: Duration = Duration::from_secs(5);

/// With so many instances that a look takes long, there are fewer looks: no more than this part of a core goes there.
const COST: u32 = 200;

/// All live instances of this program, and the book for their logs. Cheap to clone.
#[derive(Clone)]
pub struct Instances {
    shared: Arc<Shared>,
}

struct Shared {
    logs: Option<LogBook>,
    live: Mutex<BTreeMap<u64, Arc<Instance>>>,
    next: AtomicU64,
    #[cfg(feature = "gpu")]
    gpu: Option<super::gpu::Gpu>,
}

/// One live instance.
pub(super) struct Instance {
    about: About,
    pid: u32,
    probe: Option<Arc<dyn Probe>>,
    began: Instant,
    started_at: Timestamp,
    book: Option<LogBook>,
    known: Mutex<Known>,
    history: Mutex<History>,
    stopping: AtomicBool,
    /// Whether it can be used, for those that work on no runs.
    ready: AtomicBool,
}

/// What was told of it.
struct Known {
    name: String,
    /// Made when the first line comes: many instances never say anything.
    log: Option<InstanceLog>,
    runs: Vec<String>,
    requests: Rate,
    tokens: Rate,
}

impl Instances {
    /// None yet. With a book, their logs go there.
    ///
    /// # Errors
    /// When the operating system has no thread to give.
    pub fn new(logs: Option<LogBook>) -> Result<Self> {
        let shared = Arc::new(Shared {
            logs,
            live: Mutex::default(),
            next: AtomicU64::new(0),
            #[cfg(feature = "gpu")]
            gpu: super::gpu::Gpu::find(),
        });
        let weak = Arc::downgrade(&shared);
        thread::Builder::new()
            .name("adjutant-usage".to_owned())
            .spawn(move || watch(&weak))
            .map_err(|source| Error::Spawner { source })?;
        Ok(Self { shared })
    }

    /// Enters an instance; returns the key to remove it by.
    pub(super) fn enter(
        &self,
        about: About,
        name: Option<String>,
        pid: u32,
        probe: Option<Arc<dyn Probe>>,
    ) -> (u64, Arc<Instance>) {
        let mut live = lock(&self.shared.live);
        let name = name.unwrap_or_else(|| free_name(&about.agent, &live));
        let now = Instant::now();
        let instance = Arc::new(Instance {
            about,
            pid,
            probe,
            began: now,
            started_at: timestamp(),
            book: self.shared.logs.clone(),
            known: Mutex::new(Known {
                name,
                log: None,
                runs: Vec::new(),
                requests: Rate::new(now),
                tokens: Rate::new(now),
            }),
            history: Mutex::new(History::new(now)),
            stopping: AtomicBool::new(false),
            ready: AtomicBool::new(false),
        });
        let key = self.shared.next.fetch_add(1, Ordering::Relaxed);
        live.insert(key, Arc::clone(&instance));
        (key, instance)
    }

    pub(super) fn remove(&self, key: u64) {
        lock(&self.shared.live).remove(&key);
    }

    /// All live instances as they are now, by name. With `history`, also what they used before.
    #[must_use]
    pub fn list(&self, history: bool) -> Vec<InstanceView> {
        self.shared.look(true);
        let live: Vec<Arc<Instance>> = lock(&self.shared.live).values().cloned().collect();
        let mut views: Vec<InstanceView> =
            live.iter().map(|instance| instance.view(history)).collect();
        views.sort_by(|a, b| a.instance.cmp(&b.instance));
        views
    }
}

/// Looks at all instances from time to time, until nobody has them any more.
fn watch(shared: &Weak<Shared>) {
    let mut pause = INTERVAL;
    loop {
        thread::sleep(pause);
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let start = Instant::now();
        shared.look(false);
        pause = INTERVAL.max(start.elapsed() * COST);
    }
}

impl Shared {
    /// Takes a sample of each instance. Somebody who asks gets no sample anew of what was just looked at.
    fn look(&self, asked: bool) {
        let live: Vec<Arc<Instance>> = lock(&self.live).values().cloned().collect();
        // Read at most once, however many instances have to be looked for in it.
        let all = Snapshot::default();
        for instance in live {
            let now = Instant::now();
            let mut history = lock(&instance.history);
            if asked && !history.is_due(now) {
                continue;
            }
            let members = instance.members(&all);
            let told = Sample {
                gpu_memory_bytes: self.gpu_memory(&members),
                ..instance.told(now)
            };
            let cpu = instance.probe.as_ref().and_then(|probe| probe.cpu());
            history.take(&members, cpu, told, now);
        }
    }

    #[cfg(feature = "gpu")]
    fn gpu_memory(&self, members: &[i32]) -> Option<u64> {
        self.gpu.as_ref()?.memory_of(members)
    }

    #[cfg(not(feature = "gpu"))]
    #[expect(clippy::unused_self, reason = "the same call with the feature")]
    const fn gpu_memory(&self, _members: &[i32]) -> Option<u64> {
        None
    }
}

impl Instance {
    fn members(&self, all: &Snapshot) -> Vec<i32> {
        if let Some(probe) = &self.probe {
            return probe.members(all);
        }
        let pid = self.pid.cast_signed();
        let below = procfs::descendants(pid, all.all());
        let first = std::iter::once(pid);
        first.chain(below.iter().map(|stat| stat.pid)).collect()
    }

    fn told(&self, now: Instant) -> Sample {
        let mut known = lock(&self.known);
        Sample {
            at: timestamp(),
            concurrent_requests: known.runs.len() as u64,
            requests_per_minute: known.requests.per_minute(now),
            tokens_per_minute: known.tokens.per_minute(now),
            ..Sample::default()
        }
    }

    fn view(&self, history: bool) -> InstanceView {
        let samples = lock(&self.history);
        let known = lock(&self.known);
        let mut usage = samples.usage();
        usage.requests = known.requests.total();
        usage.tokens = known.tokens.total();
        usage.now.concurrent_requests = known.runs.len() as u64;
        InstanceView {
            instance: known.name.clone(),
            agent: self.about.agent.clone(),
            runs: known.runs.clone(),
            pid: self.pid,
            state: self.state(&known),
            isolation: self.about.isolation.clone(),
            started_at: self.started_at,
            uptime_seconds: (self.began.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            usage,
            history: if history {
                samples.samples()
            } else {
                Vec::new()
            },
        }
    }

    fn state(&self, known: &Known) -> InstanceState {
        match known.runs.len() {
            _ if self.stopping.load(Ordering::Relaxed) => InstanceState::Stopping,
            0 if known.requests.total() == 0 && !self.ready.load(Ordering::Relaxed) => {
                InstanceState::Starting
            }
            0 => InstanceState::Idle,
            _ => InstanceState::Busy,
        }
    }

    pub(super) fn ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    pub(super) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn begin(&self, run: &str) {
        let mut known = lock(&self.known);
        known.runs.push(run.to_owned());
        known.requests.add(1, Instant::now());
    }

    pub(super) fn end(&self, run: &str) {
        let mut known = lock(&self.known);
        if let Some(at) = known.runs.iter().position(|other| other == run) {
            known.runs.remove(at);
        }
    }

    pub(super) fn spend(&self, tokens: u64) {
        lock(&self.known).tokens.add(tokens, Instant::now());
    }

    /// Hands on the log, and the run that the instance works on if it works on one only.
    pub(super) fn log(&self, say: impl FnOnce(&InstanceLog, Option<&str>)) {
        let Some(book) = &self.book else { return };
        let mut known = lock(&self.known);
        let Known {
            log, name, runs, ..
        } = &mut *known;
        let log = log.get_or_insert_with(|| book.instance(name));
        let run = match runs.as_slice() {
            [only] => Some(only.as_str()),
            _ => None,
        };
        say(log, run);
    }
}

/// The first name of the agent that nobody has.
fn free_name(agent: &str, live: &BTreeMap<u64, Arc<Instance>>) -> String {
    let taken: Vec<String> = live
        .values()
        .map(|instance| lock(&instance.known).name.clone())
        .collect();
    let mut names = (1_u32..).map(|number| format!("{agent}-{number:02}"));
    names.find(|name| !taken.contains(name)).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn timestamp() -> Timestamp {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
