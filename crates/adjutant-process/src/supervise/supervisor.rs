//! The shell around the machine: one task that owns it, and one for each process.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    event::{Action, Child, Event, Happened},
    keeper::{self, News, Order},
    machine::Machine,
    policy::{Intensity, Strategy},
    ready::Ready,
    state::State,
};
use crate::{
    error::{Error, Result},
    pool::{Name, Names},
    port::{ExitReason, ProcessManager, ProcessSpec},
};

/// Commands, and news of processes, that may wait for the task.
const MAX_WAITING: usize = 256;

/// Orders that may wait for one process.
const MAX_ORDERS: usize = 16;

/// A process that is kept running.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name, and when it is started and restarted.
    pub child: Child,
    /// What is started.
    pub process: ProcessSpec,
    /// When it is ready.
    pub ready: Ready,
}

/// How processes are supervised together.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SupervisorConfig {
    /// Who goes down with whom.
    pub strategy: Strategy,
    /// When there are too many restarts.
    pub intensity: Intensity,
    /// Where instances get their names from, and how many there may be.
    pub names: Names,
    /// For the jitter of pauses.
    pub seed: u64,
}

impl Default for SupervisorConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            intensity: Intensity::default(),
            names: Names::unlimited(),
            seed: u64::from(std::process::id()),
        }
    }
}

/// One supervised process, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Its name, such as `my-agent-01`.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// The number of its process, if it has one.
    pub pid: Option<u32>,
    /// Restarts in a row.
    pub restarts: u32,
    /// How its last process ended, or why it did not start.
    pub last: Option<Last>,
    /// For whom it waits.
    pub waits_for: Vec<String>,
}

/// The end of an earlier process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Last {
    /// It ended like this.
    Ended(ExitReason),
    /// It was not started, because of this.
    NotStarted(String),
}

/// What has been counted since the start. All of it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// Processes that were started.
    pub spawned: u64,
    /// Processes that live now.
    pub active: u64,
    /// Starts that failed.
    pub not_started: u64,
    /// Processes that ended otherwise than with status 0 or because they were asked to.
    pub failed: u64,
    /// Restarts after a failure or an end.
    pub restarted: u64,
    /// Time since the start, in seconds.
    pub uptime_seconds: u64,
}

/// Keeps processes running. Cheap to clone; when the last clone is dropped, all of them are killed.
#[derive(Debug, Clone)]
pub struct Supervisor {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
    began: Instant,
}

#[derive(Debug, Clone, Default)]
struct View {
    all: BTreeMap<String, Status>,
    counted: Statistics,
}

enum Command {
    Add(Box<Service>, oneshot::Sender<Result<String>>),
    Cleanup(oneshot::Sender<Vec<String>>),
    Kill(String),
    Event(Event),
    Now(String, Happened),
}

impl Supervisor {
    /// Starts supervising, and all services in their order. Must be called within a runtime.
    ///
    /// # Errors
    /// When they cannot be put in order or there may not be as many.
    pub fn start(
        services: Vec<Service>,
        processes: Arc<dyn ProcessManager>,
        config: SupervisorConfig,
    ) -> Result<Self> {
        let children = services.iter().map(|service| service.child.clone());
        let SupervisorConfig {
            strategy,
            intensity,
            names,
            seed,
        } = config;
        let machine = Machine::new(children.collect(), strategy, intensity, seed)?;
        let (commands, inbox) = mpsc::channel(MAX_WAITING);
        let (tell, news) = mpsc::channel(MAX_WAITING);
        let (show, view) = watch::channel(View::default());
        let began = Instant::now();
        let mut shell = Shell {
            machine,
            members: BTreeMap::new(),
            processes,
            names,
            tell,
            show,
            began,
            counted: Statistics::default(),
        };
        for service in services {
            let name = shell.names.take(&service.child.name)?;
            let key = service.child.name.clone();
            shell.members.insert(key, Member::new(service, name));
        }
        shell.apply(Event::StartAll);
        tokio::spawn(shell.run(inbox, news));
        Ok(Self {
            commands,
            view,
            began,
        })
    }

    /// Starts another one, under the next free name that begins with the child's, such as `my-agent-01`, and waits until
    /// it is ready.
    ///
    /// # Errors
    /// [`Error::TooManyInstances`]; when it depends on what is not there; when it does not get ready. Nothing is left of
    /// it then.
    pub async fn spawn(&self, service: Service) -> Result<Status> {
        let (reply, added) = oneshot::channel();
        self.send(Command::Add(Box::new(service), reply)).await?;
        let name = added.await.map_err(|_| Error::SupervisorGone)??;
        let settled = |state: &State| state.serves() || state.is_settled();
        let status = self.wait(&name, settled).await?;
        if status.state.serves() {
            return Ok(status);
        }
        self.cleanup().await?;
        let why = match (&status.state, &status.last) {
            (State::Failed(why), Some(Last::NotStarted(last))) => format!("{why}: {last}"),
            (State::Failed(why), Some(Last::Ended(last))) => format!("{why}: it {last}"),
            (State::Failed(why), None) => why.to_string(),
            _ => "it was stopped".to_owned(),
        };
        Err(Error::NotReady { name, why })
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Status> {
        self.view.borrow().all.get(name).cloned()
    }

    /// All of them by name.
    #[must_use]
    pub fn list(&self) -> Vec<Status> {
        self.view.borrow().all.values().cloned().collect()
    }

    /// What has been counted.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let view = self.view.borrow();
        let live = view.all.values().filter(|status| status.pid.is_some());
        Statistics {
            active: live.count() as u64,
            uptime_seconds: self.began.elapsed().as_secs(),
            ..view.counted
        }
    }

    /// Waits until one is in such a state, and returns it.
    ///
    /// # Errors
    /// When there is none of this name, or no longer.
    pub async fn wait(&self, name: &str, holds: impl Fn(&State) -> bool) -> Result<Status> {
        let mut view = self.view.clone();
        let gone = || Error::NoInstance {
            name: name.to_owned(),
        };
        loop {
            {
                let now = view.borrow_and_update();
                let status = now.all.get(name).ok_or_else(gone)?;
                if holds(&status.state) {
                    return Ok(status.clone());
                }
            }
            view.changed().await.map_err(|_| Error::SupervisorGone)?;
        }
    }

    /// Tells that one was heard of.
    ///
    /// # Errors
    /// When the supervisor has ended; so with all of these.
    pub async fn heartbeat(&self, name: &str) -> Result<()> {
        self.now(name, Happened::Heartbeat).await
    }

    /// Tells that one has taken a run.
    ///
    /// # Errors
    /// As [`Supervisor::heartbeat`].
    pub async fn run_started(&self, name: &str) -> Result<()> {
        self.now(name, Happened::RunStarted).await
    }

    /// Tells that one has finished a run.
    ///
    /// # Errors
    /// As [`Supervisor::heartbeat`].
    pub async fn run_ended(&self, name: &str) -> Result<()> {
        self.now(name, Happened::RunEnded).await
    }

    /// Tells that a health check of one failed; it is restarted.
    ///
    /// # Errors
    /// As [`Supervisor::heartbeat`].
    pub async fn sick(&self, name: &str) -> Result<()> {
        self.now(name, Happened::Sick).await
    }

    /// Lets one stand still: frozen where its tree can be, else by signal.
    ///
    /// # Errors
    /// As [`Supervisor::heartbeat`].
    pub async fn pause(&self, name: &str) -> Result<()> {
        self.event(Event::Pause(name.to_owned())).await
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// As [`Supervisor::heartbeat`].
    pub async fn resume(&self, name: &str) -> Result<()> {
        self.event(Event::Resume(name.to_owned())).await
    }

    /// Starts one that has ended or failed, and forgets its failures.
    ///
    /// # Errors
    /// As [`Supervisor::heartbeat`].
    pub async fn restart(&self, name: &str) -> Result<()> {
        self.event(Event::Restart(name.to_owned())).await
    }

    /// Asks one to end, kills it after its grace, and waits for that.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn terminate(&self, name: &str) -> Result<Status> {
        self.event(Event::Stop(name.to_owned())).await?;
        self.wait(name, State::is_settled).await
    }

    /// Ends one at once, and waits for that.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn kill(&self, name: &str) -> Result<Status> {
        self.event(Event::Stop(name.to_owned())).await?;
        self.send(Command::Kill(name.to_owned())).await?;
        self.wait(name, State::is_settled).await
    }

    /// Forgets those that have ended and on whom nobody depends; returns their names.
    ///
    /// # Errors
    /// As [`Supervisor::heartbeat`].
    pub async fn cleanup(&self) -> Result<Vec<String>> {
        let (reply, cleaned) = oneshot::channel();
        self.send(Command::Cleanup(reply)).await?;
        cleaned.await.map_err(|_| Error::SupervisorGone)
    }

    /// Stops all, those first on whom nobody depends, side by side, and waits until that is done.
    ///
    /// # Errors
    /// As [`Supervisor::heartbeat`].
    pub async fn stop(&self) -> Result<()> {
        self.event(Event::StopAll).await?;
        let names: Vec<String> = self.view.borrow().all.keys().cloned().collect();
        for name in names {
            // One that is not there any more has ended too.
            let _ = self.wait(&name, State::is_settled).await;
        }
        Ok(())
    }

    async fn now(&self, name: &str, happened: Happened) -> Result<()> {
        self.send(Command::Now(name.to_owned(), happened)).await
    }

    async fn event(&self, event: Event) -> Result<()> {
        self.send(Command::Event(event)).await
    }

    async fn send(&self, command: Command) -> Result<()> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| Error::SupervisorGone)
    }
}

/// A service with its process, if it has one.
struct Member {
    service: Arc<Service>,
    name: Arc<Name>,
    generation: u64,
    /// Dropped, they end the process.
    orders: Option<mpsc::Sender<Order>>,
    pid: Option<u32>,
    last: Option<Last>,
}

impl Member {
    fn new(service: Service, name: Name) -> Self {
        Self {
            service: Arc::new(service),
            name: Arc::new(name),
            generation: 0,
            orders: None,
            pid: None,
            last: None,
        }
    }
}

/// News of one process: its name, its generation, and what.
type Letter = (String, u64, News);

struct Shell {
    machine: Machine,
    members: BTreeMap<String, Member>,
    processes: Arc<dyn ProcessManager>,
    names: Names,
    tell: mpsc::Sender<Letter>,
    show: watch::Sender<View>,
    began: Instant,
    counted: Statistics,
}

impl Shell {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, mut news: mpsc::Receiver<Letter>) {
        loop {
            let wake = self.machine.next_wake().map(|at| self.began + at);
            let ring = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.command(command),
                    // Nobody is left who could ask for anything; all processes end with their orders.
                    None => return,
                },
                Some((name, generation, news)) = news.recv() => self.news(name, generation, news),
                () = ring => self.apply(Event::Tick),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Event(event) => self.apply(event),
            Command::Now(name, happened) => {
                if let Some(member) = self.members.get(&name) {
                    let generation = member.generation;
                    self.apply(Event::Process(name, generation, happened));
                }
            }
            Command::Kill(name) => {
                let generation = self.members.get(&name).map(|member| member.generation);
                self.order(&name, generation, Order::Kill);
            }
            Command::Add(service, reply) => {
                let added = self.add(*service);
                // Shown before the answer, so that whoever asks finds it.
                self.publish();
                let _ = reply.send(added);
            }
            Command::Cleanup(reply) => {
                let names: Vec<String> = self.members.keys().cloned().collect();
                let gone = names.into_iter().filter(|name| self.machine.remove(name));
                let gone: Vec<String> = gone.collect();
                self.members.retain(|name, _| !gone.contains(name));
                self.publish();
                let _ = reply.send(gone);
            }
        }
    }

    fn add(&mut self, mut service: Service) -> Result<String> {
        let name = self.names.take(&service.child.name)?;
        let key = name.to_string();
        key.clone_into(&mut service.child.name);
        self.machine.add(service.child.clone())?;
        self.members.insert(key.clone(), Member::new(service, name));
        self.apply(Event::Start(key.clone()));
        Ok(key)
    }

    fn news(&mut self, name: String, generation: u64, news: News) {
        let member = self.members.get_mut(&name);
        let Some(member) = member.filter(|member| member.generation == generation) else {
            return;
        };
        let happened = match news {
            News::Started(pid) => {
                member.pid = Some(pid);
                self.counted.spawned += 1;
                return self.publish();
            }
            News::Ended(reason) => {
                member.last = Some(Last::Ended(reason));
                return;
            }
            News::NotStarted(error) => {
                self.counted.not_started += 1;
                let lasting = !error.retryable();
                member.last = Some(Last::NotStarted(error.told()));
                Happened::NotStarted { lasting }
            }
            News::Happened(happened) => happened,
        };
        if let Happened::Exited { clean } = happened {
            (member.pid, member.orders) = (None, None);
            let asked = matches!(self.machine.state(&name), Some(State::Stopping { .. }));
            self.counted.failed += u64::from(!clean && !asked);
        }
        self.apply(Event::Process(name, generation, happened));
    }

    fn apply(&mut self, event: Event) {
        let now = self.began.elapsed();
        for action in self.machine.apply(event, now) {
            match action {
                Action::Start(name, generation) => self.start(&name, generation),
                Action::Stop(name, generation) => self.order(&name, Some(generation), Order::Stop),
                Action::Kill(name, generation) => self.order(&name, Some(generation), Order::Kill),
                Action::Pause(name, generation) => {
                    self.order(&name, Some(generation), Order::Pause);
                }
                Action::Resume(name, generation) => {
                    self.order(&name, Some(generation), Order::Resume);
                }
                Action::Tell(name, state) => {
                    self.counted.restarted += u64::from(matches!(state, State::BackOff { .. }));
                    tracing::debug!(instance = %name, %state, "a supervised process changed");
                }
            }
        }
        self.publish();
    }

    fn start(&mut self, name: &str, generation: u64) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        let (orders, inbox) = mpsc::channel(MAX_ORDERS);
        member.generation = generation;
        member.orders = Some(orders);
        let (key, tell) = (name.to_owned(), self.tell.clone());
        // A supervisor that is gone needs no news.
        let news = async move |news| drop(tell.send((key.clone(), generation, news)).await);
        tokio::spawn(keeper::keep(
            Arc::clone(&member.service),
            Arc::clone(&member.name),
            Arc::clone(&self.processes),
            inbox,
            news,
        ));
    }

    fn order(&mut self, name: &str, generation: Option<u64>, order: Order) {
        let member = self.members.get_mut(name);
        let Some(member) = member.filter(|member| Some(member.generation) == generation) else {
            return;
        };
        let sent = member.orders.as_ref().map(|orders| orders.try_send(order));
        if let Some(Err(error)) = sent {
            // One that takes no orders is ended by losing them all.
            tracing::debug!(instance = %name, %error, "an order was not taken");
            member.orders = None;
        }
    }

    fn publish(&self) {
        let status = |(name, member): (&String, &Member)| {
            let waits_for = self.machine.waits_for(name);
            let status = Status {
                name: name.clone(),
                state: self.machine.state(name).unwrap_or(State::Stopped),
                pid: member.pid,
                restarts: self.machine.restarts(name).unwrap_or_default(),
                last: member.last.clone(),
                waits_for: waits_for.into_iter().map(str::to_owned).collect(),
            };
            (name.clone(), status)
        };
        let all = self.members.iter().map(status).collect();
        let counted = self.counted;
        self.show.send_replace(View { all, counted });
    }
}
