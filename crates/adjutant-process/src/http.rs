//! A run in a program that serves HTTP on this machine: `GET /ping` tells that it is up, `POST /invocations` is a run.
//!
//! The program is told its port by the variable `PORT` and listens on the loopback. It gets the run's input as JSON and
//! answers with JSON, with text, or with a stream of server-sent events. A run's process is its own, as with the other
//! protocols, so what it holds is limited and ends with the run.

mod answer;
mod request;
mod server;

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use adjutant_core::{AgentError, EventType, RunContext, RunResult};
use adjutant_logs::Stream;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use self::server::{Health, Server};
use crate::{
    ending::{self, DRAIN},
    logs::Logs,
    manifest::Manifest,
    port::{ExitReason, Spawned, StopCause},
};

/// Pauses between two looks whether the server is up: the first, doubled each time, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Intervals of `heartbeat` without an answer to `/ping` that end a run.
const MISSED: u32 = 3;

/// A port of the loopback that nobody listens on just now.
///
/// # Errors
/// When there is none.
pub(crate) fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Waits for the server on `port`, gives it the run, and returns what it answers.
pub(crate) async fn run(
    ctx: &RunContext,
    manifest: &Manifest,
    spawned: Spawned,
    port: u16,
) -> Result<RunResult, AgentError> {
    let Spawned {
        mut process,
        stdin,
        stdout,
        stderr,
    } = spawned;
    // Nothing comes on it, and a server that reads it is to see that.
    drop(stdin);
    let started = json!({ "pid": process.id(), "command": manifest.command, "port": port });
    ctx.emit(EventType::ProcessStarted, started).await?;

    let observer = process.observer();
    let working = observer.working_on(&ctx.run_id());
    let mut out = Logs::new(stdout).observed_as(Stream::Stdout, observer.clone());
    let mut err = Logs::new(stderr).observed(observer);
    let server = Server::on(port);
    let end = {
        let mut listen = Box::pin(listen(ctx, &mut out, &mut err));
        let end = tokio::select! {
            answer = Box::pin(converse(ctx, manifest, &server)) => End::Answered(answer),
            reason = process.wait() => End::Gone(reason.map_err(crate::Error::into_agent_error)?),
            () = ctx.cancellation() => End::Cancelled,
            error = &mut listen => return Err(error),
        };
        let end = match end {
            End::Gone(reason) => Finished {
                reason,
                answer: None,
            },
            End::Answered(answer) => {
                let cause = answer
                    .as_ref()
                    .map_or_else(cause_of, |_| StopCause::Finished);
                let reason = tokio::select! {
                    reason = process.stop(cause, manifest.stop_grace) => reason,
                    error = &mut listen => return Err(error),
                };
                let reason = reason.map_err(crate::Error::into_agent_error)?;
                Finished {
                    reason,
                    answer: Some(answer),
                }
            }
            End::Cancelled => {
                let stopped = process
                    .stop(StopCause::Cancelled, manifest.stop_grace)
                    .await;
                let reason = stopped.map_err(crate::Error::into_agent_error)?;
                let cancelled = AgentError::permanent("cancelled", "the run was cancelled");
                Finished {
                    reason,
                    answer: Some(Err(cancelled)),
                }
            }
        };
        // Both streams end with the tree; their last lines are still the run's.
        let _ = tokio::time::timeout(DRAIN, listen).await;
        end
    };
    let events = ending::events(process.id(), end.reason, &manifest.limits);
    ending::tell(ctx, process.id(), events).await;
    let result = end.conclude(manifest, &err.tail())?;
    working.spent(&result.usage);
    Ok(result)
}

enum End {
    Answered(Result<RunResult, AgentError>),
    Gone(ExitReason),
    Cancelled,
}

fn cause_of(error: &AgentError) -> StopCause {
    match error.info().kind.as_str() {
        "start_timeout" | "heartbeat_missed" => StopCause::Unresponsive,
        _ => StopCause::Misbehaved,
    }
}

struct Finished {
    reason: ExitReason,
    /// What it answered, if it did before it ended.
    answer: Option<Result<RunResult, AgentError>>,
}

impl Finished {
    fn conclude(self, manifest: &Manifest, stderr: &[String]) -> Result<RunResult, AgentError> {
        if let Some(Ok(result)) = self.answer {
            return Ok(result);
        }
        if let Some(info) = ending::over_limit(self.reason, &manifest.limits, stderr) {
            return Err(info.into());
        }
        if let Some(Err(error)) = self.answer {
            return Err(error);
        }
        let why = format!("the agent's process {} before it answered", self.reason);
        let info = AgentError::retriable("process_exited", why).into_info();
        Err(info
            .with_details(ending::details(Some(self.reason), stderr))
            .into())
    }
}

/// Passes on what the process logs, for as long as it does and longer; returns only when that fails.
async fn listen(ctx: &RunContext, out: &mut Logs, err: &mut Logs) -> AgentError {
    let stdout = async {
        while let Some(line) = out.line().await {
            if let Some(event) = out.event("info", "stdout", &line) {
                ctx.emit(event.event_type, event.payload).await?;
            }
        }
        Ok::<(), adjutant_core::Error>(())
    };
    let stderr = async {
        while let Some(event) = err.next(ctx).await {
            if let Some(event) = event {
                ctx.emit(event.event_type, event.payload).await?;
            }
        }
        Ok(())
    };
    match futures::try_join!(stdout, stderr) {
        Ok(_) => std::future::pending().await,
        Err(error) => error.into(),
    }
}

async fn converse(
    ctx: &RunContext,
    manifest: &Manifest,
    server: &Server,
) -> Result<RunResult, AgentError> {
    wait_until_up(manifest, server).await?;
    let body = request::body(ctx)?;
    let invoke = async {
        let response = server.invoke(&request::headers(ctx), body).await?;
        answer::read(ctx, manifest.max_output_bytes, response).await
    };
    tokio::select! {
        answer = invoke => answer,
        error = watch(manifest, server) => Err(error),
    }
}

async fn wait_until_up(manifest: &Manifest, server: &Server) -> Result<(), AgentError> {
    let deadline = Instant::now() + manifest.start_timeout;
    let mut pause = FIRST_PAUSE;
    loop {
        let health = timeout_at(deadline, server.ping()).await;
        match health.unwrap_or(Health::Silent) {
            Health::Up => return Ok(()),
            Health::Silent | Health::Unwell if Instant::now() >= deadline => {
                let why = format!(
                    "the agent's server did not answer `GET /ping` on {server} with 200 within `start_timeout`, which is {:?}: \
                     it has to listen on the port in the variable PORT",
                    manifest.start_timeout
                );
                return Err(AgentError::retriable("start_timeout", why));
            }
            Health::Silent | Health::Unwell => sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Looks after a server at work; returns when it has been silent for too long.
async fn watch(manifest: &Manifest, server: &Server) -> AgentError {
    let mut missed = 0;
    while missed < MISSED {
        sleep(manifest.heartbeat).await;
        let answer = tokio::time::timeout(manifest.heartbeat, server.ping()).await;
        missed = match answer {
            Ok(Health::Up) => 0,
            Ok(Health::Silent | Health::Unwell) | Err(_) => missed + 1,
        };
    }
    let why = format!(
        "the agent's server left {MISSED} of `GET /ping` on {server} unanswered, asked every {:?}",
        manifest.heartbeat
    );
    AgentError::retriable("heartbeat_missed", why)
}
