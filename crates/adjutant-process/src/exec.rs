//! A run in any command: input on stdin, answer on stdout.

use adjutant_core::{AgentError, ErrorInfo, EventType, NewEvent, RunContext, RunResult};
use adjutant_wire::exec::{ExecInput, read_exit};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

use crate::{
    convert,
    ending::{self, DRAIN},
    limits::Limits,
    logs::Logs,
    manifest::Manifest,
    port::{ExitReason, Process, Spawned, StopCause},
};

/// Log lines that wait to become events.
const MAX_WAITING_EVENTS: usize = 256;

/// Gives the process its input and returns what it makes of it.
pub(crate) async fn run(
    ctx: &RunContext,
    manifest: &Manifest,
    spawned: Spawned,
) -> Result<RunResult, AgentError> {
    let Spawned {
        mut process,
        stdin,
        stdout,
        stderr,
    } = spawned;
    let input = input(ctx)?;
    let started = json!({ "pid": process.id(), "command": manifest.command });
    ctx.emit(EventType::ProcessStarted, started).await?;

    let observer = process.observer();
    let working = observer.working_on(&ctx.run_id());
    let mut logs = Logs::new(stderr).observed(observer);
    let work = converse(
        ctx,
        manifest,
        &mut *process,
        &mut logs,
        (stdin, stdout, input),
    );
    let end = tokio::select! {
        end = work => end,
        () = ctx.cancellation() => Err(AgentError::permanent("cancelled", "the run was cancelled")),
    };
    let (reason, answer) = match end {
        Ok((reason, answer)) => (reason, Ok(answer)),
        Err(error) => {
            let cause = if ctx.cancelled() {
                StopCause::Cancelled
            } else {
                StopCause::Misbehaved
            };
            let stopped = process.stop(cause, manifest.stop_grace).await;
            (stopped.map_err(crate::Error::into_agent_error)?, Err(error))
        }
    };
    let events = ending::events(process.id(), reason, &manifest.limits);
    ending::tell(ctx, process.id(), events).await;
    let result = conclude(reason, &answer?, &manifest.limits, &logs)?;
    working.spent(&result.usage);
    Ok(result)
}

fn input(ctx: &RunContext) -> Result<Vec<u8>, AgentError> {
    let input = ExecInput {
        run_id: ctx.run_id().to_string(),
        attempt: ctx.attempt(),
        input: convert::input(ctx)?,
        params: convert::tree(ctx.params()),
        metadata: convert::tree(ctx.metadata()),
    };
    let mut line = serde_json::to_vec(&input)?;
    line.push(b'\n');
    Ok(line)
}

type Pipes = (
    Box<dyn AsyncWrite + Send + Unpin>,
    Box<dyn AsyncRead + Send + Unpin>,
    Vec<u8>,
);

/// Writes, reads and logs until the process has ended.
async fn converse(
    ctx: &RunContext,
    manifest: &Manifest,
    process: &mut dyn Process,
    logs: &mut Logs,
    (mut stdin, stdout, input): Pipes,
) -> Result<(ExitReason, Vec<u8>), AgentError> {
    let write = async move {
        // A command may well answer without reading its input.
        let _ = stdin.write_all(&input).await;
        drop(stdin);
    };
    let limit = manifest.max_output_bytes.0;
    let mut answer = Vec::new();
    // One byte more than allowed tells too much from just enough.
    let mut stdout = stdout.take(limit as u64 + 1);
    let streams = async {
        // However long an event takes to be written, the process never waits to write its next line.
        let (heard, mut events) = mpsc::channel::<NewEvent>(MAX_WAITING_EVENTS);
        let listen = async {
            while let Some(event) = logs.next(ctx).await {
                if let Some(event) = event {
                    // A log is worth less than the run: when events pile up, lines are not added to the pile.
                    let _ = heard.try_send(event);
                }
            }
            drop(heard);
            Ok::<(), AgentError>(())
        };
        let tell = async {
            while let Some(event) = events.recv().await {
                ctx.emit(event.event_type, event.payload).await?;
            }
            Ok(())
        };
        let read = async {
            stdout.read_to_end(&mut answer).await?;
            if answer.len() > limit {
                let limit = manifest.max_output_bytes;
                let why = format!("stdout is longer than `max_output_bytes`, which is {limit}");
                return Err(AgentError::permanent("output_too_large", why));
            }
            Ok(())
        };
        let write = async {
            write.await;
            Ok(())
        };
        futures::try_join!(write, read, listen, tell)
    };
    let mut streams = Box::pin(streams);
    let reason = tokio::select! {
        done = &mut streams => {
            done?;
            process.wait().await.map_err(crate::Error::into_agent_error)?
        }
        reason = process.wait() => {
            let reason = reason.map_err(crate::Error::into_agent_error)?;
            if let Ok(done) = timeout(DRAIN, &mut streams).await {
                done?;
            }
            reason
        }
    };
    drop(streams);
    Ok((reason, answer))
}

fn conclude(
    reason: ExitReason,
    answer: &[u8],
    limits: &Limits,
    logs: &Logs,
) -> Result<RunResult, AgentError> {
    let tail = logs.tail();
    if let Some(info) = ending::over_limit(reason, limits, &tail) {
        return Err(info.into());
    }
    let (status, _) = ending::status(reason);
    match read_exit(status, answer, tail.last().map_or("", String::as_str)) {
        Ok(output) => convert::result(output, None),
        Err(failure) => {
            let info: ErrorInfo = convert::agent_error(failure).into_info();
            Err(info
                .with_details(ending::details(Some(reason), &tail))
                .into())
        }
    }
}
