//! The names of events: stable strings, one list.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Visibility;

macro_rules! event_types {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $visibility:ident;)*) => {
        /// What kind of fact an event states. The text form is stable; agents may add their own names.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EventType {
            $($(#[$doc])* $name,)*
            /// A name of the agent's own, such as `invoice.read`.
            Custom(Box<str>),
        }

        impl EventType {
            /// All names that the runtime knows.
            pub const KNOWN: &'static [Self] = &[$(Self::$name),*];

            /// The stable text form.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Custom(name) => name,
                }
            }

            /// Who sees events of this kind unless the emitter says otherwise.
            #[must_use]
            pub fn visibility(&self) -> Visibility {
                match self {
                    $(Self::$name => Visibility::$visibility,)*
                    Self::Custom(_) => Visibility::User,
                }
            }
        }

        impl From<&str> for EventType {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$name,)*
                    other => Self::Custom(other.into()),
                }
            }
        }
    };
}

event_types! {
    /// Submitted. Payload: `agent_key`, `priority`.
    RunQueued = "run.queued", User;
    /// An attempt began. Payload: `agent_key`, `attempt`, `epoch`, `worker`.
    RunStarted = "run.started", User;
    /// A worker is alive and at it. Payload: `timestamp`.
    RunHeartbeat = "run.heartbeat", Internal;
    /// Ended with a result. Payload: `final_output`, `usage`.
    RunSucceeded = "run.succeeded", User;
    /// Ended with a failure. Payload: the error.
    RunFailed = "run.failed", User;
    /// Ended by request. Payload: `reason`.
    RunCancelled = "run.cancelled", User;
    /// Ended because its time was over. Payload: `timeout_seconds`.
    RunTimedOut = "run.timed_out", User;
    /// An attempt failed, another one follows. Payload: `attempt`, `error`, `retry_at`.
    RunRetrying = "run.retrying", User;
    /// Suspended. Payload: what it waits for.
    RunWaiting = "run.waiting", User;
    /// Woken, resumed or redriven. Payload: `reason`.
    RunResumed = "run.resumed", User;
    /// Stopped by an operator.
    RunPaused = "run.paused", User;
    /// Set aside as poison. Payload: `reason`, `deaths`.
    RunParked = "run.parked", User;
    /// Somebody asked to cancel a run that a worker holds. Payload: `reason`.
    RunCancelRequested = "run.cancel_requested", User;
    /// A worker gave the run back unfinished. Payload: `reason`.
    RunReleased = "run.released", Debug;
    /// A worker fell silent for longer than its lease. Payload: `worker`, `epoch`, `deaths`.
    LeaseLost = "lease.lost", Debug;
    /// A signal arrived. Payload: `name`, and of `adjutant.steer` its `payload`.
    SignalReceived = "signal.received", Debug;
    /// A piece of the answer, while it is made. Not durable by itself.
    AssistantDelta = "assistant.delta", User;
    /// A whole message of the agent. Payload: `content`.
    AssistantMessage = "assistant.message", User;
    /// A tool is called. Payload: `name`, `arguments`, `tool_call_id`.
    ToolCall = "tool.call", Debug;
    /// A tool answered. Payload: `name`, `tool_call_id`, `result`.
    ToolResult = "tool.result", Debug;
    /// A tool says how far a call is. Payload: `progress`, `total`, `message`, `tool_call_id`.
    ToolProgress = "tool.progress", User;
    /// A checkpoint was saved. Payload: `seq`, `bytes`.
    StateCheckpoint = "state.checkpoint", Debug;
    /// Something went wrong without ending the run.
    Error = "error", User;
    /// A step began. Payload: `step_name`, `attempt`, `max_attempts`, `description`.
    StepStarted = "step.started", User;
    /// A step ended well and is recorded. Payload: `step_name`, `attempt`, `duration_ms`.
    StepCompleted = "step.completed", User;
    /// A step failed for good. Payload: `step_name`, `attempts`, `error`.
    StepFailed = "step.failed", User;
    /// A step was found done in the journal. Payload: `step_name`, `reason`.
    StepSkipped = "step.skipped", Debug;
    /// A step failed and is tried again. Payload: `step_name`, `attempt`, `error`, `retry_delay`.
    StepRetrying = "step.retrying", User;
    /// How far the run is. Payload: `progress_percent`, `note`.
    ProgressUpdate = "progress.update", User;
    /// A decision is asked of a person. Payload: `key`, `message`, `expires_at`.
    ApprovalRequested = "approval.requested", User;
    /// A person decided. Payload: `key`, `approved`, `by`, `comment`.
    ApprovalDecided = "approval.decided", User;
    /// Nobody decided in time. Payload: `key`.
    ApprovalExpired = "approval.expired", User;
    /// A child run was submitted. Payload: `run_id`, `agent_key`, `step_name`.
    SubAgentStart = "sub_agent.start", User;
    /// A child run ended. Payload: `run_id`, `status`, `step_name`.
    SubAgentEnd = "sub_agent.end", User;
    /// Another agent took over. Payload: `from`, `to`, `reason`.
    AgentFallback = "agent.fallback", User;
    /// A budget is nearly spent.
    BudgetWarning = "budget.warning", User;
    /// A budget is spent.
    BudgetExceeded = "budget.exceeded", User;
    /// A crash left open whether an effect happened.
    EffectIndeterminate = "effect.indeterminate", User;
    /// An agent's process started. Payload: `pid`, `command`.
    ProcessStarted = "process.started", Debug;
    /// An agent's process ended. Payload: `pid`, `reason`.
    ProcessExited = "process.exited", Debug;
    /// An agent's process was ended for want of memory.
    ProcessOom = "process.oom", User;
    /// A line that the agent logged. Payload: `level`, `message`.
    Log = "log", Debug;
}

impl EventType {
    /// Whether no event of the run can follow this one.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::RunSucceeded | Self::RunFailed | Self::RunCancelled | Self::RunTimedOut
        )
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EventType {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(text))
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer).map(|text| Self::from(&*text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_are_distinct() {
        let mut names: Vec<&str> = EventType::KNOWN.iter().map(EventType::as_str).collect();
        for known in EventType::KNOWN {
            assert_eq!(EventType::from(known.as_str()), *known);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), EventType::KNOWN.len());
    }

    #[test]
    fn an_agents_own_name_is_kept() {
        assert_eq!(EventType::from("invoice.read").as_str(), "invoice.read");
    }
}
