//! Processes of this machine, each owned with its whole tree.

mod direct;
mod first;
mod instance;
mod lasting;
mod spawner;
mod streams;
mod warden;

use std::{io, os::fd::OwnedFd, sync::Arc, time::Duration};

use adjutant_confine::{Confinement, Isolation, Support};
use async_trait::async_trait;
use rustix::process::Signal;
use tokio::{
    io::unix::AsyncFd,
    runtime::Handle,
    sync::{OnceCell, oneshot},
};

pub use self::lasting::LastingProcesses;
pub(crate) use self::{direct::die_with_this_program, first::abandon};
use self::{
    first::End,
    instance::Instance,
    spawner::{Job, Spawner, Started},
    streams::Watched,
    warden::Warden,
};
use crate::{
    capabilities::{Capabilities, Enforcement, Ownership},
    error::{Error, Result},
    helper::Helper,
    isolation,
    launcher::Control,
    limits::{LimitKind, Limits},
    port::{ExitReason, Probe, Process, ProcessManager, ProcessSpec, Spawned},
    tree::Ground,
};

/// Time between two tries to empty a tree whose first process has ended: from, doubled each time, to.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How often is tried before the tree is left to the background.
const TRIES: u32 = 100;

/// Starts processes of this machine. Cheap to clone.
///
/// - A process tree is owned by a control group where there is one to be had, see [`Capabilities`]. Whatever a process
///   starts belongs to its tree and ends with it, also after double forks and `setsid`.
/// - With a [`Helper`], processes are started through it, and it ends all trees when this program dies, however it dies.
///   Without one the kernel kills the first process of each tree then, and the next start sweeps up the rest.
#[derive(Debug, Clone)]
pub struct NativeProcesses {
    ground: Arc<Ground>,
    helper: Option<Helper>,
    allow_degraded: bool,
    support: Arc<OnceCell<Support>>,
    spawner: Arc<Spawner>,
}

/// How processes are started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NativeOptions {
    /// The helper. Default: [`Helper::this_program`].
    pub helper: Option<Helper>,
    /// How trees are owned. Default: the best that works here.
    pub ownership: Option<Ownership>,
    /// Whether to start processes with less isolation than was asked for where the machine cannot enforce it. Default: no.
    pub allow_degraded: bool,
}

impl Default for NativeOptions {
    fn default() -> Self {
        Self {
            helper: Helper::this_program(),
            ownership: None,
            allow_degraded: false,
        }
    }
}

impl NativeProcesses {
    /// Looks what this machine has to own processes with, and starts the threads that start and watch them.
    ///
    /// # Errors
    /// When the operating system has no thread to give.
    pub fn new() -> Result<Self> {
        Self::with(NativeOptions::default())
    }

    /// The same with other options.
    ///
    /// # Errors
    /// Also when the wanted kind of ownership is not to be had.
    pub fn with(options: NativeOptions) -> Result<Self> {
        let NativeOptions {
            helper,
            ownership,
            allow_degraded,
        } = options;
        let ground = match (Ground::find(ownership), ownership) {
            (Some(ground), _) => Arc::new(ground),
            (None, wanted) => {
                let ownership = wanted.unwrap_or(Ownership::Processes);
                return Err(Error::NoOwnership { ownership });
            }
        };
        Ok(Self {
            helper: helper.clone(),
            allow_degraded,
            support: Arc::default(),
            spawner: Arc::new(Spawner::start(Arc::clone(&ground), helper)?),
            ground,
        })
    }

    /// How processes are owned and limited here.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        Capabilities::of(&self.ground, self.helper.is_some())
    }

    /// The plan for a process. What this machine enforces is found out once.
    async fn confinement(&self, spec: &mut ProcessSpec) -> Result<Confinement> {
        if spec.isolation == Isolation::default() {
            return Ok(Confinement::open());
        }
        let find_out = || async {
            let helper = self.helper.clone();
            let nobody_told = || Support::none("nobody could find out");
            let asked = tokio::task::spawn_blocking(move || isolation::support(helper.as_ref()));
            asked.await.unwrap_or_else(|_| nobody_told())
        };
        let support = self.support.get_or_init(find_out).await;
        isolation::plan(spec, support, self.allow_degraded)
    }

    /// A limit that would not hold is refused rather than forgotten.
    fn check(&self, limits: &Limits) -> Result<()> {
        let held = |kind| self.ground.enforcement(kind) != Enforcement::None;
        let loose = LimitKind::ALL
            .into_iter()
            .find(|kind| limits.has(*kind) && !held(*kind));
        match loose {
            None => Ok(()),
            Some(kind) => Err(Error::NotEnforceable {
                kind,
                limit: limits.shown(kind),
                ownership: self.ground.ownership(),
            }),
        }
    }
}

#[async_trait]
impl ProcessManager for NativeProcesses {
    async fn spawn(&self, mut spec: ProcessSpec) -> Result<Spawned> {
        self.check(&spec.limits)?;
        let confinement = self.confinement(&mut spec).await?;
        let program = spec.program.clone();
        let (reply, started) = oneshot::channel();
        let job = Job {
            spec,
            confinement,
            runtime: Handle::current(),
            reply,
        };
        let gone = || Error::Spawner {
            source: io::ErrorKind::BrokenPipe.into(),
        };
        self.spawner.take(job).await.map_err(|_| gone())?;
        let Started {
            owned,
            stdin,
            stdout,
            stderr,
            launch,
        } = started.await.map_err(|_| gone())??;
        let handle = owned.instance.first().watch();
        let handle = handle.map_err(|source| Error::Start { program, source })?;
        let mut agent = owned.instance.first().pid;
        let mut keeper = None;
        if let Some((mut control, order)) = launch
            && let Some(pid) = control.started(&order).await?
        {
            agent = pid;
            keeper = Some(control);
        }
        let instance = Arc::clone(&owned.instance);
        owned.warden.watch(&instance);
        Ok(Spawned {
            process: Box::new(NativeProcess {
                owned,
                handle,
                agent: agent.cast_unsigned(),
                keeper,
                first_ended: None,
                ended: None,
                _spawner: Arc::clone(&self.spawner),
            }),
            stdin: Box::new(Watched::new(stdin, Arc::clone(&instance))),
            stdout: Box::new(Watched::new(stdout, Arc::clone(&instance))),
            stderr: Box::new(Watched::new(stderr, instance)),
        })
    }
}

/// A tree that is killed and removed when dropped.
struct Owned {
    instance: Arc<Instance>,
    warden: Warden,
    /// Whether nothing is left of it.
    gone: bool,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !self.gone {
            self.instance.tree.kill();
            self.warden.end(Arc::clone(&self.instance));
        }
    }
}

impl Owned {
    /// Ends and removes what is left when the first process has ended.
    async fn sweep(&mut self) {
        let mut pause = FIRST_PAUSE;
        for _ in 0..TRIES {
            if self.instance.tree.remove() {
                self.gone = true;
                return;
            }
            self.instance.tree.kill();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

struct NativeProcess {
    owned: Owned,
    /// Ready when the tree's first process has ended.
    handle: AsyncFd<OwnedFd>,
    /// The number of the agent's own process.
    agent: u32,
    /// The way to the keeper if the first process is one. Its end is the keeper's sign to end the tree.
    keeper: Option<Control>,
    first_ended: Option<End>,
    ended: Option<ExitReason>,
    _spawner: Arc<Spawner>,
}

impl NativeProcess {
    /// Waits for the first process. Dropping the future loses nothing.
    async fn first_end(&self) -> io::Result<End> {
        loop {
            if let Some(end) = self.owned.instance.first().end()? {
                return Ok(end);
            }
            self.handle.readable().await?.clear_ready();
        }
    }

    async fn end(&mut self) -> Result<ExitReason> {
        if self.first_ended.is_none() {
            let pid = self.agent;
            let ended = self.first_end().await;
            self.first_ended = Some(ended.map_err(|source| Error::Wait { pid, source })?);
        }
        let told = match &mut self.keeper {
            Some(keeper) => keeper.ended().await,
            None => None,
        };
        let (code, signal) = told.or(self.first_ended).unwrap_or_default();
        let reason = self.owned.instance.reason(code, signal);
        // A keeper that tells the agent's end has seen to everything else but the control groups.
        self.owned.gone = told.is_some() && self.owned.instance.tree.entrances().is_empty();
        if !self.owned.gone {
            self.owned.sweep().await;
        }
        Ok(reason)
    }
}

#[async_trait]
impl Process for NativeProcess {
    fn id(&self) -> u32 {
        self.agent
    }

    async fn wait(&mut self) -> Result<ExitReason> {
        if let Some(reason) = self.ended {
            return Ok(reason);
        }
        let reason = self.end().await?;
        self.ended = Some(reason);
        Ok(reason)
    }

    fn probe(&self) -> Option<Arc<dyn Probe>> {
        let instance: Arc<dyn Probe> = Arc::clone(&self.owned.instance) as _;
        Some(instance)
    }

    fn terminate(&mut self) {
        // What has been stopped hears nothing until it goes on.
        self.owned
            .instance
            .tree
            .signal(&[Signal::TERM, Signal::CONT]);
    }

    fn pause(&mut self) {
        self.owned.instance.tree.freeze(true);
    }

    fn resume(&mut self) {
        self.owned.instance.tree.freeze(false);
    }

    fn kill(&mut self) {
        self.owned.instance.tree.kill();
    }
}
