//! Services of a project: processes that a worker keeps running beside its agents.

use std::{collections::BTreeSet, sync::Arc};

use adjutant::process::{
    Environment, LastingProcesses, NativeOptions, NativeProcesses, ProcessManager, ProcessSpec,
    Secrets, Spawned,
    supervise::{Last, Service, State, Supervisor, SupervisorConfig},
    usage::{About, Instances, Observed},
};

use async_trait::async_trait;

use crate::{
    context::Context,
    failure::{CONFIG_INVALID, Failure, IO, Result},
    project,
};

/// Where notes and output of services are that survive, within the project's own folder.
const SERVICES_DIR: &str = "services";

/// What `agent ps` calls them.
const AGENT: &str = "service";

/// Services that run, until they are stopped.
pub struct Services {
    supervisor: Supervisor,
}

impl Services {
    /// Starts the project's services in their order, and waits until all are ready; nothing where it has none.
    ///
    /// # Errors
    /// When one cannot be started or does not get ready; then none is left.
    pub async fn start(context: &Context, instances: &Instances) -> Result<Option<Self>> {
        let services = declared(context)?;
        if services.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = services.iter().map(|it| it.child.name.clone()).collect();
        let about = About {
            agent: AGENT.to_owned(),
            isolation: String::new(),
        };
        let processes = NativeProcesses::with(NativeOptions::default()).map_err(|error| {
            Failure::failed(IO, "services cannot be started").because(error.to_string())
        })?;
        let processes: Arc<dyn ProcessManager> = Arc::new(Chosen {
            lasting: lasting(context)?,
            native: processes,
        });
        let processes = Arc::new(Observed::new(processes, about, instances.clone()));
        let supervisor = Supervisor::start(services, processes, SupervisorConfig::default())
            .map_err(|error| invalid(&error.to_string()))?;
        let this = Self { supervisor };
        for name in &names {
            if let Err(failure) = this.until_ready(context, name).await {
                this.stop().await;
                return Err(failure);
            }
        }
        Ok(Some(this))
    }

    async fn until_ready(&self, context: &Context, name: &str) -> Result<()> {
        let settled = |state: &State| state.serves() || state.is_settled();
        let status = self.supervisor.wait(name, settled).await;
        let status = status.map_err(|error| Failure::failed(IO, error.to_string()))?;
        if status.state.serves() {
            context.out.note(&format!("service {name} is ready"));
            return Ok(());
        }
        let last = status.last.map(|last| match last {
            Last::Ended(reason) => format!("it {reason}"),
            Last::NotStarted(why) => why,
            _ => "it ended".to_owned(),
        });
        let failure = Failure::failed(IO, format!("the service `{name}` did not get ready"));
        Err(failure
            .because(last.unwrap_or_else(|| format!("{:?}", status.state)))
            .hint(format!("see `agent logs {name}`")))
    }

    /// Ends them, those first on whom nobody depends.
    pub async fn stop(&self) {
        if let Err(error) = self.supervisor.stop().await {
            tracing::warn!(%error, "services did not stop in order");
        }
    }
}

/// Starts each service in its way.
struct Chosen {
    /// Those that survive this program, and who starts them.
    lasting: Option<(BTreeSet<String>, LastingProcesses)>,
    native: NativeProcesses,
}

#[async_trait]
impl ProcessManager for Chosen {
    async fn spawn(&self, spec: ProcessSpec) -> adjutant::process::Result<Spawned> {
        let name = spec.env.get("ADJUTANT_INSTANCE").unwrap_or_default();
        match &self.lasting {
            Some((names, lasting)) if names.contains(name) => lasting.spawn(spec).await,
            _ => self.native.spawn(spec).await,
        }
    }
}

fn lasting(context: &Context) -> Result<Option<(BTreeSet<String>, LastingProcesses)>> {
    let all = context.config.blocks.services.iter();
    let names: BTreeSet<String> = all
        .filter(|(_, service)| service.survives)
        .map(|(name, _)| name.clone())
        .collect();
    if names.is_empty() {
        return Ok(None);
    }
    let dir = context.project.state_dir().join(SERVICES_DIR);
    let lasting = LastingProcesses::new(dir).map_err(|error| {
        Failure::failed(IO, "services cannot be started").because(error.to_string())
    })?;
    Ok(Some((names, lasting)))
}

/// The services as the configuration has them.
fn declared(context: &Context) -> Result<Vec<Service>> {
    let base = Environment::inherited(project::variables());
    let secrets = Secrets::new(project::variables());
    let folder = &context.project.root;
    let services = context.config.blocks.services.iter();
    services
        .map(|(name, declared)| {
            declared
                .service(name, folder, &base, &secrets)
                .map_err(|error| invalid(&format!("services.{name}: {error}")))
        })
        .collect()
}

fn invalid(why: &str) -> Failure {
    Failure::usage(CONFIG_INVALID, "the project's services cannot be started")
        .because(why.to_owned())
        .hint("every key is described in docs/guide/supervision.md")
}
