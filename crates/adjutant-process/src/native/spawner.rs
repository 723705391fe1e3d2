//! The thread that starts processes.
//!
//! The kernel kills a process at the end of the *thread* that started it, so one thread starts them all and lives as long
//! as any of them.

use std::{io, sync::Arc};

use adjutant_confine::Confinement;
use tokio::{
    net::unix::pipe,
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{Owned, direct, first::First, instance::Instance, warden::Warden};
use crate::{
    error::{Error, Result},
    guardian::{self, Guardian},
    helper::Helper,
    launcher::{Control, Launcher, Order},
    limits::Disk,
    port::ProcessSpec,
    procfs::Stat,
    tree::{Ground, Incarnation, Tree, VARIABLE},
};

/// Starts that may be waiting for the thread at once; more wait in their callers.
const MAX_WAITING_STARTS: usize = 16;

/// The way to the thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Spawner {
    jobs: mpsc::Sender<Job>,
}

pub(super) struct Job {
    pub(super) spec: ProcessSpec,
    pub(super) confinement: Confinement,
    pub(super) runtime: Handle,
    pub(super) reply: oneshot::Sender<Result<Started>>,
}

/// A process that has been started, or a helper's copy that is about to become it.
pub(super) struct Started {
    pub(super) owned: Owned,
    pub(super) stdin: pipe::Sender,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
    pub(super) launch: Option<(Control, Order)>,
}

/// The same before anybody owns it.
pub(super) struct Begun {
    pub(super) first: First,
    pub(super) stdin: pipe::Sender,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
    pub(super) launch: Option<(Control, Order)>,
}

impl Spawner {
    pub(super) fn start(ground: Arc<Ground>, helper: Option<Helper>) -> Result<Self> {
        let failed = |source| Error::Spawner { source };
        let (jobs, mut queue) = mpsc::channel::<Job>(MAX_WAITING_STARTS);
        let mut thread = Thread {
            own: Incarnation::current(),
            ground,
            helper,
            launcher: None,
            guardian: None,
            warden: Warden::start().map_err(failed)?,
        };
        thread.warden.sweep(Arc::clone(&thread.ground));
        let work = move || {
            while let Some(job) = queue.blocking_recv() {
                let _runtime = job.runtime.enter();
                // If nobody waits any more, the refused value is dropped and its tree killed.
                let _ = job.reply.send(thread.start(job.spec, job.confinement));
            }
        };
        std::thread::Builder::new()
            .name("adjutant-spawn".to_owned())
            .spawn(work)
            .map_err(failed)?;
        Ok(Self { jobs })
    }

    pub(super) async fn take(&self, job: Job) -> Result<(), mpsc::error::SendError<Job>> {
        self.jobs.send(job).await
    }
}

struct Thread {
    own: Incarnation,
    ground: Arc<Ground>,
    helper: Option<Helper>,
    launcher: Option<Launcher>,
    guardian: Option<Guardian>,
    warden: Warden,
}

impl Thread {
    fn start(&mut self, mut spec: ProcessSpec, confinement: Confinement) -> Result<Started> {
        self.guard();
        let limits = spec.limits;
        let disk = limits.disk.map(|_| Disk::of(&spec.dir));
        let made = self.ground.tree(&self.own, &limits);
        let (name, tree) = made.map_err(|source| Error::Tree { source })?;
        spec.env.set(VARIABLE, name);
        let begun = match &self.helper {
            Some(_) => self.launch(&*tree, spec, confinement),
            None => direct::start(&*tree, &spec),
        };
        let begun = begun.inspect_err(|_| {
            tree.remove();
        })?;
        let Begun {
            first,
            stdin,
            stdout,
            stderr,
            launch,
        } = begun;
        // It has not been reaped and so is still there.
        if let Some(stat) = Stat::of(first.pid) {
            let keeper = launch.as_ref().is_some_and(|(_, order)| order.keep);
            tree.entered(stat, keeper);
        }
        let owned = Owned {
            instance: Arc::new(Instance::new(tree, first, limits, disk, &self.ground)),
            warden: self.warden.clone(),
            gone: false,
        };
        Ok(Started {
            owned,
            stdin,
            stdout,
            stderr,
            launch,
        })
    }

    fn launch(
        &mut self,
        tree: &dyn Tree,
        spec: ProcessSpec,
        confinement: Confinement,
    ) -> Result<Begun> {
        let ProcessSpec {
            program,
            args,
            dir,
            env,
            limits,
            isolation: _,
        } = spec;
        let order = Order {
            runtime: std::process::id().cast_signed(),
            program,
            args,
            dir,
            env,
            entrances: tree.entrances(),
            limits,
            keep: confinement.has_own_view() || matches!(*self.ground, Ground::Plain),
            confinement,
        };
        let launched = self.launcher().and_then(|launcher| {
            let launching = launcher.launch(&order)?;
            Ok((First::of(launching.pid)?, launching))
        });
        let (first, launching) = launched.map_err(|source| Error::Start {
            program: order.program.clone(),
            source,
        })?;
        Ok(Begun {
            first,
            stdin: launching.stdin,
            stdout: launching.stdout,
            stderr: launching.stderr,
            launch: Some((launching.control, order)),
        })
    }

    /// The launcher, which is started for the first agent, and again if somebody has killed it.
    fn launcher(&mut self) -> io::Result<&Launcher> {
        let helper = self.helper.as_ref().ok_or(io::ErrorKind::NotFound)?;
        drop(self.launcher.take_if(|launcher| !launcher.lives()));
        match &mut self.launcher {
            Some(launcher) => Ok(launcher),
            none => Ok(none.insert(Launcher::start(helper)?)),
        }
    }

    /// Sees to it that there is a guardian. Keepers need none.
    fn guard(&mut self) {
        let Some(helper) = self
            .helper
            .as_ref()
            .filter(|_| *self.ground != Ground::Plain)
        else {
            return;
        };
        if self.guardian.as_mut().is_some_and(Guardian::lives) {
            return;
        }
        match guardian::start(helper, &self.ground, &self.own) {
            Ok(guardian) => self.guardian = Some(guardian),
            Err(error) => tracing::warn!(%error, "nobody will clean up if this program is killed"),
        }
    }
}
