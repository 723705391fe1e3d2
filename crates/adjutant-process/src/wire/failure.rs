//! What ends an attempt without a result.

use adjutant_core::{AgentError, ErrorInfo};
use adjutant_wire::exec::EXIT_TRY_LATER;
use serde_json::json;

use super::session::MISSED_HEARTBEATS;
use crate::{
    ending,
    logs::Logs,
    manifest::Manifest,
    port::{ExitReason, StopCause},
};

/// What a run fails with when its agent breaks the wire's rules.
const PROTOCOL_ERROR: &str = "protocol_error";

/// Why an attempt ends without a result, and what that means for the process.
pub(super) struct Failure {
    pub(super) error: AgentError,
    pub(super) cause: StopCause,
}

/// What the clock says.
#[derive(Clone, Copy)]
pub(super) enum Alarm {
    /// `initialize` is not answered.
    Start,
    /// The agent has not been heard of.
    Silence,
    /// A cancelled agent has not ended.
    CancelGrace,
    /// An ended process's pipes have not closed.
    Drained,
}

impl Failure {
    fn new(info: ErrorInfo, cause: StopCause, logs: &Logs) -> Self {
        let details = json!({ "stderr": logs.tail() });
        Self {
            error: info.with_details(details).into(),
            cause,
        }
    }

    /// Whether the agent broke the wire's rules.
    pub(super) fn is_breach(&self) -> bool {
        self.cause == StopCause::Misbehaved || self.error.info().kind == PROTOCOL_ERROR
    }

    /// The agent broke the wire's rules.
    pub(super) fn misbehaved(why: String, logs: &Logs) -> Self {
        let info = ErrorInfo::permanent(PROTOCOL_ERROR, why);
        Self::new(info, StopCause::Misbehaved, logs)
    }

    /// The agent did not answer `initialize`.
    pub(super) fn slow_start(manifest: &Manifest, logs: &Logs) -> Self {
        let why = format!(
            "the agent did not answer `initialize` within {:?}; does `command` speak the agent wire?",
            manifest.start_timeout
        );
        let info = ErrorInfo::retriable("start_timeout", why);
        Self::new(info, StopCause::Unresponsive, logs)
    }

    /// The agent gave no sign of life.
    pub(super) fn silence(manifest: &Manifest, logs: &Logs) -> Self {
        let why = format!(
            "the agent was silent for {MISSED_HEARTBEATS} heartbeats of {:?}",
            manifest.heartbeat
        );
        let info = ErrorInfo::retriable("heartbeat_missed", why);
        Self::new(info, StopCause::Unresponsive, logs)
    }

    /// The run was cancelled, and the agent has had its time.
    pub(super) fn cancelled(logs: &Logs) -> Self {
        let info = ErrorInfo::permanent("cancelled", "the run was cancelled");
        Self::new(info, StopCause::Cancelled, logs)
    }

    /// The process has ended, or said its last word, before it answered.
    pub(super) fn process_exited(
        exit: Option<ExitReason>,
        manifest: &Manifest,
        logs: &Logs,
    ) -> Self {
        let tail = logs.tail();
        let cause = StopCause::Misbehaved;
        let over = exit.and_then(|reason| ending::over_limit(reason, &manifest.limits, &tail));
        if let Some(info) = over {
            let error = info.into();
            return Self { error, cause };
        }
        let what = match exit {
            Some(ExitReason::Exited(EXIT_TRY_LATER)) => {
                "asks to try again later (status 75)".to_owned()
            }
            Some(reason) => format!("{reason} before it answered"),
            None => "closed its stdout before it answered".to_owned(),
        };
        let last = tail
            .last()
            .map_or(String::new(), |line| format!(": {line}"));
        let message = format!("the agent's process {what}{last}");
        let info = ErrorInfo::retriable("process_exited", message)
            .with_details(ending::details(exit, &tail));
        let error = info.into();
        Self { error, cause }
    }
}

/// The agent's answer is not what the wire promises.
pub(super) fn protocol_error(why: impl Into<String>) -> AgentError {
    AgentError::permanent(PROTOCOL_ERROR, why)
}

/// A failure of the work or the host; the process is not to blame and may go in peace.
impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        Self {
            error,
            cause: StopCause::Finished,
        }
    }
}
