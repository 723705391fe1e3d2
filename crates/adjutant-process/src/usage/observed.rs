//! A process manager whose processes are observed.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    instances::{Instance, Instances},
    observer::Observer,
};
use crate::{
    error::Result,
    port::{ExitReason, Probe, Process, ProcessManager, ProcessSpec, Spawned, StopCause},
};

/// The variable that names an instance, if whoever starts it has a name for it.
const NAME: &str = "ADJUTANT_INSTANCE";

/// What is known of all instances of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The agent's key.
    pub agent: String,
    /// The profile that confines its instances.
    pub isolation: String,
}

/// Starts processes of one agent and enters them into [`Instances`].
pub struct Observed {
    processes: Arc<dyn ProcessManager>,
    about: About,
    instances: Instances,
}

impl Observed {
    /// Starts processes through another manager.
    #[must_use]
    pub fn new(processes: Arc<dyn ProcessManager>, about: About, instances: Instances) -> Self {
        Self {
            processes,
            about,
            instances,
        }
    }
}

#[async_trait]
impl ProcessManager for Observed {
    async fn spawn(&self, spec: ProcessSpec) -> Result<Spawned> {
        let name = spec.env.get(NAME).map(str::to_owned);
        let spawned = self.processes.spawn(spec).await?;
        let (pid, probe) = (spawned.process.id(), spawned.process.probe());
        let (key, instance) = self.instances.enter(self.about.clone(), name, pid, probe);
        let process = Box::new(ObservedProcess {
            process: spawned.process,
            entry: Entry {
                key,
                instance,
                instances: self.instances.clone(),
            },
        });
        Ok(Spawned { process, ..spawned })
    }
}

struct ObservedProcess {
    process: Box<dyn Process>,
    entry: Entry,
}

/// A place among the instances, given up with the process.
struct Entry {
    key: u64,
    instance: Arc<Instance>,
    instances: Instances,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.instances.remove(self.key);
    }
}

#[async_trait]
impl Process for ObservedProcess {
    fn id(&self) -> u32 {
        self.process.id()
    }

    async fn wait(&mut self) -> Result<ExitReason> {
        let reason = self.process.wait().await?;
        self.entry.instances.remove(self.entry.key);
        Ok(reason)
    }

    fn terminate(&mut self) {
        self.entry.instance.stopping();
        self.process.terminate();
    }

    fn pause(&mut self) {
        self.process.pause();
    }

    fn resume(&mut self) {
        self.process.resume();
    }

    fn kill(&mut self) {
        self.entry.instance.stopping();
        self.process.kill();
    }

    async fn stop(&mut self, cause: StopCause, grace: Duration) -> Result<ExitReason> {
        self.entry.instance.stopping();
        let reason = self.process.stop(cause, grace).await?;
        self.entry.instances.remove(self.entry.key);
        Ok(reason)
    }

    fn observer(&self) -> Observer {
        Observer::of(Arc::clone(&self.entry.instance))
    }

    fn probe(&self) -> Option<Arc<dyn Probe>> {
        self.process.probe()
    }
}
