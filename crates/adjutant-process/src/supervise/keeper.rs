//! One process of the supervisor's: started, asked whether it is well, and reported on until it has ended.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::AsyncWrite,
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{event::Happened, ready::Ready, supervisor::Service};
use crate::{
    ending::DRAIN,
    error::Error,
    logs::Logs,
    manifest::Manifest,
    pool::Name,
    port::{ExitReason, Process, ProcessManager, Spawned},
    wire::Peer,
};

/// As often as this in a heartbeat a process is asked.
const ASKED_PER_HEARTBEAT: u32 = 3;

/// What a supervisor wants of a process. When nobody can want anything any more, the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Stop,
    Kill,
    Pause,
    Resume,
}

/// What a supervisor is told of a process.
#[derive(Debug)]
pub(super) enum News {
    /// It has this number.
    Started(u32),
    /// The machine has to know.
    Happened(Happened),
    /// It ended like this; said before the machine is told.
    Ended(ExitReason),
    /// It could not be started.
    NotStarted(Error),
}

/// The process with its pipes.
enum Body {
    Wire(Peer),
    Plain {
        process: Box<dyn Process>,
        stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
        out: Logs,
        err: Logs,
    },
}

impl Body {
    fn new(ready: &Ready, name: Arc<Name>, spawned: Spawned) -> Self {
        if *ready == Ready::Handshake {
            return Self::Wire(Peer::new(name, spawned));
        }
        let observer = spawned.process.observer();
        let stdout = adjutant_logs::Stream::Stdout;
        Self::Plain {
            out: Logs::new(spawned.stdout).observed_as(stdout, observer.clone()),
            err: Logs::new(spawned.stderr).observed(observer),
            process: spawned.process,
            stdin: Some(spawned.stdin),
        }
    }

    fn process(&mut self) -> &mut dyn Process {
        match self {
            Self::Wire(peer) => &mut *peer.process,
            Self::Plain { process, .. } => &mut **process,
        }
    }

    fn obey(&mut self, order: Option<Order>) {
        if order == Some(Order::Stop) {
            match self {
                Self::Wire(peer) => peer.hang_up(),
                Self::Plain { stdin, .. } => *stdin = None,
            }
        }
        match order {
            Some(Order::Stop) => self.process().terminate(),
            Some(Order::Pause) => self.process().pause(),
            Some(Order::Resume) => self.process().resume(),
            Some(Order::Kill) | None => self.process().kill(),
        }
    }

    /// Waits until the process has ended, and reads what it says meanwhile.
    async fn end(&mut self) -> crate::Result<ExitReason> {
        match self {
            Self::Wire(peer) => peer.end().await,
            Self::Plain {
                process, out, err, ..
            } => {
                let mut noise = std::pin::pin!(async {
                    let out = async { while out.line().await.is_some() {} };
                    let err = async { while err.line().await.is_some() {} };
                    futures::future::join(out, err).await;
                });
                let reason = tokio::select! {
                    reason = process.wait() => reason,
                    _ = &mut noise => return process.wait().await,
                };
                let _ = timeout(DRAIN, noise).await;
                reason
            }
        }
    }

    /// Waits until the process can do its work, or has ended. Dropped halfway, it may not be called again.
    async fn ready(&mut self, service: &Service) -> Result<Happened, crate::Result<ExitReason>> {
        match self {
            Self::Wire(peer) => match peer.warm_up(&manifest(service)).await {
                Ok(()) => Ok(Happened::Ready),
                Err(_) => Ok(Happened::Sick),
            },
            Self::Plain { .. } => tokio::select! {
                reason = self.end() => Err(reason),
                () = service.ready.wait() => Ok(Happened::Ready),
            },
        }
    }

    /// Asks once whether the process is well; `None` when it does not say.
    async fn ask(&mut self, service: &Service, patience: Duration) -> Option<Happened> {
        let well = match self {
            Self::Wire(peer) => peer.examine(patience).await.is_ok(),
            Self::Plain { .. } => service.ready.look().await,
        };
        well.then_some(Happened::Heartbeat)
    }
}

/// What the wire has to know of a service.
fn manifest(service: &Service) -> Manifest {
    let child = &service.child;
    Manifest {
        start_timeout: child.start_timeout,
        heartbeat: child.heartbeat.unwrap_or(Duration::from_secs(30)),
        ..Manifest::new(&child.name, [""])
    }
}

/// Lives as long as the process. Dropped, it ends the process.
pub(super) async fn keep(
    service: Arc<Service>,
    name: Arc<Name>,
    processes: Arc<dyn ProcessManager>,
    mut orders: mpsc::Receiver<Order>,
    news: impl AsyncFn(News),
) {
    let mut spec = service.process.clone();
    spec.env
        .set("ADJUTANT_INSTANCE", service.child.name.as_str());
    let spawned = tokio::select! {
        spawned = processes.spawn(spec) => spawned,
        // Whatever the order is, a process that is not there yet is not needed any more.
        _ = orders.recv() => {
            return news(News::Happened(Happened::Exited { clean: false })).await;
        }
    };
    let mut body = match spawned {
        Ok(spawned) => Body::new(&service.ready, name, spawned),
        Err(error) => return news(News::NotStarted(error)).await,
    };
    news(News::Started(body.process().id())).await;
    let reason = live(&service, &mut body, &mut orders, &news).await;
    let clean = matches!(reason, Ok(ExitReason::Exited(0)));
    match reason {
        Ok(reason) => news(News::Ended(reason)).await,
        Err(error) => {
            tracing::warn!(instance = %service.child.name, %error, "a process's end was not seen");
        }
    }
    // Ends what is left before somebody starts the next one.
    drop(body);
    news(News::Happened(Happened::Exited { clean })).await;
}

async fn live(
    service: &Service,
    body: &mut Body,
    orders: &mut mpsc::Receiver<Order>,
    news: &impl AsyncFn(News),
) -> crate::Result<ExitReason> {
    let first = tokio::select! {
        biased;
        order = orders.recv() => Err(order),
        ready = body.ready(service) => Ok(ready),
    };
    let mut asks = first.is_ok() && service.ready.beats() && service.child.heartbeat.is_some();
    match first {
        Ok(Ok(happened)) => news(News::Happened(happened)).await,
        Ok(Err(reason)) => return reason,
        Err(order) => body.obey(order),
    }
    let heartbeat = service.child.heartbeat.unwrap_or(Duration::MAX);
    loop {
        let turn = tokio::select! {
            biased;
            order = orders.recv() => Err(order),
            reason = body.end() => return reason,
            () = sleep(heartbeat / ASKED_PER_HEARTBEAT), if asks => Ok(()),
        };
        let asked = match turn {
            Err(order) => Err(order),
            Ok(()) => tokio::select! {
                biased;
                order = orders.recv() => Err(order),
                well = body.ask(service, heartbeat) => Ok(well),
            },
        };
        match asked {
            Ok(Some(happened)) => news(News::Happened(happened)).await,
            Ok(None) => {}
            Err(order) => {
                // A paused process is asked nothing, and neither is one that is to end.
                asks = order == Some(Order::Resume) && service.ready.beats();
                body.obey(order);
            }
        }
    }
}
