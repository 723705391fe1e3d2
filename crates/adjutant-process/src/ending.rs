//! What a process's end means for its run.

use std::time::Duration;

use adjutant_core::{ErrorInfo, EventType, NewEvent, RunContext};
use serde_json::{Value, json};

use crate::{
    limits::{LimitKind, Limits},
    port::ExitReason,
};

/// How long the pipes of an ended process are read on. They close with its group; what left the group may hold them.
pub(crate) const DRAIN: Duration = Duration::from_secs(1);

/// Status and signal, where there was one.
pub(crate) const fn status(reason: ExitReason) -> (Option<i32>, Option<i32>) {
    match reason {
        ExitReason::Exited(status) => (Some(status), None),
        ExitReason::Signal(signal) => (None, Some(signal)),
        ExitReason::Oom | ExitReason::Limit(_) | ExitReason::Stopped(_) | ExitReason::Unseen => {
            (None, None)
        }
    }
}

/// The failure of a run whose process went over a limit. The same output will be too long again; time and memory may do
/// with another try.
pub(crate) fn over_limit(
    reason: ExitReason,
    limits: &Limits,
    stderr: &[String],
) -> Option<ErrorInfo> {
    let kind = match reason {
        ExitReason::Oom => LimitKind::Memory,
        ExitReason::Limit(kind) => kind,
        _ => return None,
    };
    let limit = limits.shown(kind);
    let what = match kind {
        LimitKind::Memory => "used up the memory it may have",
        LimitKind::Pids => "had more processes than it may have",
        LimitKind::Output => "wrote more than it may",
        LimitKind::FileSize => "wrote a larger file than it may",
        LimitKind::Disk => "let its folder grow more than it may",
        LimitKind::Duration => "took longer than it may",
        LimitKind::Idle => "was idle for longer than it may be",
        _ => "went over its limit",
    };
    let why = format!("the agent's process {what}: `limits.{kind}` is {limit}");
    let code = match kind {
        LimitKind::Memory => "out_of_memory",
        _ => "limit_exceeded",
    };
    let info = match kind {
        LimitKind::Output | LimitKind::FileSize | LimitKind::Disk => {
            ErrorInfo::permanent(code, why)
        }
        _ => ErrorInfo::retriable(code, why),
    };
    Some(info.with_details(json!({
        "reason": reason, "limit": kind, "value": limit, "stderr": stderr,
    })))
}

/// What a failure tells of the end, as far as it is known.
pub(crate) fn details(reason: Option<ExitReason>, stderr: &[String]) -> Value {
    let (exit_code, signal) = reason.map_or((None, None), status);
    json!({ "reason": reason, "exit_code": exit_code, "signal": signal, "stderr": stderr })
}

/// The events that tell of the end.
pub(crate) fn events(pid: u32, reason: ExitReason, limits: &Limits) -> Vec<NewEvent> {
    let mut events = Vec::with_capacity(2);
    if reason == ExitReason::Oom {
        let payload = json!({ "pid": pid, "limit": limits.shown(LimitKind::Memory) });
        events.push(NewEvent::new(EventType::ProcessOom, payload));
    }
    let payload = json!({ "pid": pid, "reason": reason });
    events.push(NewEvent::new(EventType::ProcessExited, payload));
    events
}

/// Writes what is left to tell of a process.
pub(crate) async fn tell(ctx: &RunContext, pid: u32, events: Vec<NewEvent>) {
    for event in events {
        if let Err(error) = ctx.emit(event.event_type, event.payload).await {
            // Only records of the process are lost, and whoever took the run over has its own.
            tracing::debug!(run_id = %ctx.run_id(), pid, %error, "last events were not written");
            return;
        }
    }
}
