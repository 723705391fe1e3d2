//! The thread that starts processes.
//!
//! The kernel kills a process at the end of the *thread* that started it, so one thread starts them all and lives as long
//! as any of them.

use std::{process::Child as Guardian, sync::Arc};

use tokio::{
    process::Child,
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{Owned, direct, instance::Instance, warden::Warden};
use crate::{
    error::{Error, Result},
    guardian,
    helper::Helper,
    launcher::{self, Control, Order},
    port::ProcessSpec,
    procfs::Stat,
    tree::{Ground, Incarnation, VARIABLE},
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
    pub(super) runtime: Handle,
    pub(super) reply: oneshot::Sender<Result<Started>>,
}

/// A process that has been started, or a helper that is about to.
pub(super) struct Started {
    pub(super) owned: Owned,
    pub(super) child: Child,
    pub(super) stdin: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
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
            guardian: None,
            warden: Warden::start().map_err(failed)?,
        };
        let work = move || {
            thread.ground.sweep();
            while let Some(job) = queue.blocking_recv() {
                let _runtime = job.runtime.enter();
                // If nobody waits any more, the refused value is dropped and its tree killed.
                let _ = job.reply.send(thread.start(job.spec));
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
    guardian: Option<Guardian>,
    warden: Warden,
}

impl Thread {
    fn start(&mut self, spec: ProcessSpec) -> Result<Started> {
        self.guard();
        let limits = spec.limits;
        let made = self.ground.tree(&self.own, &limits);
        let (name, tree) = made.map_err(|source| Error::Tree { source })?;
        let owned = Owned {
            instance: Arc::new(Instance::new(tree, limits, &self.ground)),
            warden: self.warden.clone(),
            gone: false,
        };
        let mut spec = spec;
        spec.env.set(VARIABLE, name);
        match &self.helper {
            Some(helper) => self.launch(helper, owned, spec),
            None => direct::start(owned, &spec),
        }
    }

    fn launch(&self, helper: &Helper, owned: Owned, spec: ProcessSpec) -> Result<Started> {
        let ProcessSpec {
            program,
            args,
            dir,
            env,
            limits,
        } = spec;
        let keep = matches!(*self.ground, Ground::Plain);
        let order = Order {
            runtime: std::process::id().cast_signed(),
            program,
            args,
            dir,
            env,
            entrances: owned.instance.tree.entrances(),
            limits,
            keep,
        };
        let launching = launcher::start(helper, &order).map_err(|source| Error::Start {
            program: order.program.clone(),
            source,
        })?;
        enter(&owned, &launching.child, keep);
        Ok(Started {
            owned,
            child: launching.child,
            stdin: Box::new(launching.stdin),
            launch: Some((launching.control, order)),
        })
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
        let lives = |guardian: &mut Guardian| matches!(guardian.try_wait(), Ok(None));
        if self.guardian.as_mut().is_some_and(lives) {
            return;
        }
        match guardian::start(helper, &self.ground, &self.own) {
            Ok(guardian) => self.guardian = Some(guardian),
            Err(error) => tracing::warn!(%error, "nobody will clean up if this program is killed"),
        }
    }
}

/// Tells the tree about its first process, which has not been reaped and so is still there.
pub(super) fn enter(owned: &Owned, child: &Child, keeper: bool) {
    let first = child.id().and_then(|pid| Stat::of(pid.cast_signed()));
    if let Some(first) = first {
        owned.instance.tree.entered(first, keeper);
    }
}
